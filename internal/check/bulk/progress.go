package bulk

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Progress shows on a terminal, or in lines now and then, how far a scan is. A nil Progress shows nothing.
type Progress struct {
	// Out is where.
	Out io.Writer
	// Terminal says that a line may be written over.
	Terminal bool

	began    time.Time
	total    atomic.Int64 // domains read so far
	finished atomic.Int64
	complete atomic.Bool // all have been read
}

func (p *Progress) add() {
	if p != nil {
		p.total.Add(1)
	}
}

func (p *Progress) end() {
	if p != nil {
		p.complete.Store(true)
	}
}

func (p *Progress) done() {
	if p != nil {
		p.finished.Add(1)
	}
}

// start begins to show, and returns what ends it with a last line.
func (p *Progress) start() func() {
	p.began = time.Now()
	every, end := 10*time.Second, "\n"
	if p.Terminal {
		every, end = time.Second, "\r"
	}
	stop := make(chan struct{})
	var shown sync.WaitGroup
	shown.Go(func() {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				return
			case <-ticker.C:
				p.show(end)
			}
		}
	})
	return func() {
		close(stop)
		shown.Wait()
		p.show("\n")
	}
}

func (p *Progress) show(end string) {
	width := 0
	if p.Terminal {
		width = 60 // what is written over may be longer by a few characters
	}
	_, _ = fmt.Fprintf(p.Out, "%-*s%s", width, p.line(time.Since(p.began)), end) // who does not want to see it need not
}

// line is the progress after a time: how many of how many, the rate, and the time left.
func (p *Progress) line(took time.Duration) string {
	finished, total := p.finished.Load(), p.total.Load()
	rate := float64(finished) / max(took.Seconds(), 0.001)
	of, left := fmt.Sprint(total), "time left unknown"
	if !p.complete.Load() {
		of += "+"
	} else if rate > 0 {
		left = (time.Duration(float64(total-finished) / rate * float64(time.Second))).Round(time.Second).String() + " left"
	}
	return fmt.Sprintf("%d of %s domains, %.1f/s, %s", finished, of, rate, left)
}
