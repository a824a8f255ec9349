package postfix

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSince(t *testing.T) {
	t.Parallel()
	for version, since := range map[string]bool{
		"3.12-20260101": true, "3.10.5": true, "3.11": true, "4.0": true,
		"3.10.4": false, "3.10": false, "2.11.9": false, "x": false, "": false,
	} {
		require.Equal(t, since, Settings{"mail_version": version}.Since(10, 5), version)
	}
}

func TestServices(t *testing.T) {
	t.Parallel()
	s := Settings{
		"relayhost": "main", "relay/unix/relayhost": "", "a/inet/relayhost": "other", "smtp/unix/relayhosts": "x",
		"smtp/unix/command": "smtp -o relayhosts=x", "relay/unix/command": "smtp",
	}
	require.Equal(t, []string{"a/inet", "relay/unix"}, s.Overriding("relayhost"))
	require.Empty(t, s.Overriding("host"))
	require.Equal(t, []string{"main", "", "other"},
		[]string{s.Of("smtp/unix", "relayhost"), s.Of("relay/unix", "relayhost"), s.Of("a/inet", "relayhost")})
	require.Equal(t, []string{"smtp", "smtp", ""},
		[]string{s.Program("smtp/unix"), s.Program("relay/unix"), s.Program("smtps26/unix")})
}

// The default of the column is y below compatibility level 1 (master(5)).
func TestChrooted(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		column, level string
		chrooted      bool
	}{
		{"y", "3.6", true}, {"n", "0", false}, {"-", "3.6", false}, {"-", "1", false}, {"-", "0", true}, {"-", "", true},
		{"", "0", false},
	} {
		require.Equal(t, c.chrooted, Settings{"smtp/unix/chroot": c.column, "compatibility_level": c.level}.Chrooted("smtp/unix"), c)
	}
}
