package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// tmpfs mounts a small file system; the mount namespace is this program's own.
func (s *scene) tmpfs(dir, size string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700,size="+size); err != nil {
		return fmt.Errorf("tmpfs: %w", err)
	}
	s.atEnd(func() error { return unix.Unmount(dir, unix.MNT_DETACH) })
	return nil
}

// ask adds questions to the load and waits until they have their best answers.
func (s *scene) ask(ctx context.Context, questions []question) error {
	s.load.change(func(q []question) []question { return append(q, questions...) })
	_, err := s.p.best(ctx, questions)
	return err
}

func diskFull(ctx context.Context, s *scene) (string, error) {
	filler := filepath.Join(filepath.Dir(s.p.state), "filler")
	f, err := os.Create(filler)
	for block := make([]byte, 4096); err == nil; {
		_, err = f.Write(block)
	}
	if !errors.Is(err, unix.ENOSPC) {
		return "", err
	}
	// More than the free pages of the database can take.
	fresh := s.world.enforced(numbered("full", 200)...)
	err = errors.Join(f.Close(), s.ask(ctx, fresh), s.p.awaitLog(ctx, "state database cannot be written", 1))
	asked, held := s.endLoad()
	if err = errors.Join(err, held, os.Remove(filler), s.restart(ctx, s.p.Stop)); err == nil {
		_, err = s.p.best(ctx, fresh)
	}
	return fmt.Sprintf("%s; %d policies enforced after a restart", asked, len(fresh)), err
}

// endLoad ends the load before policyd restarts.
func (s *scene) endLoad() (string, error) {
	l := s.load
	s.load = nil
	return l.end()
}

func diskReadOnly(ctx context.Context, s *scene) (string, error) {
	disk := filepath.Dir(s.p.state)
	old := s.world.enforced("old.example")
	_, err := s.p.best(ctx, old)
	if err = errors.Join(err, s.p.Stop(), unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")); err != nil {
		return "", err
	}
	s.world.policies.Close()
	if err := s.p.again(ctx); err != nil {
		return "", err
	}
	// The policy host is down: what holds is what is on disk.
	if _, err := s.p.best(ctx, old); err != nil {
		return "", err
	}
	fresh := s.world.enforced("new.example")
	err = s.world.policies.Open()
	if err == nil {
		_, err = s.p.best(ctx, fresh)
	}
	if err = errors.Join(err, s.p.awaitLog(ctx, "state database cannot be written", 1),
		unix.Mount("", disk, "", unix.MS_REMOUNT, "")); err != nil {
		return "", err
	}
	begun := time.Now()
	err = s.p.awaitLog(ctx, "state database can be written again", 1)
	took := time.Since(begun)
	if err = errors.Join(err, s.restart(ctx, s.kill)); err == nil {
		_, err = s.p.best(ctx, slices.Concat(fresh, old))
	}
	return fmt.Sprintf("written after %.1f s and enforced after kill -9", took.Seconds()), err
}

func (s *scene) kill() error {
	s.p.Kill()
	return nil
}

func diskVanishes(ctx context.Context, s *scene) (string, error) {
	err := os.RemoveAll(s.p.state)
	fresh := s.world.enforced("afterwards.example")
	err = errors.Join(err, s.ask(ctx, fresh), s.p.awaitLog(ctx, "state database was removed or replaced", 1))
	asked, held := s.endLoad()
	if err = errors.Join(err, held, s.restart(ctx, s.p.Stop)); err == nil {
		_, err = s.p.best(ctx, append(fresh, s.world.enforced("sts.example")...))
	}
	return asked + "; enforced after a restart", err
}

// killed kills the process while it writes, again and again.
func killed(ctx context.Context, s *scene) (string, error) {
	const each = 24
	rounds := s.count(200, 20)
	var answered []question
	early := 0
	for round := range rounds {
		got := s.askUntilKilled(ctx, sure(s.world.enforced(numbered(fmt.Sprintf("r%d-", round), each)...)),
			1+rand.IntN(each-1))
		if len(got) < each {
			early++
		}
		answered = append(answered, got...)
		if err := s.p.again(ctx); err != nil {
			return "", err
		}
		if log := s.p.Log.String(); strings.Contains(log, "corrupt") || strings.Contains(log, "set aside") {
			return "", fmt.Errorf("a database was damaged; the log ends:\n%s", tail(log))
		}
	}
	if len(answered) < rounds || early < rounds/2 {
		return "", fmt.Errorf("%d policies in %d rounds, of which %d were cut short: too few to show anything",
			len(answered), rounds, early)
	}
	s.world.policies.Close()
	// A policy that was lost would have to be fetched, which fails: NOTFOUND.
	_, err := s.p.best(ctx, answered)
	return fmt.Sprintf("%d kills, %d during lookups; all of %d policies are enforced", rounds, early,
		len(answered)), err
}

// askUntilKilled asks concurrently, kills the process after so many answers, and returns the questions that had their
// best answer before.
func (s *scene) askUntilKilled(ctx context.Context, questions []question, enough int) (answered []question) {
	var mu sync.Mutex
	var all sync.WaitGroup
	full := make(chan struct{})
	for _, q := range questions {
		all.Go(func() {
			r, err := s.p.Ask(ctx, q.request)
			if err != nil || r.String() != q.best {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if answered = append(answered, q); len(answered) == enough {
				close(full)
			}
		})
	}
	ended := make(chan struct{})
	go func() { all.Wait(); close(ended) }()
	select {
	case <-full:
	case <-ended:
	}
	s.p.Kill()
	<-ended
	return answered
}

// memoryGroup makes a control group with a memory limit, cgroups(7), and removes it at the end.
func (s *scene) memoryGroup(limit int64) (string, error) {
	const all, name = "/sys/fs/cgroup", "policyd-torture"
	group, files := filepath.Join(all, "memory",
		name), map[string]string{"memory.limit_in_bytes": strconv.FormatInt(limit, 10)}
	if _, err := os.Stat(filepath.Join(all, "memory")); err != nil { // version 2
		if err := os.WriteFile(filepath.Join(all, "cgroup.subtree_control"), []byte("+memory"), 0o600); err != nil {
			return "", fmt.Errorf("no control group with a memory limit: %w", err)
		}
		group, files = filepath.Join(all, name), map[string]string{"memory.max": strconv.FormatInt(limit, 10),
			"memory.swap.max": "0"}
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
