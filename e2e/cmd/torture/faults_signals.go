package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/policyd/policyd/e2e/daemon"
)

func signalFaults() []trial {
	return []trial{
		{fault: "signals: SIGHUP storm under load", busy: true, play: hangups, holds: "every lookup is answered with its best answer; signals that come during a reload are one"},
		{fault: "signals: SIGTERM storm under load", busy: true, play: terminations, holds: "what has begun is answered, and the exit status is 0"},
		{fault: "signals: upgrade by socket hand-over under load", busy: true, play: handover, holds: "no lookup fails: what comes while no policyd runs is answered by the next one"},
	}
}

// passed makes a listener as a policyd.socket would, at an address of its own.
func (s *scene) passed() (listener *os.File, address string, err error) {
	dir, err := s.subdir()
	if err != nil {
		return nil, "", err
	}
	path := dir + "/passed"
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, "", err
	}
	l.SetUnlinkOnClose(false)
	listener, err = l.File()
	if err := errors.Join(err, l.Close()); err != nil {
		return nil, "", err
	}
	s.atEnd(listener.Close)
	return listener, "unix:" + path, nil
}

// stagePassed is stage with a passed listener.
func (s *scene) stagePassed(ctx context.Context) (*world, *policyd, error) {
	listener, address, err := s.passed()
	if err != nil {
		return nil, nil, err
	}
	w, err := s.world(3600)
	if err != nil {
		return nil, nil, err
	}
	p, err := s.startAt(ctx, w, address, setup{Environment: daemon.Environment{Listeners: []*os.File{listener}}})
	if err != nil {
		return nil, nil, err
	}
	return w, p, p.warm(ctx, w)
}

func hangups(ctx context.Context, s *scene) (string, error) {
	w, p, err := s.stage(ctx, setup{})
	if err != nil {
		return "", err
	}
	l := p.load(ctx, loading{connections: 8, pause: 2 * time.Millisecond, questions: sure(w.all)})
	storm := s.count(3000, 500)
	for range storm {
		if err := errors.Join(p.Signal(syscall.SIGHUP), wait(ctx, 2*time.Millisecond)); err != nil {
			return "", err
		}
	}
	asked, held := l.end()
	reloads := strings.Count(p.Log(), "msg=reloaded")
	if reloads == 0 || reloads > storm {
		held = errors.Join(held, fmt.Errorf("%d signals were %d reloads", storm, reloads))
	}
	return fmt.Sprintf("%d signals were %d reloads; %s", storm, reloads, asked), held
}

func terminations(ctx context.Context, s *scene) (string, error) {
	w, p, err := s.stagePassed(ctx)
	if err != nil {
		return "", err
	}
	const storm = 50
	times := s.count(20, 5)
	// Lookups that take a while are under way at the end: their resolver is slow.
	l := p.load(ctx, loading{connections: 8, pause: 2 * time.Millisecond, questions: w.all, gaps: true})
	for range times {
		w.dns.SetDelay(200 * time.Millisecond)
		l.add(w.unknown(20))
		if err := wait(ctx, 300*time.Millisecond); err != nil {
			return "", err
		}
		for range storm {
			_ = p.Signal(syscall.SIGTERM) // it may be gone
		}
		if err := p.Stop(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return "", fmt.Errorf("after the storm: %w; it said:\n%s", err, tail(p.Log()))
		}
		w.dns.SetDelay(0)
		if err := p.again(ctx); err != nil {
			return "", err
		}
	}
	asked, held := l.end()
	if strings.Contains(p.Log(), "some lookups took longer than drain_timeout") {
		held = errors.Join(held, errors.New("lookups were cut off"))
	}
	return fmt.Sprintf("%d storms of %d signals, exit status 0; %s", times, storm, asked), held
}

func handover(ctx context.Context, s *scene) (string, error) {
	w, p, err := s.stagePassed(ctx)
	if err != nil {
		return "", err
	}
	times := s.count(50, 8)
	// A policyd that has just been started knows its answers only when it has asked: none of them may be TEMP.
	l := p.load(ctx, loading{connections: 16, pause: time.Millisecond, questions: sure(w.all), gaps: true})
	longest := time.Duration(0)
	for range times {
		began := time.Now()
		if err := errors.Join(p.Stop(), p.again(ctx)); err != nil {
			return "", err
		}
		longest = max(longest, time.Since(began))
		if err := wait(ctx, 200*time.Millisecond); err != nil {
			return "", err
		}
	}
	asked, held := l.end()
	return fmt.Sprintf("%d hand-overs, none running for %v at most; %s; %d asked again on a new connection", times, longest.Round(time.Millisecond), asked, l.again), held
}
