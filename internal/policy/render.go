package policy

import (
	"strconv"
	"strings"

	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/text"
	"github.com/policyd/policyd/prefix"
	"github.com/policyd/policyd/socketmap"
)

// Reply returns what Postfix gets with ModeEnforce for a decision of Decide or Route. tlsrpt adds what Postfix 3.10 and
// later read about an MTA-STS policy.
func (d *Decision) Reply(o Options, tlsrpt bool) socketmap.Reply {
	switch {
	case d.Verdict == None:
		return socketmap.NotFound()
	case d.Verdict != Apply:
		return socketmap.Temp(d.Failure)
	case len(d.Route) > 0:
		names := make([]string, len(d.Route)) // a list needs Postfix 3.5 or later, transport(5)
		for i, next := range d.Route {
			names[i] = next.String()
		}
		return socketmap.OK(o.Transport + ":" + strings.Join(names, ", "))
	}
	reply := d.TLS.text()
	if tlsrpt && d.TLS.STS != nil {
		reply += reportText(d.TLS.STS)
	}
	return socketmap.OK(reply)
}

// Reply returns what Postfix gets in mode m in place of the reply that was decided.
func (m Mode) Reply(decided socketmap.Reply) socketmap.Reply {
	if m == ModeReport || m == ModeOff {
		return socketmap.NotFound()
	}
	return decided
}

// text renders a policy, postconf(5), smtp_tls_policy_maps. "secure" is never "match=hostname": Postfix may see another
// MX answer, which must not be trusted. The host name is sent as SNI.
func (p TLSPolicy) text() string {
	switch p.Level {
	case LevelLiteral:
		return p.Literal
	case LevelSecure:
		return "secure match=" + strings.Join(p.Match, ":") + " servername=hostname"
	default:
		return string(p.Level)
	}
}

// reportText renders what Postfix reports on, with a space in front: TLSRPT_README, "MTA-STS support via
// smtp_tls_policy_maps". It leaves out what Postfix could not read.
func reportText(r *mtasts.Result) string {
	var b strings.Builder
	b.WriteString(" policy_type=sts policy_domain=" + r.Domain)
	for _, pattern := range r.Policy.MX {
		if prefix.ValidHost(strings.TrimPrefix(pattern, "*.")) {
			b.WriteString(" mx_host_pattern=" + pattern)
		}
	}
	for _, line := range r.Policy.Raw {
		if !strings.ContainsAny(line, "{}") && text.Printable(line) == line && strings.TrimSpace(line) != "" {
			b.WriteString(" { policy_string = " + line + " }")
		}
	}
	if r.Failure != "" {
		b.WriteString(" policy_failure=" + string(r.Failure))
	}
	if b.Len() > 50_000 { // half of the limit for a reply
		return ""
	}
	return b.String()
}

func portText(p uint16) string { return strconv.Itoa(int(p)) }
