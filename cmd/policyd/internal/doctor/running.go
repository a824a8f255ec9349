package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/procfs"
)

// checkUser reports what only root can examine.
func (e *exam) checkUser() {
	if e.User != 0 {
		e.found("not-root", "root would also examine what this user may not read", "sudo policyd doctor")
	}
}

// checkRunning examines whether Postfix is running, and whether it has read its configuration since that was changed.
// It reads that at the start of the queue manager, which a reload starts again.
func (e *exam) checkRunning() {
	pidFile := filepath.Join(e.queue, "pid", "master.pid")
	text, err := os.ReadFile(pidFile)
	master, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	start := "postfix start"
	if _, ok := e.process(func(p procfs.ProcStat) bool { return p.PID == 1 && p.Comm == "systemd" }); ok {
		start = "systemctl start postfix"
	}
	_, running := e.process(func(p procfs.ProcStat) bool { return p.PID == master && p.Comm == "master" })
	switch {
	case errors.Is(err, fs.ErrPermission):
		e.found("postfix-state-unknown", "this user may not read "+pidFile, "sudo policyd doctor")
		return
	case err != nil:
		e.found("postfix-not-running", "there is no "+pidFile, start)
		return
	case !running:
		e.found("postfix-not-running", fmt.Sprintf("process %d of %s does not run", master, pidFile), start)
		return
	}
	manager, known := e.process(func(p procfs.ProcStat) bool {
		return p.PPID == master && slices.Contains([]string{"qmgr", "nqmgr"}, p.Comm)
	})
	started, err := manager.StartTime()
	read := time.Unix(int64(started)+2, 0) // at the latest: the start of the machine is known to the second only
	for _, file := range []string{e.mainCF(), e.masterCF()} {
		info, statErr := os.Stat(file)
		if known && err == nil && statErr == nil && info.ModTime().After(read) {
			e.found("postfix-not-reloaded", file+" was changed at "+info.ModTime().Format(time.DateTime)+
				", after Postfix last read its configuration", "postfix check && postfix reload")
			return
		}
	}
	e.found("postfix-running", "Postfix is running with the configuration in "+e.directory)
}

// process returns a process for which is returns true.
func (e *exam) process(is func(procfs.ProcStat) bool) (procfs.ProcStat, bool) {
	proc, _ := procfs.NewFS(e.Proc)
	processes, _ := proc.AllProcs()
	for _, p := range processes {
		if stat, err := p.Stat(); err == nil && is(stat) {
			return stat, true
		}
	}
	return procfs.ProcStat{}, false
}
