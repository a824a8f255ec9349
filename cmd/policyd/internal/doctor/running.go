package doctor

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/procfs"
)

// checkRunning examines whether Postfix is running, and whether it has read its configuration since that was changed.
// Postfix reads it when the queue manager starts, and a reload restarts the queue manager.
func (e *exam) checkRunning() {
	pidFile := filepath.Join(e.queue, "pid", "master.pid")
	text, err := os.ReadFile(pidFile)
	if errors.Is(err, fs.ErrPermission) {
		e.found("postfix-state-unknown", "this user may not read "+pidFile, "sudo policyd doctor")
		return
	}
	master, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	running, start := false, "postfix start"
	var manager procfs.ProcStat
	proc, _ := procfs.NewFS(e.Proc)
	processes, _ := proc.AllProcs()
	for _, p := range processes {
		switch stat, _ := p.Stat(); {
		case stat.PID == 1 && stat.Comm == "systemd":
			start = "systemctl start postfix"
		case stat.PID == master && stat.Comm == "master":
			running = true
		case stat.PPID == master && stat.Comm == "qmgr":
			manager = stat
		}
	}
	if !running {
		e.found("postfix-not-running", "no master(8) runs with the process number in "+pidFile, start)
		return
	}
	started, err := manager.StartTime()
	read := time.Unix(int64(started)+2, 0) // at the latest: the start of the machine is known to the second only
	for _, file := range []string{e.mainCF(), e.masterCF()} {
		info, statErr := os.Stat(file)
		if manager.PID != 0 && err == nil && statErr == nil && info.ModTime().After(read) {
			e.found("postfix-not-reloaded", file+" was changed at "+info.ModTime().Format(time.DateTime)+
				", after Postfix last read its configuration", "postfix check && postfix reload")
			return
		}
	}
	e.found("postfix-running", "Postfix is running with the configuration in "+e.directory)
}
