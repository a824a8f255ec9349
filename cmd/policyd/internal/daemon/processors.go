package daemon

import (
	"os"
	"runtime"
)

// spareThreads has two threads more run Go code than there are processors, so that there is one for who has just got a request
// while the others look up something or collect garbage. The kernel then shares the processors out, within milliseconds; the
// scheduler of Go lets a goroutine run for ten. Whoever has set GOMAXPROCS knows better. See docs/decisions/0007-processors.md.
func spareThreads() {
	const more = 2
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.SetDefaultGOMAXPROCS()
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + more)
	}
}
