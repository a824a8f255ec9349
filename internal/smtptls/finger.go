package smtptls

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/policyd/policyd/internal/text"
	"github.com/policyd/policyd/prefix"
)

// Opinion is what Postfix's own TLS client made of an address. The zero Opinion means that it was not asked.
type Opinion struct {
	Verdict PostfixVerdict
	// Why is the line of posttls-finger(1) that decided, in printable ASCII.
	Why string
}

// PostfixVerdict is the kind of an Opinion.
type PostfixVerdict string

// The verdicts of Postfix. NotAsked, the zero value, is for a machine without posttls-finger(1).
const (
	NotAsked PostfixVerdict = ""
	// Verified is a TLS connection that "secure match=<host>" accepts.
	Verified PostfixVerdict = "verified"
	// Rejected is a TLS connection that it does not accept, or that failed.
	Rejected PostfixVerdict = "rejected"
	// NoVerdict is a connection that ended before there was a result.
	NoVerdict PostfixVerdict = "no verdict"
	// GaveUp is a verified TLS connection in which the server then did not take EHLO.
	GaveUp PostfixVerdict = "no service"
)

// Judge is the SMTP client whose mail a verdict is for: Postfix on this machine. Both methods end when ctx does.
type Judge interface {
	// Ask connects to the address of d, with the name d.Helo in EHLO, and waits for the result.
	Ask(ctx context.Context, d Dialogue) Opinion
	// Helo returns the name that Postfix uses in EHLO, "" if that is not known.
	Helo(ctx context.Context) string
}

// Finger runs posttls-finger(1), which has the TLS client of smtp(8), without a shell, with a time limit and a bound
// on its output.
type Finger struct {
	// Path is that of posttls-finger, Args are its options for roots, protocols and ciphers.
	Path string
	Args []string
	// Env is its environment.
	Env []string
	// Slots bounds the processes that run at the same time.
	Slots *semaphore.Weighted
}

// fingerOutput bounds what is read of the output of posttls-finger, which writes about a dozen lines.
const fingerOutput = 64 << 10

// Ask is as in Judge. Without a process that can be started there is no opinion.
func (f *Finger) Ask(ctx context.Context, d Dialogue) Opinion {
	ip := d.Addr.Addr().WithZone("").String()
	if !prefix.ValidHost(d.Host) || !d.Addr.IsValid() {
		return Opinion{Verdict: NoVerdict, Why: "not a host name and address"}
	}
	if f.Slots != nil {
		if f.Slots.Acquire(ctx, 1) != nil {
			return Opinion{Verdict: NoVerdict, Why: "deadline exceeded"}
		}
		defer f.Slots.Release(1)
	}
	ctx, cancel := context.WithTimeout(ctx, d.Whole)
	defer cancel()
	seconds := strconv.Itoa(max(int(d.Whole/time.Second), 1))
	args := append([]string{"-c", "-l", "secure", "-t", seconds, "-T", seconds, "-s", d.Host}, f.Args...)
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
	cmd := exec.CommandContext(ctx, f.Path, append(args, to+":"+strconv.Itoa(int(d.Addr.Port())), d.Host)...)
	out := limited{left: fingerOutput}
	cmd.Stdout, cmd.Stderr, cmd.Env = &out, &out, f.Env
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return Opinion{Why: Tidy(err.Error())}
	}
	_ = cmd.Wait() // posttls-finger exits 0 whatever it found
	return opinion(out.kept.String(), netip.AddrPortFrom(d.Addr.Addr().WithZone(""), d.Addr.Port()))
}

// opinion reads the output of posttls-finger. Words of the server stand behind a fixed beginning of their line only,
// so that they cannot imitate a verdict.
func opinion(output string, addr netip.AddrPort) Opinion {
	where := fmt.Sprintf("%s[%s]:%d", addr.Addr(), addr.Addr(), addr.Port())
	o := Opinion{Verdict: NoVerdict, Why: "no result"}
	reason := ""
	for line := range strings.Lines(output) {
		line = text.Printable(strings.TrimPrefix(strings.TrimSpace(line), "posttls-finger: "))
		first, rest, _ := strings.Cut(line, " ")
		switch {
		case strings.HasPrefix(rest, "TLS connection established to "+where+": "):
			o = Opinion{Rejected, orElse(reason, "the certificate is not verified")}
			if first == "Verified" {
				o = Opinion{Verified, line}
			}
		case strings.HasPrefix(line, "certificate verification failed for "+where+": "), strings.HasPrefix(line, "server certificate verification failed for "+where+": "):
			_, reason, _ = strings.Cut(line, where+": ")
		case strings.HasPrefix(line, "SSL_connect error to "+where+": "):
			if _, why, _ := strings.Cut(line, where+": "); why == "-1" || why == "0" {
				o = Opinion{Rejected, "the TLS handshake failed"}
			} else {
				o = Opinion{NoVerdict, why}
			}
		case strings.HasPrefix(line, "warning: TLS library problem: ") && o.Verdict == Rejected && o.Why == "the TLS handshake failed":
			o.Why += ": " + strings.TrimPrefix(line, "warning: TLS library problem: ")
		case o.Verdict == Verified && (strings.HasPrefix(line, "SMTP service not available: ") || strings.HasPrefix(line, "EHLO rejected: ") ||
			strings.HasPrefix(line, "lost connection while ") || strings.HasPrefix(line, "timeout while ")):
			o = Opinion{GaveUp, line}
		case strings.HasPrefix(line, "Failed to establish session to "), strings.HasPrefix(line, "cannot load Certification Authority data"),
			strings.HasPrefix(line, "fatal: "):
			o = Opinion{NoVerdict, line}
		}
	}
	o.Why = Tidy(o.Why)
	return o
}

// weigh adds the opinion of Postfix to what the dialogue found. Postfix decides what Go could not judge; what Go
// accepts must be verified by Postfix too.
func (t *Transcript) weigh(o Opinion) {
	t.Postfix = o
	notJudged := t.Cause == NotJudged || t.Cause == CertificateRules
	switch o.Verdict {
	case Verified, GaveUp:
		if (notJudged || t.Failed == StepTLS) && (o.Verdict == Verified || t.EHLO.positive() && t.EHLOAgain.positive() == !t.Implicit) {
			t.Failed, t.Cause, t.Why = StepNone, CauseNone, ""
		}
	case Rejected:
		if t.OK() || notJudged {
			if t.Failed == StepNone {
				t.Failed = StepPostfix
			}
			t.Cause, t.Why = RefusedByPostfix, "Postfix: "+o.Why
		}
	case NoVerdict:
		if t.OK() {
			t.Failed, t.Ours, t.Why = StepPostfix, true, "posttls-finger: "+o.Why
		}
	case NotAsked:
	}
}

// limited keeps the beginning of what is written to it. It has no ReadFrom, which io.Copy would use instead of Write.
type limited struct {
	kept strings.Builder
	left int
}

// Write implements io.Writer.
func (l *limited) Write(b []byte) (int, error) {
	keep := min(len(b), l.left)
	l.left -= keep
	l.kept.Write(b[:keep])
	return len(b), nil
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
