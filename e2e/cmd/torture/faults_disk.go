package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/policyd/policyd/socketmap"
)

func diskFaults() []trial {
	return []trial{
		{fault: "disk: state directory full", root: true, play: diskFull, holds: "policies hold from memory; what could not be written is written when there is room, and is there after a restart"},
		{fault: "disk: state directory read-only", root: true, play: diskReadOnly, holds: "policies that are on it hold, new ones hold from memory, and are written within seconds when it can be written"},
		{fault: "disk: state directory missing", play: diskMissing, holds: "policyd starts and answers all the same; one that vanishes is made again, and no policy is lost"},
		{fault: "disk: torn by kill -9 in mid-write", root: true, busy: true, play: torn, holds: "every policy that was ever answered with is enforced after it, with the policy host down"},
	}
}

// tmpfs mounts a small file system; the mount namespace is this program's own.
func (s *scene) tmpfs(size string) (string, error) {
	dir, err := s.subdir()
	if err != nil {
		return "", err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700,size="+size); err != nil {
		return "", fmt.Errorf("tmpfs: %w", err)
	}
	s.atEnd(func() error { return unix.Unmount(dir, unix.MNT_DETACH) })
	return dir, nil
}

// sts publishes domains with MTA-STS and returns the questions about them, which allow no TEMP if sure is set.
func (w *world) sts(sure bool, domains ...string) (questions []question) {
	for _, d := range domains {
		w.publishSTS(d, "1")
		questions = append(questions, question{request: socketmap.Request{Map: "tls-policy", Key: d}, best: secure("mx." + d), temp: !sure})
	}
	return questions
}

func diskFull(ctx context.Context, s *scene) (string, error) {
	w, err := s.world(shortTTL)
	if err != nil {
		return "", err
	}
	disk, err := s.tmpfs("512k")
	if err != nil {
		return "", err
	}
	p, err := s.start(ctx, w, setup{state: filepath.Join(disk, "state")})
	if err != nil {
		return "", err
	}
	if err := p.warm(ctx, w); err != nil {
		return "", err
	}
	filler := filepath.Join(disk, "filler")
	if err := fill(filler); err != nil {
		return "", err
	}
	// More than the pages of the database that are free already can take.
	var domains []string
	for i := range 200 {
		domains = append(domains, fmt.Sprintf("full%d.example", i))
	}
	fresh := w.sts(false, domains...)
	l := p.load(ctx, loading{connections: 4, pause: 10 * time.Millisecond, questions: append(fresh, w.all...)})
	_, err = p.best(ctx, fresh)
	if err == nil {
		err = p.awaitLog(ctx, "state database cannot be written")
	}
	asked, held := l.end()
	if err := errors.Join(err, held, os.Remove(filler)); err != nil {
		return "", err
	}
	line, unnamed := p.logged("state database cannot be written")
	// There is room again. At the latest the end of the process writes it all.
	if err := errors.Join(unnamed, p.Stop(), w.hosts.close(), p.again(ctx)); err != nil {
		return "", err
	}
	_, err = p.best(ctx, fresh)
	return fmt.Sprintf("%s; %d policies enforced after a restart with the policy host down; %s", asked, len(fresh), line), err
}

