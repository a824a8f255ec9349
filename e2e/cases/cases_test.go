package cases

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/e2e/lab"
)

func TestEveryDifferenceFromTheExpectedDeliveryIsAnError(t *testing.T) {
	t.Parallel()
	d := lab.Delivery{Service: viaDefault, Relay: "mx.a.test[127.0.0.2]:25", Status: "sent", Reason: "250 ok", TLS: "Verified"}
	require.NoError(t, verified("mx.a.test").check(d))
	require.NoError(t, want{}.check(d))
	for _, w := range []want{
		{status: "deferred"}, {relay: "mx.b.test:25"}, {relay: "mx.a.test:26"}, {service: via26}, {tls: "Trusted"},
		{inClear: true}, {reason: "TLS is required"},
	} {
		require.Error(t, w.check(d), "%+v", w)
	}
}

func TestFindingsFit(t *testing.T) {
	t.Parallel()
	sound := findings{verdict: "kept", policy: "secure", errors: "port25-refused"}
	require.True(t, sound.fits(findings{errors: "port25-refused"}), "the verdict and the policy need not be compared")
	for _, want := range []findings{
		{}, {errors: "port25-refused", verdict: "broken"}, {errors: "port25-refused", policy: "dane-only"},
		{errors: "port25-refused", exit: 1}, {errors: "port25-refused", warnings: "x"},
	} {
		require.False(t, sound.fits(want), "%+v", want)
	}
}
