package bulk

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// Progress shows on a terminal, or in lines now and then, how many domains of a list are done.
type Progress struct {
	Out         io.Writer    // nil shows nothing
	Terminal    bool         // a line may be written over
	Total, Done atomic.Int64 // the domains that are known so far, and those of them that are done
	Complete    atomic.Bool  // all are known

	began time.Time
}

// Start begins to show, and returns what ends it with a last line.
func (p *Progress) Start() (stop func()) {
	p.began = time.Now()
	if p.Out == nil {
		return func() {}
	}
	every, end := 10*time.Second, "\n"
	if p.Terminal {
		every, end = time.Second, "\r"
	}
	stopped := make(chan struct{})
	go func() {
		for tick := time.Tick(every); ; {
			select {
			case stopped <- struct{}{}:
				return
			case <-tick:
				p.show(end)
			}
		}
	}()
	return func() {
		<-stopped
		p.show("\n")
	}
}

func (p *Progress) show(end string) {
	width := 0
	if p.Terminal {
		width = 60 // what is written over may be longer by a few characters
	}
	// a terminal that is gone needs no progress
	_, _ = fmt.Fprintf(p.Out, "%-*s%s", width, p.line(time.Since(p.began)), end)
}

// line is the progress after a time: how many of how many, the rate, and the time left.
func (p *Progress) line(took time.Duration) string {
	done, total := p.Done.Load(), p.Total.Load()
	rate := float64(done) / max(took.Seconds(), 0.001)
	of, left := fmt.Sprint(total), "time left unknown"
	if !p.Complete.Load() {
		of += "+"
	} else if rate > 0 {
		left = (time.Duration(float64(total-done) / rate * float64(time.Second))).Round(time.Second).String() + " left"
	}
	return fmt.Sprintf("%d of %s domains, %.1f/s, %s", done, of, rate, left)
}
