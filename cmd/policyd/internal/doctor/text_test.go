package doctor

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/text"
)

func TestWhatIsToBeCopiedFits(t *testing.T) {
	t.Parallel()
	path := "/etc/" + strings.Repeat("a", text.Columns)
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"what fits stays in its line", "/etc/postfix/main.cf: smtp_tls_loglevel = 1", []string{
			"> /etc/postfix/main.cf: smtp_tls_loglevel = 1",
		}},
		{"a line of a file goes below the file", "/etc/postfix/main.cf: smtp_tls_policy_maps = socketmap:inet:127.0.0.1:2526:tls-policy", []string{
			"> /etc/postfix/main.cf:",
			"  smtp_tls_policy_maps = socketmap:inet:127.0.0.1:2526:tls-policy",
		}},
		{"a list goes on after a comma", "or /etc/postfix/main.cf: transport_maps = regexp:{ {/@$myhostname$$/ :} }, socketmap:inet:127.0.0.1:2526:transport", []string{
			"> or /etc/postfix/main.cf:",
			"  transport_maps = regexp:{ {/@$myhostname$$/ :} },",
			"    socketmap:inet:127.0.0.1:2526:transport",
		}},
		{"a setting goes below its section", `/etc/policyd/policyd.toml, [port26]: exclude_domains = ["relay.example.net"]`, []string{
			"> /etc/policyd/policyd.toml, [port26]:",
			`  exclude_domains = ["relay.example.net"]`,
		}},
		{"a shell goes on after an &&", "cp /etc/resolv.conf /var/spool/postfix/private/etc/resolv.conf && postfix reload", []string{
			"> cp /etc/resolv.conf /var/spool/postfix/private/etc/resolv.conf &&",
			"    postfix reload",
		}},
		{"a service of master.cf begins with a blank", "  -o syslog_name=postfix/smtps26", []string{">   -o syslog_name=postfix/smtps26"}},
		{"a path stays whole", path, []string{"> " + path}},
		{"a command stays whole", "or openssl rehash " + path, []string{"> or openssl rehash " + path}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			margin := strings.Repeat(" ", indent)
			require.Equal(t, margin+strings.Join(c.want, "\n"+margin)+"\n", change(c.text))
		})
	}
}
