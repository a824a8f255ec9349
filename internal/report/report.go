// Package report remembers what policyd decided for each next hop, and sums it up: how mail would be sent with mode =
// "enforce". It is what an operator reads before the change from "report" to "enforce".
package report

import (
	"cmp"
	"math"
	"slices"
	"sync/atomic"
	"time"
)

// Outcome is what a decision means for mail to a next hop.
type Outcome string

// The outcomes. AsBefore means that policyd has no policy: Postfix delivers as it would without policyd.
const (
	AsBefore Outcome = "as-before"
	DANE     Outcome = "dane"
	Prefix   Outcome = "prefix"
	MTASTS   Outcome = "mta-sts"
	Override Outcome = "override"
	Wait     Outcome = "wait"
)

// Lookup is a TLS-policy lookup with its decision, whatever the mode made of the answer.
type Lookup struct {
	Nexthop string  `json:"-"`
	Outcome Outcome `json:"outcome"`
	// Nexthop has no port. ImplicitTLS is set for a lookup for the port of implicit TLS, and Promised where all hosts
	// that the policy allows promise that port.
	ImplicitTLS bool `json:"implicit_tls,omitempty"`
	Promised    bool `json:"promised,omitempty"`
	// Reason is the reason why mail waits, for the outcome Wait.
	Reason string `json:"reason,omitempty"`
}

// Report sums up the next hops that were looked up in some time. Its JSON form is stable: fields are only added.
type Report struct {
	// Since and Until bound the time of the report. Recorded is when the first lookup was recorded that it could cover.
	Since    time.Time `json:"since"`
	Until    time.Time `json:"until"`
	Recorded time.Time `json:"recorded,omitzero"`
	// Mode is the mode of the daemon: with "report" Postfix gets none of these answers.
	Mode string `json:"mode"`
	// Nexthops counts the next hops, and the fields below those with each outcome of the last lookup.
	Nexthops int `json:"nexthops"`
	AsBefore int `json:"as_before"`
	DANE     int `json:"dane"`
	Prefix   int `json:"prefix"`
	MTASTS   int `json:"mta_sts"`
	Override int `json:"override"`
	Wait     int `json:"wait"`
	// Port26 counts the next hops whose last lookup was for the port of implicit TLS; the outcomes above include them.
	// Port26Promised counts those on port 25 whose hosts all promise that port: mail uses it once a probe has found the
	// hosts open.
	Port26         int `json:"port26"`
	Port26Promised int `json:"port26_promised"`
	// Waiting are next hops of which at least one lookup in this time ended with mail waiting, the worst first: those
	// that still wait, then by the number of such lookups.
	Waiting []Waiting `json:"waiting"`
	// More is set if Waiting was cut off at its limit.
	More bool `json:"more"`
	// Vanished are domains whose remembered promise is missing from unsigned answers now.
	Vanished []string `json:"vanished"`
	// Dropped counts next hops that were forgotten because there were too many.
	Dropped uint64 `json:"dropped"`
}

// Waiting is a next hop to which mail would wait, or would have waited.
type Waiting struct {
	Nexthop string `json:"nexthop"`
	// Still is set if mail still waits after the last lookup.
	Still bool `json:"still"`
	// Lookups and Waits count the lookups in the time of the report. Lookups are remembered in groups, and a group that
	// began before that time does not count. First is the first lookup that is remembered at all.
	Lookups uint64    `json:"lookups"`
	Waits   uint64    `json:"waits"`
	First   time.Time `json:"first"`
	// LastWait is the last lookup after which mail would have waited, and Reason why.
	LastWait time.Time `json:"last_wait"`
	Reason   string    `json:"reason"`
}

// maxWaiting bounds Report.Waiting.
const maxWaiting = 1000

