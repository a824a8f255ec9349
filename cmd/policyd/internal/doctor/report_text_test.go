package doctor

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestACommandStaysInOneLine(t *testing.T) {
	t.Parallel()
	command := "postconf -e 'transport_maps = " + strings.Repeat("hash:/etc/x, ", 20) + "'"
	r := Report{Findings: []Finding{{Code: "guard-missing", Area: "Route to implicit TLS", What: strings.Repeat("word ", 40), Why: "because", Change: []string{command}}}}
	shown := r.Text(false)
	require.Contains(t, shown, "\n"+strings.Repeat(" ", indent)+command+"\n")
	for line := range strings.Lines(shown) {
		require.True(t, len(line) <= 81 || strings.Contains(line, command), line)
	}
}

// pasted checks that everything to change is a shell command or a comment.
func pasted(t *testing.T, r Report) {
	t.Helper()
	for _, f := range r.Findings {
		for _, line := range f.Change {
			out, err := exec.CommandContext(t.Context(), "sh", "-n", "-c", line).CombinedOutput()
			require.NoError(t, err, "%s: %s: %s", f.Code, line, out)
			command, _, _ := strings.Cut(line, " ")
			require.Contains(t, []string{"#", "#", "postconf", "policyd", "sudo", "systemctl", "apt-get", "postfix", "postmap", "cp", "echo", "printf", "openssl", "ss",
				"unbound-checkconf"}, command, "%s: %s", f.Code, line)
		}
	}
}
