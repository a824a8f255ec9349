package daemon

import (
	"fmt"
	"syscall"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/cmd/policyd/internal/settings"
)

// fewFiles warns where the process may not have as many files open as the settings allow connections. The Go runtime
// has raised the soft limit to the hard one.
func fewFiles(l *settings.Loaded) []string {
	const others = 256 // DNS queries, probes, the database
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return nil
	}
	need := l.Server.MaxConnections + others
	if l.HTTP.Listen != "" {
		need += admin.MaxQuestions
	}
	return fewFilesOf(need, uint64(limit.Cur))
}

func fewFilesOf(need int, limit uint64) []string {
	if uint64(need) <= limit {
		return nil
	}
	return []string{fmt.Sprintf(
		"max_connections needs %d open files and the limit is %d: raise LimitNOFILE= in policyd.service", need, limit)}
}
