// Package fleet shares what the policyd nodes of one site have learned, through a Redis or Valkey server, so that a new
// node knows the MTA-STS policies and the promises that its peers know (RFC 8461 section 10.2: the first contact is
// unprotected).
//
// The server is not trusted and is never on the path of a lookup. Each record carries an HMAC under the key of the
// site, and a record can only strengthen an answer: see [Record] for what is refused. Each node keeps what it found
// itself in its own state directory; the server holds copies. When the server is down, slow or empty, lookups are not
// affected.
//
// In the server a record is the value of the key PREFIXr:KIND:DOMAIN, which expires, and each change is added to the
// stream PREFIXs. A node reads everything when it starts and the stream from then on. The key PREFIXe has a random
// text, the epoch of the server's data: when it changes, the data was lost, and every node writes what it has again.
package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/policyd/policyd/internal/oncelog"
)

// Local has what one node has learned of one kind. Its methods may run concurrently with lookups and must not wait.
type Local interface {
	// Domains returns the domains that have something to share.
	Domains() []string
	// Share returns what peers should learn about a domain, when it was learned, and for how long it holds from then
	// on; nil when there is nothing to share.
	Share(domain string) (data []byte, learned time.Time, lifetime time.Duration)
	// Merge adds what a peer has learned, and when it was learned. It must only strengthen. It returns false when the
	// node has learned as much, and an error when the data is not acceptable.
	Merge(domain string, data []byte, learned time.Time) (bool, error)
}

// Options of a Fleet.
type Options struct {
	// URL names the server, as redis://, rediss:// or unix://. With the parameter master_name it names a Sentinel.
	URL string
	// Keys are the site key and, during a change of keys, the previous one. The first signs, both verify.
	Keys   []Key
	Prefix string         // precedes every key in the server; "" means "policyd:"
	Pull   time.Duration  // the interval between two reads of the stream; 0 means 10 seconds
	Locals map[Kind]Local // what is shared
	Log    *slog.Logger   // gets at most one WARN per minute while the server cannot be used; nil logs nothing
}

// Fleet copies records between this node and the server while Run runs.
type Fleet struct {
	o      Options
	client redis.UniversalClient

	mu       sync.Mutex
	dirty    map[recordName]change // the changes to make in the server
	stats    Stats
	overflow atomic.Bool   // dirty is full, and other records must be written too
	wakeUp   chan struct{} // a token where dirty has grown

	// Only the goroutine of Run uses the rest.
	epoch    string // the epoch of the server's data when this node last read everything
	cursor   string // the last entry of the stream that was read
	fullRead fullRead
	budget   readBudget
	warned   oncelog.Limiter
}

// recordName identifies a record.
type recordName struct {
	kind   Kind
	domain string
}

func (n recordName) String() string { return string(n.kind) + ":" + n.domain }

// maxDirty bounds the records that wait to be written. Beyond it everything is compared with the server instead.
const maxDirty = 100_000

// timeout bounds each exchange with the server.
const timeout = 2 * time.Second

// New returns a Fleet that does nothing until Run is called. The error names a mistake in the URL or the keys.
func New(o Options) (*Fleet, error) {
	if len(o.Keys) == 0 {
		return nil, errors.New("fleet: a site key is required: make one with policyd fleet key")
	}
	client, err := newClient(o.URL)
	if err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	o.Prefix, o.Pull = cmp.Or(o.Prefix, "policyd:"), cmp.Or(o.Pull, 10*time.Second)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	f := &Fleet{
		o: o, client: client, dirty: map[recordName]change{}, wakeUp: make(chan struct{}, 1),
		stats: Stats{Ignored: map[Reason]uint64{}},
	}
	for _, r := range []Reason{Malformed, Version, MAC, Misplaced, Future, Expired, Refused, Stale} {
		f.stats.Ignored[r] = 0
	}
	return f, nil
}

// change is what must be done with a record in the server.
type change string

