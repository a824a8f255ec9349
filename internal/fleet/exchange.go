package fleet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
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

// CheckURL returns what is wrong with the URL of a server, without its password, and nil if nothing is.
func CheckURL(text string) error {
	client, err := newClient(text)
	if err == nil {
		_ = client.Close() // it has not connected
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
			return nil, errors.New(describe(err))
		}
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.ContextTimeoutEnabled = timeout, timeout, timeout, true
		o.MaxRetries, o.PoolSize, o.ClientName, o.Protocol = -1, 2, "policyd", protocol
		o.DialerRetries = 1 // debian/patches removes this line, see docs/packaging.md
		o.Dialer = dialer(&redis.Options{DialTimeout: timeout, TLSConfig: o.TLSConfig})
		return redis.NewFailoverClient(o), nil
	}
	o, err := redis.ParseURL(text)
	if err != nil {
		return nil, errors.New(describe(err))
	}
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.ContextTimeoutEnabled = timeout, timeout, timeout, true
	// Notices of maintenance need version 3 of the protocol, and to prepare for them the client would look up the name
	// of the server before it is used.
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
		if err != nil {
			return nil, err
		}
		return &replies{Conn: conn}, nil
	}
}

// Bounds of what one exchange reads: a server that was taken over can send without an end. The next exchange continues.
const (
	maxPass        = time.Minute
	maxPassRecords = 4_000_000
	maxPassOctets  = 1 << 30
)

// errPass is the error of an exchange that reached one of these bounds.
var errPass = errors.New("the server sent more than one exchange reads; the next exchange continues")

// pass is what one exchange has read, and when it must stop reading.
type pass struct {
	end             time.Time
	records, octets int
}

func (p *pass) over(now time.Time) bool {
	return p.records >= maxPassRecords || p.octets >= maxPassOctets || !now.Before(p.end)
}

// exchange reads what peers have learned and writes what this node has learned.
func (f *Fleet) exchange(ctx context.Context) (err error) {
	defer func() {
		// The client decodes what an untrusted server sends.
		if p := recover(); p != nil {
			err = fmt.Errorf("fleet: unexpected reply: %v", p)
		}
	}()
	f.pass = pass{end: f.now().Add(maxPass)}
	epoch, err := f.serverEpoch(ctx)
	if err != nil {
		return err
	}
	if epoch != f.epoch || f.stats.overflow.Load() {
		if err := f.synchronize(ctx, epoch); err != nil {
			return err
		}
		f.epoch = epoch
	} else if err := f.readStream(ctx); err != nil {
		return err
	}
	return f.write(ctx)
}

// serverEpoch returns the name of the present life of the server's data, and gives it one if it has none.
func (f *Fleet) serverEpoch(ctx context.Context) (string, error) {
	key := f.prefix + "e"
	fresh := NewKey().Text()[:16]
	pipe := f.client.Pipeline()
	pipe.SetNX(ctx, key, fresh, 0)
	get := pipe.Get(ctx, key)
	if err := f.do(ctx, pipe); err != nil {
		return "", err
	}
	return get.Val(), nil
}

// do runs a pipeline within the time limit. A key that does not exist is not an error.
func (f *Fleet) do(ctx context.Context, pipe redis.Pipeliner) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmds, err := pipe.Exec(ctx)
	if errors.Is(err, redis.Nil) {
		err = nil
		for _, c := range cmds {
			if e := c.Err(); e != nil && !errors.Is(e, redis.Nil) {
				err = e
			}
		}
	}
	return err
}

// reading is a reading of every record that continues in the next exchange.
type reading struct {
	epoch  string // of the server's data; "" means that none is in progress
	last   string // entry of the stream when it began
	cursor uint64 // of SCAN
}