// fill fills a file system.
func fill(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	for block := make([]byte, 4096); ; {
		if _, err := f.Write(block); errors.Is(err, unix.ENOSPC) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func diskReadOnly(ctx context.Context, s *scene) (string, error) {
	w, err := s.world(shortTTL)
	if err != nil {
		return "", err
	}
	disk, err := s.tmpfs("4m")
	if err != nil {
		return "", err
	}
	p, err := s.start(ctx, w, setup{state: disk})
	if err != nil {
		return "", err
	}
	old := w.sts(false, "old.example")
	if _, err := p.best(ctx, append(old, w.all...)); err != nil {
		return "", err
	}
	if err := errors.Join(p.Stop(), unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""), w.hosts.close(), p.again(ctx)); err != nil {
		return "", err
	}
	// The policy host is down: what holds is what is on the disk.
	if _, err := p.best(ctx, append(old, w.all...)); err != nil {
		return "", err
	}
	if err := w.hosts.open(); err != nil {
		return "", err
	}
	fresh := w.sts(false, "new.example")
	l := p.load(ctx, loading{connections: 4, pause: 10 * time.Millisecond, questions: slices.Concat(fresh, old, w.all)})
	_, err = p.best(ctx, fresh)
	err = errors.Join(err, wait(ctx, time.Second))
	asked, held := l.end()
	line, unnamed := p.logged("state database cannot be written")
	if err := errors.Join(err, held, unnamed, unix.Mount("", disk, "", unix.MS_REMOUNT, "")); err != nil {
		return "", err
	}
	began := time.Now()
	if err := p.awaitLog(ctx, "state database can be written again"); err != nil {
		return "", err
	}
	took := time.Since(began)
	// As after kill -9: nothing is written at the end.
	_ = p.Kill()
	if err := errors.Join(w.hosts.close(), p.again(ctx)); err != nil {
		return "", err
	}
	_, err = p.best(ctx, slices.Concat(fresh, old))
	return fmt.Sprintf("%s; written after %.1f s and enforced after a restart with the policy host down; %s", asked, took.Seconds(), line), err
}

func diskMissing(ctx context.Context, s *scene) (string, error) {
	w, err := s.world(shortTTL)
	if err != nil {
		return "", err
	}
	// Nothing can be made below a file, by nobody.
	file := filepath.Join(s.dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return "", err
	}
	without, err := s.start(ctx, w, setup{state: filepath.Join(file, "state")})
	if err != nil {
		return "", err
	}
	vanishes, err := s.start(ctx, w, setup{})
	if err != nil {
		return "", err
	}
	if err := errors.Join(without.warm(ctx, w), vanishes.warm(ctx, w), os.RemoveAll(vanishes.state)); err != nil {
		return "", err
	}
	line, unnamed := without.logged("state database cannot be written")
	l := vanishes.load(ctx, loading{connections: 4, pause: 10 * time.Millisecond, questions: w.all})
	var fresh []question
	if w.hosts != nil {
		fresh = w.sts(false, "afterwards.example")
		_, err = vanishes.best(ctx, fresh)
	}
	err = errors.Join(err, wait(ctx, 2*time.Second))
	asked, held := l.end()
	if err := errors.Join(unnamed, held, err); err != nil || w.hosts == nil {
		return asked + "; " + line, err
	}
	// The policy host is down: what holds is what was written again.
	if err := errors.Join(vanishes.Stop(), w.hosts.close(), vanishes.again(ctx)); err != nil {
		return "", err
	}
	_, err = vanishes.best(ctx, append(fresh, w.all...))
	again, unnamed := vanishes.logged("state database was removed or replaced")
	return asked + "; enforced after a restart with the policy host down; " + line + "; " + again, errors.Join(err, unnamed)
}

// torn kills the process while it writes, again and again.
func torn(ctx context.Context, s *scene) (string, error) {
	const each = 24
	rounds := s.count(200, 20)
	w, err := s.world(300)
	if err != nil {
		return "", err
	}
	p, err := s.start(ctx, w, setup{})
	if err != nil {
		return "", err
	}
	var answered []question
	killedEarly := 0
	for round := range rounds {
		var domains []string
		for i := range each {
			domains = append(domains, fmt.Sprintf("r%d-%d.example", round, i))
		}
		got := p.askUntilKilled(ctx, w.sts(true, domains...), 1+rand.IntN(each-1))
		if len(got) < each {
			killedEarly++
		}
		answered = append(answered, got...)
		if err := p.again(ctx); err != nil {
			return "", err
		}
		if log := p.Log(); strings.Contains(log, "corrupt") || strings.Contains(log, "are not used") {
			return "", fmt.Errorf("a file was torn; the log says:\n%s", tail(log))
		}
	}
	if len(answered) < rounds || killedEarly < rounds/2 {
		return "", fmt.Errorf("%d policies in %d rounds, of which %d were cut short: too few to say anything", len(answered), rounds, killedEarly)
	}
	if err := w.hosts.close(); err != nil {
		return "", err
	}
	// A policy that is not there would have to be fetched, which now fails: NOTFOUND.
	_, err = p.best(ctx, answered)
	return fmt.Sprintf("%d kills, %d of them with lookups under way; all of %d policies that were answered with are enforced", rounds, killedEarly, len(answered)), err
}

// askUntilKilled asks side by side, kills the process after so many answers, and returns the questions that had their best
// answer before.
func (p *policyd) askUntilKilled(ctx context.Context, questions []question, enough int) (answered []question) {
	var mu sync.Mutex
	var all sync.WaitGroup
	full := make(chan struct{})
	for _, q := range questions {
		all.Go(func() {
			r, err := p.ask(ctx, q.request)
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
	_ = p.Kill()
	<-ended
	return answered
}
