package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/policyd/policyd/internal/text"
)

// batch is the number of records in one exchange with the server.
const batch = 250

// protocol is the version of RESP that replies follows.
const protocol = 2

// maxStream is about how many entries the stream keeps. A node that was away for longer reads everything again.
const maxStream = 100_000

// DiscardClientLog discards what the Redis client prints to standard error by itself: Fleet logs failures. Call it
// once, before the first New.
func DiscardClientLog() { logging.Disable() }

// CheckURL returns the mistake in the URL of a server, without its password, or nil if there is none.
func CheckURL(text string) error {
	client, err := newClient(text)
	if err == nil {
		_ = client.Close() // this client never connects
	}
	return err
}

// newClient returns a client of the server that a URL names. The client does not connect before it is used.
func newClient(text string) (redis.UniversalClient, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("not a URL") // the text of err may contain the password
	}
	if u.Query().Has("master_name") {
		o, err := redis.ParseFailoverURL(text)
		if err != nil {
			return nil, err
		}
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.ContextTimeoutEnabled = timeout, timeout, timeout, true
		o.MaxRetries, o.PoolSize, o.ClientName, o.Protocol = -1, 2, "policyd", protocol
		o.DialerRetries = 1 // debian/patches removes this line, see docs/packaging.md
		o.Dialer = dialer(&redis.Options{DialTimeout: timeout, TLSConfig: o.TLSConfig})
		return redis.NewFailoverClient(o), nil
	}
	o, err := redis.ParseURL(text)
	if err != nil {
		return nil, err
	}
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.ContextTimeoutEnabled = timeout, timeout, timeout, true
	// Disable notices of maintenance: they need version 3 of the protocol, and for them the client would look up the
	// name of the server before its first use.
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	o.MaxRetries, o.DialerRetries, o.PoolSize, o.ClientName, o.Protocol = -1, 1, 2, "policyd", protocol
	o.Dialer = dialer(o)
	return redis.NewClient(o), nil
}

// dialer returns a function that connects to the server with the address and TLS settings of o.
func dialer(o *redis.Options) func(context.Context, string, string) (net.Conn, error) {
	dial := redis.NewDialer(o)
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		return &replies{Conn: conn}, err
	}
}

// Bounds on one exchange: a server that an attacker controls can send without end. The next exchange continues.
const (
	maxReadTime    = time.Minute
	maxReadRecords = 4_000_000
	maxReadOctets  = 1 << 30
)

// errBudget is the error of an exchange that reached one of these bounds.
var errBudget = errors.New("the server sent more than one exchange reads; the next exchange continues")

// readBudget is what one exchange has read, and when it must stop reading.
type readBudget struct {
	end             time.Time
	records, octets int
}

func (b *readBudget) exhausted(now time.Time) bool {
	return b.records >= maxReadRecords || b.octets >= maxReadOctets || !now.Before(b.end)
}

// exchange reads what peers have learned and writes what this node has learned.
func (f *Fleet) exchange(ctx context.Context) (err error) {
	defer func() {
		// The client decodes what an untrusted server sends.
		if p := recover(); p != nil {
			err = fmt.Errorf("fleet: unexpected reply: %v", p)
		}
	}()
	f.budget = readBudget{end: time.Now().Add(maxReadTime)}
	epoch, err := f.serverEpoch(ctx)
	switch {
	case err != nil:
		return err
	case epoch != f.epoch || f.overflow.Load():
		if err := f.synchronize(ctx, epoch); err != nil {
			return err
		}
		f.epoch = epoch
	default:
		if err := f.readStream(ctx); err != nil {
			return err
		}
	}
	return f.write(ctx)
}

// do runs a pipeline within the time limit.
func do(ctx context.Context, pipe redis.Pipeliner) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, err := pipe.Exec(ctx)
	return err
}

// serverEpoch returns the epoch of the server's data, and sets it if there is none.
func (f *Fleet) serverEpoch(ctx context.Context) (string, error) {
	key := f.o.Prefix + "e"
	pipe := f.client.Pipeline()
	pipe.SetNX(ctx, key, NewKey().Text()[:16], 0)
	epoch := pipe.Get(ctx, key)
	err := do(ctx, pipe)
	return epoch.Val(), err
}