// synchronize reads every record of the server, and marks every record of this node for writing. The position in the
// stream is taken first, so that nothing that is added while it reads is missed.
func (f *Fleet) synchronize(ctx context.Context, epoch string) error {
	r := &f.reading
	if r.epoch != epoch {
		last, err := f.lastEntry(ctx)
		if err != nil {
			return err
		}
		*r = reading{epoch: epoch, last: last}
	}
	match := globEscape(f.prefix) + "r:*"
	for {
		keys, next, err := f.scan(ctx, r.cursor, match)
		if err != nil {
			return err
		}
		for part := range slices.Chunk(keys, batch) {
			if err := f.readKeys(ctx, part); err != nil {
				return err
			}
		}
		if r.cursor = next; r.cursor == 0 {
			break
		}
		if f.pass.over(f.now()) {
			return errPass
		}
	}
	f.cursor, *r = r.last, reading{}
	f.stats.overflow.Store(false) // not before: what fails is tried again
	f.markAll()
	return nil
}

// markAll marks every record of this node for writing. It holds no lock while it asks a Local, which calls Changed with
// a lock of its own held.
func (f *Fleet) markAll() {
	for kind, local := range f.locals {
		domains := local.Domains()
		f.mu.Lock()
		for _, domain := range domains {
			f.dirty[name{kind, domain}] = struct{}{}
		}
		f.mu.Unlock()
	}
}

func (f *Fleet) scan(ctx context.Context, cursor uint64, match string) ([]string, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return f.client.Scan(ctx, cursor, match, 4*batch).Result()
}

// globEscape quotes what SCAN would take as a pattern.
func globEscape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(s)
}

// lastEntry returns the ID of the newest entry of the stream.
func (f *Fleet) lastEntry(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	entries, err := f.client.XRevRangeN(ctx, f.prefix+"s", "+", "-", 1).Result()
	if err != nil || len(entries) == 0 {
		return "0", err
	}
	return entries[0].ID, nil
}

// readKeys reads some records by their keys.
func (f *Fleet) readKeys(ctx context.Context, keys []string) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	values, err := f.client.MGet(ctx, keys...).Result()
	if err != nil {
		return err
	}
	for _, key := range keys { // also those without a value
		f.pass.records++
		f.pass.octets += len(key)
	}
	for i, v := range values {
		if text, ok := v.(string); ok && i < len(keys) {
			f.merge(strings.TrimPrefix(keys[i], f.prefix+"r:"), []byte(text))
		}
	}
	return nil
}

// readStream reads what was added since the last time. A gap, because entries were removed before they were read, makes
// the next exchange read everything.
func (f *Fleet) readStream(ctx context.Context) error {
	for {
		last, entries, err := f.nextEntries(ctx)
		if err != nil {
			return err
		}
		for _, e := range entries {
			for field, v := range e.Values {
				f.pass.records++
				f.pass.octets += len(field)
				if text, ok := v.(string); ok {
					f.merge(field, []byte(text))
				}
			}
			f.cursor = e.ID
		}
		if len(entries) < batch {
			if before(last, f.cursor) { // the stream was started again with older numbers
				f.epoch = ""
			}
			return nil
		}
		if f.pass.over(f.now()) {
			return errPass
		}
	}
}

