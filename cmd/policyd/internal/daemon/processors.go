package daemon

import (
	"os"
	"runtime"
)

// spareThreads has two threads more run Go code than there are processors, so that there is one for who has just got a request
// while the others look up something or collect garbage. The kernel then shares the processors out, within milliseconds; the
// scheduler of Go lets a goroutine run for ten. Whoever has set GOMAXPROCS knows better, and where a control group limits the
// time of the processors, more threads would use it up the sooner. See docs/decisions/0007-processors.md.
func spareThreads() {
	if os.Getenv("GOMAXPROCS") != "" {
		return
	}
	runtime.SetDefaultGOMAXPROCS()
	if n := runtime.GOMAXPROCS(0); n >= runtime.NumCPU() {
		const more = 2
		runtime.GOMAXPROCS(n + more)
	}
}
