//go:build e2e

package e2e

import (
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/e2e/lab"
)

// TestHaraka runs the plugin of docs/examples under Node.js, without Haraka, against policyd and a resolver.
func TestHaraka(t *testing.T) {
	l := newLab(t, lab.Options{})
	m := addMTADomains(l)
	startPolicyd(t, l)

	check := func(version, domain, want string) {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "node", source+"/e2e/testdata/haraka.js", source+"/docs/examples/haraka-policyd.js", version, domain).CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Contains(t, string(out), want+"\n", domain)
	}
	const waits = "result=DENYSOFT hosts= tls=false"
	check("3.3.4", m.good, "result=OK hosts="+m.goodMX.Name+" tls=true")
	check("3.3.4", m.elsewhere, "result=OK hosts=starttls-mx.elsewhere.unsigned.test tls=true")
	check("3.3.4", m.none, "result=CONT hosts= tls=false")
	check("3.3.4", m.dane, waits)
	check("3.3.3", m.good, waits)
	l.Policyd.Kill()
	check("3.3.4", m.none, waits)
}

// TestKumoMTA runs the script of docs/examples under Lua, with stubs in place of KumoMTA and policyd.
func TestKumoMTA(t *testing.T) {
	const secure = "secure match=mx.a.test:.b.test servername=hostname"
	for _, c := range []struct {
		status, text, want string
	}{
		{"NOTFOUND", "", "own"},
		{"OK", secure, "Required\tfalse\tmx.a.test,mx.b.test"},
		{"OK", "dane", "Required\ttrue\tMX"},
		{"OK", "dane-only", "reject 451"},
		{"OK", "secure match=other.test servername=hostname", "reject 451"},
		{"OK", secure + " more", "reject 451"},
		{"TEMP", "DNS lookup failed", "reject 451"},
		{"HTTP", "", "reject 451"},
	} {
		out, err := exec.CommandContext(t.Context(), "lua5.4", source+"/e2e/testdata/kumomta.lua", source+"/docs/examples/kumomta-policyd.lua",
			c.status, c.text, "MX.a.test.", "mx.c.test.", "mx.b.test.").CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Equal(t, c.want+"\n", string(out), c.status+" "+c.text)
	}
}
