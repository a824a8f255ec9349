// Command torture exposes a built policyd to the faults that operators fear: dead and lying resolvers, full disks,
// hostile clients, storms of signals, a lack of files and memory. The table of faults has the conditions that must hold
// under each. The command causes the faults and checks the conditions. Everything runs on loopback in processes that it
// starts and ends, and as root in namespaces of its own.
//
// The exit status is 1 if a condition did not hold, or if a fault was left out without -short.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/policyd/policyd/e2e/lab"
	"github.com/policyd/policyd/e2e/must"
)

type config struct {
	policyd string
	short   bool
	only    string
	soak    time.Duration
	root    bool // the program is root, in namespaces of its own
}

func main() {
	var c config
	flag.StringVar(&c.policyd, "policyd", "bin/policyd", "the built `binary`")
	flag.BoolVar(&c.short, "short", false, "the same faults for a short time, less than 90 seconds")
	flag.StringVar(&c.only, "only", "", "only the faults whose name matches this `expression`")
	flag.DurationVar(&c.soak, "soak", 0, "no faults, but mixed load for this `long`")
	flag.Parse()
	c.root = os.Getuid() == 0
	os.Exit(lab.Main("torture", c.root, func(ctx context.Context) {
		only := must.Get(regexp.Compile(c.only))
		c.policyd = must.Get(filepath.Abs(c.policyd))
		all := faults()
		if c.soak > 0 {
			all = []fault{soak(c.soak)}
		}
		dir := must.Get(os.MkdirTemp("", "policyd-torture-")) // sockets need short paths
		r := runner{config: c, dir: dir}
		must.Do(r.play(ctx, choose(all, only)), os.RemoveAll(dir))
	}))
}

func choose(all []fault, only *regexp.Regexp) []fault {
	return slices.DeleteFunc(all, func(f fault) bool { return !only.MatchString(f.name) })
}

// runner plays faults and prints a line for each.
type runner struct {
	config config
	dir    string
	mu     sync.Mutex
	errs   []error
}

// play plays the faults that mostly wait concurrently, and beside them those that are busy, one at a time.
func (r *runner) play(ctx context.Context, all []fault) error {
	const side = 8
	busy, waiting := make(chan bool, 1), make(chan bool, side)
	var faults sync.WaitGroup
	for i, f := range all {
		faults.Go(func() {
			lane := waiting
			if f.busy {
				lane = busy
			}
			lane <- true
			r.one(ctx, i, f)
			<-lane
		})
	}
	faults.Wait()
	return errors.Join(r.errs...)
}

func (r *runner) one(ctx context.Context, number int, f fault) {
	begun, mark, found := time.Now(), "held", ""
	var err error
	if f.root && !r.config.root {
		mark, found = "left out", "needs root"
		if !r.config.short {
			err = fmt.Errorf("%s: left out because it needs root", f.name)
		}
	} else if found, err = r.result(ctx, number, f); err != nil {
		mark, found = "BROKEN", err.Error()+"\n         must hold: "+f.holds
		err = fmt.Errorf("%s: did not hold, see above", f.name)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Printf("%-8s %s: %s (%.0f s)\n", mark, f.name, found, time.Since(begun).Seconds())
	r.errs = append(r.errs, err)
}

func (r *runner) result(ctx context.Context, number int, f fault) (found string, err error) {
	const longest = 12 * time.Minute
	ctx, cancel := context.WithTimeout(ctx, longest+r.config.soak)
	defer cancel()
	s := &scene{config: r.config, number: number, dir: filepath.Join(r.dir, strconv.Itoa(number))}
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		return "", err
	}
	err = must.Catch(func() { found = s.play(ctx, f) })
	return found, errors.Join(err, s.end())
}