// values returns the values of some keys, nil for a key that does not exist.
func (f *Fleet) values(ctx context.Context, keys []string) ([]any, error) {
	pipe := f.client.Pipeline()
	values := pipe.MGet(ctx, keys...)
	if err := do(ctx, pipe); err != nil {
		return nil, err
	}
	if len(values.Val()) != len(keys) {
		return nil, errReply
	}
	return values.Val(), nil
}

// fullRead is the progress of reading every record, which can take several exchanges.
type fullRead struct {
	epoch  string // the epoch of the server's data when it began; "" if none is in progress
	last   string // the newest entry of the stream when it began
	cursor uint64 // the cursor of SCAN
}

// streamStart precedes every entry of a stream.
const streamStart = "0-0"

// synchronize reads every record of the server, and marks every record of this node for writing. It notes the position
// in the stream first, so that it misses nothing that is added while it reads.
func (f *Fleet) synchronize(ctx context.Context, epoch string) error {
	r := &f.fullRead
	if r.epoch != epoch {
		pipe := f.client.Pipeline()
		newest := pipe.XRevRangeN(ctx, f.o.Prefix+"s", "+", "-", 1)
		if err := do(ctx, pipe); err != nil {
			return err
		}
		*r = fullRead{epoch: epoch, last: entryID(newest, streamStart)}
	}
	for {
		pipe := f.client.Pipeline()
		scan := pipe.Scan(ctx, r.cursor, globEscape(f.o.Prefix)+"r:*", 4*batch)
		if err := do(ctx, pipe); err != nil {
			return err
		}
		keys, next := scan.Val()
		for part := range slices.Chunk(keys, batch) {
			values, err := f.values(ctx, part)
			if err != nil {
				return err
			}
			for i, key := range part {
				f.merge(strings.TrimPrefix(key, f.o.Prefix+"r:"), values[i])
			}
		}
		r.cursor = next
		if r.cursor == 0 {
			break
		}
		if f.budget.exhausted(time.Now()) {
			return errBudget
		}
	}
	f.cursor, *r = r.last, fullRead{}
	f.overflow.Store(false) // not before: what fails is tried again
	f.markAll()
	return nil
}

// markAll marks every record of this node for writing. It holds no lock while it calls a Local, because a Local calls
// Changed with its own lock held.
func (f *Fleet) markAll() {
	for kind, local := range f.o.Locals {
		for _, domain := range local.Domains() {
			f.mark(recordName{kind, domain}, write)
		}
	}
}

// globEscape escapes characters that SCAN would treat as a pattern.
func globEscape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(s)
}

// entryID returns the ID of the first entry of a reply, none if there is no entry.
func entryID(reply *redis.XMessageSliceCmd, none string) string {
	if len(reply.Val()) == 0 {
		return none
	}
	return reply.Val()[0].ID
}

// readStream reads what was added since the last time. If entries were removed before they were read, or the stream was
// started again with older numbers, the next exchange reads everything.
func (f *Fleet) readStream(ctx context.Context) error {
	stream := f.o.Prefix + "s"
	for {
		pipe := f.client.Pipeline()
		oldest := pipe.XRangeN(ctx, stream, "-", "+", 1)
		newest := pipe.XRevRangeN(ctx, stream, "+", "-", 1)
		more := pipe.XRangeN(ctx, stream, "("+f.cursor, "+", batch)
		if err := do(ctx, pipe); err != nil {
			return err
		}
		entries := more.Val()
		if len(entries) > 0 && f.cursor != streamStart && before(f.cursor, entryID(oldest, "")) {
			f.epoch = ""
		}
		for _, e := range entries {
			for field, value := range e.Values {
				f.merge(field, value)
			}
			f.cursor = e.ID
		}
		if len(entries) < batch {
			if before(entryID(newest, ""), f.cursor) {
				f.epoch = ""
			}
			return nil
		}
		if f.budget.exhausted(time.Now()) {
			return errBudget
		}
	}
}

// before reports whether a stream ID precedes another. An empty ID, of an empty stream, precedes none.
func before(a, b string) bool {
	if a == "" || b == "" {
		return false
	}
	at, an, _ := strings.Cut(a, "-")
	bt, bn, _ := strings.Cut(b, "-")
	if at != bt {
		return len(at) < len(bt) || len(at) == len(bt) && at < bt
	}
	return len(an) < len(bn) || len(an) == len(bn) && an < bn
}

