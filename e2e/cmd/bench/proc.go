package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// memory reads a line of proc_pid_status(5), in bytes.
func (s *server) memory(field string) (float64, error) {
	return kibibytes(fmt.Sprintf("/proc/%d/status", s.pid), field)
}

// kibibytes reads a line of a file in which sizes are in kibibytes, and returns it in bytes.
func kibibytes(path, field string) (float64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), field+":"); ok {
			kib, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(text, "kB")), 64)
			return kib * 1024, err
		}
	}
	return 0, fmt.Errorf("no %s in %s", field, path)
}

// cpu is the processor time that the process has used, proc_pid_stat(5).
func (s *server) cpu() (time.Duration, error) {
	const tick = 10 * time.Millisecond // 1/USER_HZ, the same on all Linux
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.pid))
	if err != nil {
		return 0, err
	}
	// Behind the name, which is in parentheses: state is field 3, utime 14, stime 15.
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	const user, system = 14 - 3, 15 - 3
	if len(fields) <= system {
		return 0, fmt.Errorf("the status of process %d is not as expected", s.pid)
	}
	var all time.Duration
	for _, i := range []int{user, system} {
		ticks, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, err
		}
		all += time.Duration(ticks) * tick
	}
	return all, nil
}