const (
	write  change = "write"
	remove change = "remove" // unless this node has learned it again
)

// Changed notes that this node has learned something that its peers should know. It returns immediately.
func (f *Fleet) Changed(kind Kind, domain string) { f.note(recordName{kind, domain}, write) }

// Forgotten notes that this node was made to forget a domain, by the operator or by an authentic answer. The server
// must forget it too, or the node learns it again at its next start. Peers keep what they know. It returns immediately.
func (f *Fleet) Forgotten(kind Kind, domain string) { f.note(recordName{kind, domain}, remove) }

func (f *Fleet) note(n recordName, c change) {
	f.mu.Lock()
	if _, known := f.dirty[n]; known || len(f.dirty) < maxDirty {
		f.dirty[n] = c
	} else {
		f.overflow.Store(true)
	}
	f.mu.Unlock()
	select {
	case f.wakeUp <- struct{}{}:
	default:
	}
}

// mark notes a change, unless a later one is noted.
func (f *Fleet) mark(n recordName, c change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, known := f.dirty[n]; !known {
		f.dirty[n] = c
	}
}

// toBeRemoved reports whether this node was made to forget a record that the server still has.
func (f *Fleet) toBeRemoved(n recordName) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dirty[n] == remove
}

// Run exchanges records with the server until ctx ends. Failures are logged and tried again, with a back-off of at most
// thirty seconds.
func (f *Fleet) Run(ctx context.Context) error {
	defer func() { _ = f.client.Close() }()
	const minBackOff, maxBackOff = time.Second, 30 * time.Second
	// After an exchange the node rests for restFactor times as long as the exchange took: no server, whatever it sends,
	// keeps a node busy for more than a fifth of the time.
	const restFactor = 4
	backOff := minBackOff
	for {
		began := time.Now()
		err := f.exchange(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		rest := restFactor * time.Since(began)
		f.noteExchange(err)
		sleep(ctx, rest, nil)
		if err == nil {
			backOff = minBackOff
			sleep(ctx, f.o.Pull-rest, f.wakeUp)
		} else {
			sleep(ctx, backOff-rest, nil)
			backOff = min(2*backOff, maxBackOff)
		}
	}
}

// sleep waits until ctx ends or the time has passed. A token in wakeUp, for a record to write, ends the wait after a
// moment in which more records can gather; nil never does.
func sleep(ctx context.Context, wait time.Duration, wakeUp <-chan struct{}) {
	const gather = 200 * time.Millisecond
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-wakeUp:
		sleep(ctx, min(gather, wait), nil)
	}
}

// noteExchange notes how an exchange has ended.
func (f *Fleet) noteExchange(err error) {
	f.mu.Lock()
	s := &f.stats
	wasUp := s.Up
	s.Up = err == nil
	if err == nil {
		s.LastSuccess, s.Error = time.Now().Truncate(time.Second), ""
	} else {
		s.Error = describe(err)
		s.Failures++
	}
	f.mu.Unlock()
	if err == nil && !wasUp {
		f.o.Log.Info("fleet store available")
	} else if err != nil {
		if _, due := f.warned.Due(); due {
			f.o.Log.Warn("fleet store unavailable", "err", describe(err))
		}
	}
}

// Stats describe the exchanges since the start.
type Stats struct {
	Up          bool              `json:"up"`                    // the latest exchange with the server succeeded
	Error       string            `json:"error,omitempty"`       // why it failed, in printable ASCII
	LastSuccess time.Time         `json:"last_success,omitzero"` // zero means never
	Sent        uint64            `json:"sent"`                  // records
	Received    uint64            `json:"received"`
	Merged      uint64            `json:"merged"`  // records that were new here
	Ignored     map[Reason]uint64 `json:"ignored"` // refused records, by reason
	Failures    uint64            `json:"-"`       // exchanges that failed
}

// Stats returns the present state.
func (f *Fleet) Stats() Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.stats
	s.Ignored = maps.Clone(s.Ignored)
	return s
}