func (f *Fleet) nextEntries(ctx context.Context) (last string, entries []redis.XMessage, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	stream := f.prefix + "s"
	pipe := f.client.Pipeline()
	first := pipe.XRangeN(ctx, stream, "-", "+", 1)
	newest := pipe.XRevRangeN(ctx, stream, "+", "-", 1)
	more := pipe.XRangeN(ctx, stream, "("+f.cursor, "+", batch)
	if f.cursor == "0" {
		more = pipe.XRangeN(ctx, stream, "-", "+", batch)
	}
	if err := f.do(ctx, pipe); err != nil {
		return "", nil, err
	}
	if len(newest.Val()) > 0 {
		last = newest.Val()[0].ID
	}
	if oldest := first.Val(); len(oldest) > 0 && f.cursor != "0" && before(f.cursor, oldest[0].ID) &&
		len(more.Val()) > 0 {
		f.epoch = "" // entries may have been removed unread
	}
	return last, more.Val(), nil
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

// merge passes a record of the server on to the store of its kind, or counts why not.
func (f *Fleet) merge(field string, value []byte) {
	f.stats.received.Add(1)
	f.pass.octets += len(value)
	if err := f.tryMerge(field, value); err != nil {
		reason := Refused
		switch why, ok := errors.AsType[ignored](err); {
		case ok:
			reason = why.reason
		case errors.Is(err, ErrStale):
			reason = Stale
		}
		f.stats.ignored[slices.Index(reasonList[:], reason)].Add(1)
		return
	}
	f.stats.merged.Add(1)
}

func (f *Fleet) tryMerge(field string, value []byte) error {
	kind, domain, ok := strings.Cut(field, ":")
	if !ok {
		return ignored{Malformed}
	}
	r, err := open(value, name{Kind(kind), domain}, f.keys, f.now())
	if err != nil {
		return err
	}
	local := f.locals[r.Kind]
	if local == nil {
		return ignored{Version}
	}
	return local.Merge(r.Domain, r.Content)
}

// write sends what this node has learned, a batch at a time. A record that fails to be written is tried again later.
func (f *Fleet) write(ctx context.Context) error {
	for {
		names := f.take()
		if len(names) == 0 {
			return nil
		}
		if err := f.writeBatch(ctx, names); err != nil {
			f.mu.Lock()
			for _, n := range names {
				f.dirty[n] = struct{}{}
			}
			f.mu.Unlock()
			return err
		}
	}
}

// take removes some names from those that wait to be written.
func (f *Fleet) take() (names []name) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for n := range f.dirty {
		delete(f.dirty, n)
		if names = append(names, n); len(names) == batch {
			break
		}
	}
	return names
}

func (f *Fleet) writeBatch(ctx context.Context, names []name) error {
	keys := make([]string, len(names))
	for i, n := range names {
		keys[i] = f.prefix + "r:" + n.String()
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	there, err := f.client.MGet(ctx, keys...).Result()
	if err != nil {
		return err
	}
	pipe := f.client.Pipeline()
	sent := 0
	for i, n := range names {
		old, _ := there[i].(string)
		value, left := f.update(n, []byte(old))
		if value == nil {
			continue
		}
		pipe.Set(ctx, keys[i], value, left)
		pipe.XAdd(ctx, &redis.XAddArgs{Stream: f.prefix + "s", MaxLen: maxStream, Approx: true,
			Values: []any{n.String(), value}})
		sent++
	}
	if sent == 0 {
		return nil
	}
	if err := f.do(ctx, pipe); err != nil {
		return err
	}
	f.stats.sent.Add(uint64(sent))
	return nil
}

// update returns the record to write under a name and how long it is valid, or nil when the server has one that is as
// good: the same content, of which less than a quarter of the lifetime has passed, signed with the present key.
func (f *Fleet) update(n name, there []byte) ([]byte, time.Duration) {
	local := f.locals[n.kind]
	if local == nil {
		return nil, 0
	}
	c, ok := local.Content(n.domain)
	if !ok {
		return nil, 0
	}
	now := f.now()
	left := c.Time.Add(c.Lifetime).Sub(now)
	if left <= 0 {
		return nil, 0
	}
	if old, err := open(there, n, f.keys[:1], now); err == nil {
		if string(old.Data) == string(c.Data) && c.Time.Sub(old.Time) < c.Lifetime/4 || old.Time.After(c.Time) {
			return nil, 0
		}
	}
	value, err := Record{n.kind, n.domain, c}.seal(f.keys[0])
	if err != nil {
		return nil, 0
	}
	return value, left
}

// describe returns an error of the client as printable ASCII without the user name and password of a URL.
func describe(err error) string {
	var network net.Error
	if errors.As(err, &network) && network.Timeout() {
		return "no reply within the time limit"
	}
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, err.Error())
	if at := strings.LastIndexByte(text, '@'); at >= 0 {
		if scheme := strings.Index(text, "://"); scheme >= 0 && scheme < at {
			text = text[:scheme+3] + text[at+1:]
		}
	}
	const most = 200
	return text[:min(len(text), most)]
}
