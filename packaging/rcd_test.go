//go:build e2e

package packaging_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestScriptsOfOtherSystems runs the scripts with the functions of rc.subr and openrc-run that they use, as stubs.
func TestScriptsOfOtherSystems(t *testing.T) {
	dir := t.TempDir()
	stub := filepath.Join(dir, "rc.subr")
	require.NoError(t, os.WriteFile(stub, []byte(`load_rc_config() { policyd_args="--config /x"; }
run_rc_command() { echo "start: $command $command_args"; echo "reload: $reload_cmd"; }
rc_cmd() { echo "start: $daemon as $daemon_user"; }
install() { :; }
`), 0o600))
	for _, c := range []struct{ file, subr, end, want string }{
		{"rc.d/freebsd", "/etc/rc.subr", "", "start: /usr/sbin/daemon -f -S -T policyd -r -P /var/run/policyd.pid -u policyd /usr/local/bin/policyd serve --config /x\n" +
			"reload: /usr/local/bin/policyd reload --config /x\n"},
		{"rc.d/openbsd", "/etc/rc.d/rc.subr", "", "start: /usr/local/bin/policyd serve as _policyd\n"},
		{"openrc/policyd", "", "\necho \"start: $command $command_args as $command_user\"\n", "start: /usr/bin/policyd serve  as policyd:policyd\n"},
	} {
		run(t, "shellcheck", "-x", "-s", "sh", "-e", "SC1091,SC2034", "packaging/"+c.file)
		text, err := os.ReadFile(c.file)
		require.NoError(t, err)
		script := string(text) + c.end
		if c.subr != "" {
			require.Contains(t, script, "\n. "+c.subr+"\n")
			script = strings.Replace(script, c.subr, stub, 1)
		}
		require.Equal(t, c.want, run(t, "sh", "-euc", script, "policyd", "start"), c.file)
	}
}
