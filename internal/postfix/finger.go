package postfix

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/policyd/policyd/internal/smtptls"
	"github.com/policyd/policyd/internal/text"
	"github.com/policyd/policyd/prefix"
)

// finger asks posttls-finger(1), which has the TLS client of smtp(8), as smtptls.Judge describes. If it cannot be
// started, there is no opinion.
func (c Commands) finger(ctx context.Context, options []string, d smtptls.Dialogue) smtptls.Opinion {
	addr := netip.AddrPortFrom(d.Addr.Addr().WithZone(""), d.Addr.Port())
	if !prefix.ValidHost(d.Host) || !addr.IsValid() {
		return noVerdict("not a host name and address")
	}
	seconds := strconv.Itoa(max(int(d.Timeout/time.Second), 1))
	args := append([]string{"-c", "-l", "secure", "-t", seconds, "-T", seconds, "-s", d.Host}, options...)
	if d.Helo != "" {
		args = append(args, "-o", "myhostname="+d.Helo)
	}
	if d.Implicit {
		args = append(args, "-w")
	}
	ip := addr.Addr().String()
	if addr.Addr().Is6() {
		ip = "ipv6:" + ip
	}
	args = append(args, fmt.Sprintf("[%s]:%d", ip, addr.Port()), d.Host)
	const limit = 64 << 10 // it writes about a dozen lines
	p := process{path: c.beside("posttls-finger"), args: args, limit: limit, timeout: d.Timeout}
	out, _, err := c.run(ctx, p)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		return smtptls.Opinion{Why: smtptls.Tidy(err.Error())}
	}
	return opinion(out, addr) // the exit status is 0 whatever it found
}

var (
	// gaveUp matches messages about a verified connection that ended before mail could be sent.
	gaveUp = regexp.MustCompile("^(SMTP service not available|EHLO rejected): |^(lost connection|timeout) while ")
	// noSession matches messages about failures that prevent a verdict.
	noSession = regexp.MustCompile("^(Failed to establish session|cannot load Certification Authority data|fatal:)")
)

// opinion reads the output of posttls-finger for an address. Text from the server never begins a line, so it cannot
// imitate a verdict.
func opinion(output string, addr netip.AddrPort) smtptls.Opinion {
	where := fmt.Sprintf("%s[%s]:%d: ", addr.Addr(), addr.Addr(), addr.Port())
	const failed, library = "the TLS handshake failed", "warning: TLS library problem: "
	o := noVerdict("no result")
	reason := "the certificate is not verified"
	for line := range strings.Lines(output) {
		line = text.Printable(strings.TrimPrefix(strings.TrimSpace(line), "posttls-finger: "))
		first, rest, _ := strings.Cut(line, " ")
		before, after, about := strings.Cut(line, where)
		established := strings.HasPrefix(rest, "TLS connection established to "+where)
		switch {
		case established && first == "Verified":
			o = smtptls.Opinion{Verdict: smtptls.Verified, Why: line}
		case established:
			o = smtptls.Opinion{Verdict: smtptls.Rejected, Why: reason}
		case about && strings.TrimPrefix(before, "server ") == "certificate verification failed for ":
			reason = after
		case about && before == "SSL_connect error to " && (after == "-1" || after == "0"):
			o = smtptls.Opinion{Verdict: smtptls.Rejected, Why: failed}
		case about && before == "SSL_connect error to ":
			o = noVerdict(after)
		case o.Why == failed && strings.HasPrefix(line, library):
			o.Why += ": " + strings.TrimPrefix(line, library)
		case o.Verdict == smtptls.Verified && gaveUp.MatchString(line):
			o = smtptls.Opinion{Verdict: smtptls.GaveUp, Why: line}
		case noSession.MatchString(line):
			o = noVerdict(line)
		}
	}
	o.Why = smtptls.Tidy(o.Why)
	return o
}
