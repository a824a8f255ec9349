package lookup_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/testkit"
)

func TestAnUnknownMapIsPERMInEveryModeAndNamesTheKnownOnes(t *testing.T) {
	t.Parallel()
	const known = "known maps: tls-policy, tls-policy-tlsrpt, transport, QUERY, QUERYwithTLSRPT, sts"
	for _, mode := range []policy.Mode{policy.ModeEnforce, policy.ModeReport, policy.ModeOff} {
		s := settings()
		s.Policy.Mode = mode
		svc := service(everywhere(0, nil), everywhere(0, nil), s)
		for name, want := range map[string]string{
			"tls_policy":             `unknown map "tls_policy": did you mean tls-policy? `,
			"tls-polity":             `unknown map "tls-polity": did you mean tls-policy? `,
			"transports":             `unknown map "transports": did you mean transport? `,
			"tls_policy_tlsrpt":      `unknown map "tls_policy_tlsrpt": did you mean tls-policy-tlsrpt? `,
			"QUERYwithTLSRTP":        `unknown map "QUERYwithTLSRTP": did you mean QUERYwithTLSRPT? `,
			"virtual":                `unknown map "virtual": `,
			"":                       `unknown map "": `,
			"a\x00\"\\\xff":          `unknown map "a????": `,
			"john.doe@example.com":   `unknown map "*@example.com": `,
			strings.Repeat("x", 500): `unknown map "` + strings.Repeat("x", 40) + `": `,
		} {
			require.Equal(t, "PERM "+want+known, ask(svc, name+" example.com"))
		}
		require.EqualValues(t, 10, svc.Stats().UnknownMaps)
	}
}

func TestAnUnknownMapIsReportedWhileItIsInUse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := &testkit.Log{}
		svc := lookup.New(lookup.Sources{}, settings(), slog.New(slog.NewTextHandler(log, nil)))
		require.Empty(t, svc.UnknownMaps())
		for range 5 {
			ask(svc, "tls_policy example.com")
			ask(svc, "virtual example.com")
			time.Sleep(6 * time.Minute)
		}
		require.Equal(t, 1, strings.Count(log.String(), "map=tls_policy"))
		require.Equal(t, 1, strings.Count(log.String(), "map=virtual"))
		last := time.Now().Add(-6 * time.Minute)
		require.Equal(t, []lookup.UnknownMap{
			{Name: "tls_policy", Nearest: "tls-policy", Times: 5, Last: last}, {Name: "virtual", Times: 5, Last: last},
		}, svc.UnknownMaps())
		ask(svc, "virtual example.com")
		time.Sleep(5 * time.Minute)
		require.Len(t, svc.UnknownMaps(), 1, "tls_policy is no longer in use")
		time.Sleep(5 * time.Minute)
		require.Empty(t, svc.UnknownMaps())
		ask(svc, "virtual example.com")
		require.Equal(t, 2, strings.Count(log.String(), "map=virtual"), "in use again")
	})
}

func TestUnknownMapsAreBounded(t *testing.T) {
	t.Parallel()
	log := &testkit.Log{}
	svc := lookup.New(lookup.Sources{}, settings(), slog.New(slog.NewTextHandler(log, nil)))
	for i := range 1000 {
		require.Contains(t, ask(svc, fmt.Sprintf("map%d example.com", i)), "PERM ")
	}
	require.Len(t, svc.UnknownMaps(), 16)
	require.Equal(t, 16, strings.Count(log.String(), "unknown map"))
	require.EqualValues(t, 1000, svc.Stats().UnknownMaps)
}
