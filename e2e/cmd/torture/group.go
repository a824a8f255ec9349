package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// memoryGroup makes a control group with that memory limit, cgroups(7), and removes it with the trial. If that could not be, the
// next one takes it over.
func (s *scene) memoryGroup(limit int64) (string, error) {
	const first, name = "/sys/fs/cgroup/memory", "policyd-torture"
	group, files := filepath.Join(first, name), map[string]string{"memory.limit_in_bytes": strconv.FormatInt(limit, 10)}
	if _, err := os.Stat(first); err != nil { // version 2
		const all = "/sys/fs/cgroup"
		if err := os.WriteFile(filepath.Join(all, "cgroup.subtree_control"), []byte("+memory"), 0o600); err != nil {
			return "", fmt.Errorf("no control group with a memory limit can be made: %w", err)
		}
		group, files = filepath.Join(all, name), map[string]string{"memory.max": strconv.FormatInt(limit, 10), "memory.swap.max": "0"}
	}
	if err := os.Mkdir(group, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	s.atEnd(func() error { return os.Remove(group) })
	var errs []error
	for file, value := range files {
		errs = append(errs, os.WriteFile(filepath.Join(group, file), []byte(value), 0o600))
	}
	return group, errors.Join(errs...)
}

// oomKills is how many processes of a group the kernel has ended for want of memory.
func oomKills(group string) (int, error) {
	for _, file := range []string{"memory.events", "memory.oom_control"} { // of version 2, of version 1
		text, err := os.ReadFile(filepath.Join(group, file))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if n, ok := strings.CutPrefix(line, "oom_kill "); ok {
				return strconv.Atoi(strings.TrimSpace(n))
			}
		}
	}
	return 0, fmt.Errorf("%s does not say how many processes were ended", group)
}