// merge passes a record of the server on to the store of its kind, and counts it. A nil value means that the key has
// expired.
func (f *Fleet) merge(field string, value any) {
	text, ok := value.(string)
	f.budget.records++
	f.budget.octets += len(field) + len(text)
	if !ok {
		return
	}
	reason := f.tryMerge(field, []byte(text))
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stats.Received++
	if reason != "" {
		f.stats.Ignored[reason]++
	} else {
		f.stats.Merged++
	}
}

// tryMerge returns why the record was ignored, "" if it was new here.
func (f *Fleet) tryMerge(field string, value []byte) Reason {
	kind, domain, ok := strings.Cut(field, ":")
	if !ok {
		return Malformed
	}
	r, reason := open(value, recordName{Kind(kind), domain}, f.o.Keys, time.Now())
	if reason != "" {
		return reason
	}
	local := f.o.Locals[r.kind]
	switch {
	case local == nil:
		return Version
	case f.toBeRemoved(r.recordName):
		return Stale
	}
	merged, err := local.Merge(r.domain, r.Data, r.Time)
	switch {
	case err != nil:
		return Refused
	case !merged:
		return Stale
	}
	return ""
}

// write sends what this node has learned, a batch at a time. A record that fails to be written is tried again later.
func (f *Fleet) write(ctx context.Context) error {
	for {
		names := f.takeDirty()
		if len(names) == 0 {
			return nil
		}
		if err := f.writeBatch(ctx, names); err != nil {
			for n, c := range names {
				f.mark(n, c)
			}
			return err
		}
	}
}

// takeDirty removes up to batch names from dirty, and returns them.
func (f *Fleet) takeDirty() map[recordName]change {
	f.mu.Lock()
	defer f.mu.Unlock()
	taken := map[recordName]change{}
	for n, c := range f.dirty {
		if len(taken) == batch {
			break
		}
		delete(f.dirty, n)
		taken[n] = c
	}
	return taken
}

func (f *Fleet) writeBatch(ctx context.Context, changes map[recordName]change) error {
	names := slices.Collect(maps.Keys(changes))
	keys := make([]string, len(names))
	for i, n := range names {
		keys[i] = f.o.Prefix + "r:" + n.String()
	}
	stored, err := f.values(ctx, keys)
	if err != nil {
		return err
	}
	pipe, sent := f.client.Pipeline(), uint64(0)
	for i, n := range names {
		old, _ := stored[i].(string)
		value, left := f.recordToWrite(n, []byte(old))
		switch {
		case value != nil:
			pipe.Set(ctx, keys[i], value, left)
			pipe.XAdd(ctx, &redis.XAddArgs{Stream: f.o.Prefix + "s", MaxLen: maxStream, Approx: true,
				Values: []any{n.String(), value}})
			sent++
		case changes[n] == remove && left == 0:
			pipe.Del(ctx, keys[i])
		}
	}
	if err := do(ctx, pipe); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stats.Sent += sent
	return nil
}

// recordToWrite returns the record to write under a name and how long it is valid. If there is nothing to share, it
// returns nil and 0. It also returns nil if the record in the server is as good: it has the same content, is signed
// with the present key, and less than a quarter of its lifetime has passed.
func (f *Fleet) recordToWrite(n recordName, stored []byte) (record []byte, left time.Duration) {
	local := f.o.Locals[n.kind]
	if local == nil {
		return nil, 0
	}
	r, now := Record{recordName: n}, time.Now()
	r.Data, r.Time, r.Lifetime = local.Share(n.domain)
	left = r.Time.Add(r.Lifetime).Sub(now)
	if r.Data == nil || left <= 0 {
		return nil, 0
	}
	old, reason := open(stored, n, f.o.Keys[:1], now)
	same := bytes.Equal(old.Data, r.Data) && r.Time.Sub(old.Time) < r.Lifetime/4
	if reason == "" && (same || old.Time.After(r.Time)) {
		return nil, left
	}
	return r.seal(f.o.Keys[0]), left
}

// describe returns an error of the client in one line of printable ASCII.
func describe(err error) string {
	var network net.Error
	if errors.As(err, &network) && network.Timeout() {
		return "no reply within the time limit"
	}
	const most = 200
	return text.Line(err.Error(), most)
}
