package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/policyd/policyd/e2e/must"
)

// tmpfs mounts a small file system; the mount namespace belongs to this program.
func (s *scene) tmpfs(dir, size string) {
	must.Do(os.Mkdir(dir, 0o700))
	must.Do(unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700,size="+size))
	s.atEnd(func() { must.Do(unix.Unmount(dir, unix.MNT_DETACH)) })
}

// disk is the mount point of the file system of the state directory.
func (s *scene) disk() string { return filepath.Dir(s.p.state) }

// remount makes the file system of the state directory read-only, or writable again.
func (s *scene) remount(flags uintptr) {
	must.Do(unix.Mount("", s.disk(), "", unix.MS_REMOUNT|flags, ""))
}

// fill fills the file system of the state directory, or makes room again.
func fill(full bool) step {
	return do(func(s *scene) {
		filler := filepath.Join(s.disk(), "filler")
		if !full {
			must.Do(os.Remove(filler))
			return
		}
		err := os.WriteFile(filler, make([]byte, 1<<20), 0o600)
		must.Be(errors.Is(err, unix.ENOSPC), "the file system is not full: %w", err)
	})
}

// learn publishes domains with an MTA-STS policy, adds them to the load, and waits until their policies are enforced.
func learn(label string, n int) step {
	return func(ctx context.Context, s *scene) string {
		questions := s.env.enforced(numbered(label, n)...)
		s.learned = append(s.learned, questions...)
		if s.load != nil {
			s.load.change(func(q []question) []question { return append(q, questions...) })
		}
		s.p.best(ctx, questions)
		return ""
	}
}

// enforced checks that every learned policy is still enforced. With the policy host closed, a policy that was lost
// would have to be fetched, which fails: NOTFOUND.
func enforced(ctx context.Context, s *scene) string {
	s.p.best(ctx, s.learned)
	return fmt.Sprintf("%d policies enforced", len(s.learned))
}

// killed kills the process while it writes, again and again.
func killed(ctx context.Context, s *scene) string {
	const each = 24
	rounds, early, round := s.count(200, 20), 0, 0
	for ; round < rounds || early < rounds/2; round++ { // a kill after the last answer is not the test
		label := fmt.Sprintf("r%d-", round)
		got := s.askUntilKilled(ctx, sure(s.env.enforced(numbered(label, each)...)), 1+rand.IntN(each/2))
		if len(got) < each {
			early++
		}
		s.learned = append(s.learned, got...)
		s.p.again(ctx)
		damage := s.p.Log.Tail(20, "corrupt", "set aside")
		must.Be(damage == "", "a database was damaged:\n%s", damage)
	}
	must.Be(len(s.learned) >= round, "%d policies in %d rounds: not enough for a test", len(s.learned), round)
	return fmt.Sprintf("%d kills, %d during lookups", round, early)
}

// askUntilKilled asks concurrently until it kills the process, and returns the questions that got the best answer.
func (s *scene) askUntilKilled(ctx context.Context, questions []question, enough int) (answered []question) {
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, q := range questions {
		all.Go(func() {
			r, err := s.p.Ask(ctx, q.request)
			if err != nil || r.String() != q.best {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if answered = append(answered, q); len(answered) == enough {
				s.p.Kill()
			}
		})
	}
	all.Wait()
	s.p.Kill()
	return answered
}

// memoryGroup makes a control group of this run with a memory limit, cgroups(7), and removes it at the end.
func (s *scene) memoryGroup(limit int64) string {
	const all = "/sys/fs/cgroup"
	name, bytes := filepath.Base(filepath.Dir(s.dir)), strconv.FormatInt(limit, 10)
	group, files := filepath.Join(all, "memory", name), map[string]string{"memory.limit_in_bytes": bytes}
	if _, err := os.Stat(filepath.Join(all, "memory")); err != nil { // version 2
		must.Do(os.WriteFile(filepath.Join(all, "cgroup.subtree_control"), []byte("+memory"), 0o600))
		group, files = filepath.Join(all, name), map[string]string{"memory.max": bytes, "memory.swap.max": "0"}
	}
	must.Do(os.MkdirAll(group, 0o755))
	s.atEnd(func() { must.Do(os.Remove(group)) })
	for file, value := range files {
		must.Do(os.WriteFile(filepath.Join(group, file), []byte(value), 0o600))
	}
	return group
}

// noneKilled checks that the kernel ended no process of a group for lack of memory.
func noneKilled(group string) {
	text, err := os.ReadFile(filepath.Join(group, "memory.events")) // of version 2
	if err != nil {
		text = must.Get(os.ReadFile(filepath.Join(group, "memory.oom_control"))) // of version 1
	}
	for line := range strings.Lines(string(text)) {
		n, found := strings.CutPrefix(line, "oom_kill ")
		must.Be(!found || strings.TrimSpace(n) == "0", "the kernel ended processes: %s", line)
	}
}
