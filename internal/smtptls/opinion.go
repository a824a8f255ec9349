package smtptls

import "context"

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

// weigh adds the opinion of Postfix to what the dialogue found. Postfix decides what Go could not judge; what Go
// accepts must be verified by Postfix too.
func (t *Transcript) weigh(o Opinion) {
	t.Postfix = o
	notJudged := t.Cause == NotJudged || t.Cause == CertificateRules
	switch o.Verdict {
	case Verified, GaveUp:
		if (notJudged || t.Failed == StepTLS) && (o.Verdict == Verified ||
			t.EHLO.positive() && t.EHLOAgain.positive() == !t.Implicit) {
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
