package report

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// Other versions of policyd read the file: the form of a record may not change.
func TestTheFormOnDiskIsStable(t *testing.T) {
	t.Parallel()
	r := record{Last: Lookup{Nexthop: "a.example", Outcome: Wait, ImplicitTLS: true, Promised: true, Reason: "SERVFAIL"},
		First: 1, Seen: 2, LastWait: 2, Reason: "SERVFAIL", Periods: []period{{Start: 1, Lookups: 2, Waits: 1}}}
	b, err := json.Marshal(&r)
	require.NoError(t, err)
	require.JSONEq(t, `{"last":{"outcome":"wait","implicit_tls":true,"promised":true,"reason":"SERVFAIL"},"first":1,"seen":2,`+
		`"last_wait":2,"reason":"SERVFAIL","periods":[{"s":1,"n":2,"w":1}]}`, string(b))
}
