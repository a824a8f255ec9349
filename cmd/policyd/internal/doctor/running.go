package doctor

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// checkUser reports what only root can examine.
func (e *exam) checkUser() {
	if e.User != 0 {
		e.found("not-root", "this user is not root: root would also examine whether Postfix is running, its tables "+
			"and sockets that are closed to others, "+
			"and what the user of Postfix can reach", "sudo policyd doctor")
	}
}

// checkRunning examines whether Postfix is running, and whether it has read its configuration since that was changed.
func (e *exam) checkRunning() {
	pidFile := filepath.Join(e.queue, "pid", "master.pid")
	text, err := os.ReadFile(pidFile)
	switch {
	case errors.Is(err, fs.ErrPermission):
		e.found("postfix-state-unknown", "this user may not read "+pidFile, "sudo policyd doctor")
		return
	case err != nil:
		e.found("postfix-not-running", "there is no "+pidFile, e.start())
		return
	}
	master, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	if name, _, _ := e.process(master); name != "master" {
		e.found("postfix-not-running", "process "+strings.TrimSpace(string(text))+" of "+pidFile+" does not run",
			e.start())
		return
	}
	read := e.lastRead(master)
	for _, file := range []string{e.mainCF(), e.masterCF()} {
		if info, err := os.Stat(file); err == nil && !read.IsZero() && info.ModTime().After(read.Add(time.Second)) {
			e.found("postfix-not-reloaded", file+" was changed at "+info.ModTime().Format(time.DateTime)+
				", after Postfix last read its configuration", "postfix check && postfix reload")
			return
		}
	}
	e.found("postfix-running", "Postfix is running with the configuration in "+e.directory)
}

// start returns the command that starts Postfix, which systemd has to know of where it runs.
func (e *exam) start() string {
	if name, _, _ := e.process(1); name == "systemd" {
		return "systemctl start postfix"
	}
	return "postfix start"
}

// lastRead returns when Postfix last read its configuration: at the start of its queue manager, which a reload starts
// again. It is zero if that is unknown.
func (e *exam) lastRead(master int) time.Time {
	entries, _ := os.ReadDir(e.Proc)
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if name, parent, started := e.process(pid); parent == master && (name == "qmgr" || name == "nqmgr") {
			return started
		}
	}
	return time.Time{}
}

// process returns the name, the parent and the start of a process (proc(5)).
func (e *exam) process(pid int) (name string, parent int, started time.Time) {
	text, err := os.ReadFile(filepath.Join(e.Proc, strconv.Itoa(pid), "stat"))
	if err != nil {
		return "", 0, time.Time{}
	}
	head, rest, _ := strings.Cut(string(text), "(")
	end := strings.LastIndexByte(rest, ')')
	const state, startTime, perSecond = 1, 19, 100 // fields after the name; ticks (sysconf(3), always 100 on Linux)
	if head == "" || end < 0 {
		return "", 0, time.Time{}
	}
	fields := strings.Fields(rest[end+1:])
	if len(fields) <= startTime {
		return "", 0, time.Time{}
	}
	parent, _ = strconv.Atoi(fields[state])
	ticks, _ := strconv.ParseInt(fields[startTime], 10, 64)
	if boot := e.boot(); !boot.IsZero() {
		started = boot.Add(time.Duration(ticks) * time.Second / perSecond)
	}
	return rest[:end], parent, started
}

// boot returns when the machine was started.
func (e *exam) boot() time.Time {
	text, _ := os.ReadFile(filepath.Join(e.Proc, "stat"))
	for line := range strings.Lines(string(text)) {
		if seconds, ok := strings.CutPrefix(line, "btime "); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(seconds), 10, 64)
			return time.Unix(n, 0)
		}
	}
	return time.Time{}
}
