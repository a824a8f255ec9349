package postfix

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/policyd/policyd/internal/smtptls"
	"github.com/policyd/policyd/internal/text"
	"github.com/policyd/policyd/prefix"
)

// finger runs posttls-finger(1), which has the TLS client of smtp(8), without a shell, with a time limit and a bound on
// its output.
type finger struct {
	path string
	args []string // the options for roots, protocols and ciphers
	env  []string
}

// fingerOutput bounds what is read of the output of posttls-finger, which writes about a dozen lines.
const fingerOutput = 64 << 10

// ask is as in smtptls.Judge. Without a process that can be started there is no opinion.
func (f *finger) ask(ctx context.Context, d smtptls.Dialogue) smtptls.Opinion {
	ip := d.Addr.Addr().WithZone("").String()
	if !prefix.ValidHost(d.Host) || !d.Addr.IsValid() {
		return smtptls.Opinion{Verdict: smtptls.NoVerdict, Why: "not a host name and address"}
	}
	ctx, cancel := context.WithTimeout(ctx, d.Whole)
	defer cancel()
	seconds := strconv.Itoa(max(int(d.Whole/time.Second), 1))
	args := append([]string{"-c", "-l", "secure", "-t", seconds, "-T", seconds, "-s", d.Host}, f.args...)
	if d.Helo != "" {
		args = append(args, "-o", "myhostname="+d.Helo)
	}
	if d.Implicit {
		args = append(args, "-w")
	}
	to := "[" + ip + "]"
	if d.Addr.Addr().Is6() {
		to = "[ipv6:" + ip + "]"
	}
	cmd := exec.CommandContext(ctx, f.path, append(args, to+":"+strconv.Itoa(int(d.Addr.Port())), d.Host)...)
	out := limited{limit: fingerOutput}
	cmd.Stdout, cmd.Stderr, cmd.Env = &out, &out, f.env
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return smtptls.Opinion{Why: smtptls.Tidy(err.Error())}
	}
	_ = cmd.Wait() // posttls-finger exits 0 whatever it found
	return opinion(out.String(), netip.AddrPortFrom(d.Addr.Addr().WithZone(""), d.Addr.Port()))
}

// opinion reads the output of posttls-finger. Words of the server stand behind a fixed beginning of their line only,
// so that they cannot imitate a verdict.
func opinion(output string, addr netip.AddrPort) smtptls.Opinion {
	where := fmt.Sprintf("%s[%s]:%d", addr.Addr(), addr.Addr(), addr.Port())
	o := smtptls.Opinion{Verdict: smtptls.NoVerdict, Why: "no result"}
	reason := ""
	for line := range strings.Lines(output) {
		line = text.Printable(strings.TrimPrefix(strings.TrimSpace(line), "posttls-finger: "))
		first, rest, _ := strings.Cut(line, " ")
		switch {
		case strings.HasPrefix(rest, "TLS connection established to "+where+": "):
			o = smtptls.Opinion{Verdict: smtptls.Rejected, Why: cmp.Or(reason, "the certificate is not verified")}
			if first == "Verified" {
				o = smtptls.Opinion{Verdict: smtptls.Verified, Why: line}
			}
		case strings.HasPrefix(line, "certificate verification failed for "+where+": "), strings.HasPrefix(line, "server certificate verification failed for "+where+": "):
			_, reason, _ = strings.Cut(line, where+": ")
		case strings.HasPrefix(line, "SSL_connect error to "+where+": "):
			if _, why, _ := strings.Cut(line, where+": "); why == "-1" || why == "0" {
				o = smtptls.Opinion{Verdict: smtptls.Rejected, Why: "the TLS handshake failed"}
			} else {
				o = smtptls.Opinion{Verdict: smtptls.NoVerdict, Why: why}
			}
		case strings.HasPrefix(line, "warning: TLS library problem: ") && o.Verdict == smtptls.Rejected && o.Why == "the TLS handshake failed":
			o.Why += ": " + strings.TrimPrefix(line, "warning: TLS library problem: ")
		case o.Verdict == smtptls.Verified && (strings.HasPrefix(line, "SMTP service not available: ") || strings.HasPrefix(line, "EHLO rejected: ") ||
			strings.HasPrefix(line, "lost connection while ") || strings.HasPrefix(line, "timeout while ")):
			o = smtptls.Opinion{Verdict: smtptls.GaveUp, Why: line}
		case strings.HasPrefix(line, "Failed to establish session to "), strings.HasPrefix(line, "cannot load Certification Authority data"),
			strings.HasPrefix(line, "fatal: "):
			o = smtptls.Opinion{Verdict: smtptls.NoVerdict, Why: line}
		}
	}
	o.Why = smtptls.Tidy(o.Why)
	return o
}