// record is what is remembered about a next hop.
type record struct {
	Last Lookup `json:"last"`
	// First, Seen and LastWait are seconds since 1970.
	First    int64 `json:"first"`
	Seen     int64 `json:"seen"`
	LastWait int64 `json:"last_wait,omitempty"`
	// Reason is that of the last lookup that ended with mail waiting.
	Reason string `json:"reason,omitempty"`
	// Periods count all lookups, the oldest first.
	Periods []period `json:"periods"`

	repeated atomic.Uint32 // lookups that are not in Periods yet
}

// period counts the lookups from Start, in seconds since 1970, until the next period.
type period struct {
	Start   uint32 `json:"s"`
	Lookups uint32 `json:"n"`
	Waits   uint32 `json:"w,omitempty"`
}

const (
	maxPeriods = 32
	// minPeriod is how many seconds a period has at least.
	minPeriod = 60
)

// count adds lookups. The earlier a period is, the longer it may become.
func (r *record) count(now int64, lookups, waits uint32) {
	at := uint32(now)
	if n := len(r.Periods); n == 0 || at >= r.Periods[n-1].Start+minPeriod {
		r.Periods = append(r.Periods, period{Start: at})
	}
	last := &r.Periods[len(r.Periods)-1]
	last.Lookups += lookups
	last.Waits += waits
	if len(r.Periods) > maxPeriods {
		r.join(at)
	}
}

// join makes one period of the two that are shortest for their age.
func (r *record) join(now uint32) {
	shortest, least := 0, math.Inf(1)
	for i := range len(r.Periods) - 2 {
		start := r.Periods[i].Start
		length, age := float64(r.Periods[i+2].Start-start), float64(now-start)
		if length/age < least {
			shortest, least = i, length/age
		}
	}
	next := r.Periods[shortest+1]
	r.Periods[shortest].Lookups += next.Lookups
	r.Periods[shortest].Waits += next.Waits
	r.Periods = slices.Delete(r.Periods, shortest+1, shortest+2)
}

// since counts the lookups of the periods that began since then, and those of them after which mail waits.
func (r *record) since(then int64) (lookups, waits uint64) {
	for _, p := range r.Periods {
		if int64(p.Start) >= then {
			lookups += uint64(p.Lookups)
			waits += uint64(p.Waits)
		}
	}
	return lookups, waits
}

// add counts a next hop, if it was looked up since then.
func (r *Report) add(nexthop string, rec *record) {
	if rec.Seen < r.Since.Unix() {
		return
	}
	r.Nexthops++
	switch rec.Last.Outcome {
	case AsBefore:
		r.AsBefore++
	case DANE:
		r.DANE++
	case Prefix:
		r.Prefix++
	case MTASTS:
		r.MTASTS++
	case Override:
		r.Override++
	case Wait:
		r.Wait++
	}
	if rec.Last.ImplicitTLS {
		r.Port26++
	} else if rec.Last.Promised {
		r.Port26Promised++
	}
	if rec.LastWait > 0 && rec.LastWait >= r.Since.Unix() {
		lookups, waits := rec.since(r.Since.Unix())
		r.Waiting = append(r.Waiting, Waiting{ // LastWait counts even if its period does not
			Nexthop: nexthop, Still: rec.Last.Outcome == Wait, Lookups: max(lookups, 1), Waits: max(waits, 1),
			First: time.Unix(rec.First, 0), LastWait: time.Unix(rec.LastWait, 0), Reason: rec.Reason,
		})
	}
}

// sort puts the worst first and cuts the list off.
func (r *Report) sort() {
	slices.SortFunc(r.Waiting, func(a, b Waiting) int {
		switch {
		case a.Still && !b.Still:
			return -1
		case b.Still && !a.Still:
			return 1
		}
		return cmp.Or(cmp.Compare(b.Waits, a.Waits), cmp.Compare(a.Nexthop, b.Nexthop))
	})
	if len(r.Waiting) > maxWaiting {
		r.More, r.Waiting = true, r.Waiting[:maxWaiting]
	}
}
