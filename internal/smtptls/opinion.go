package smtptls

import (
	"cmp"
	"context"
	"errors"
)

// ErrNotJudged is wrapped by errors about certificates that Go cannot judge and OpenSSL may accept.
var ErrNotJudged = errors.New("could not be judged from here")

// Opinion is the result of Postfix's own TLS client for an address. The zero Opinion means that it was not asked. Its
// JSON form is stable.
type Opinion struct {
	Verdict PostfixVerdict `json:"verdict"`
	Why     string         `json:"why"` // the line of posttls-finger(1) that decided, in printable ASCII
}

// PostfixVerdict is the kind of an Opinion.
type PostfixVerdict string

// The verdicts of Postfix. NotAsked, the zero value, is for a machine without posttls-finger(1).
const (
	NotAsked  PostfixVerdict = ""
	Verified  PostfixVerdict = "verified"   // a TLS connection that "secure match=<host>" accepts
	Rejected  PostfixVerdict = "rejected"   // a TLS connection that it does not accept, or that failed
	NoVerdict PostfixVerdict = "no verdict" // a connection that ended before there was a result
	GaveUp    PostfixVerdict = "no service" // a verified TLS connection in which the server did not take EHLO
)

// Judge is the SMTP client whose mail a verdict is for: Postfix on this machine. Both methods end when ctx does.
type Judge interface {
	// Ask connects to the address of d, with the name d.Helo in EHLO, and waits for the result.
	Ask(ctx context.Context, d Dialogue) Opinion
	// Helo returns the name that Postfix uses in EHLO, "" if that is not known.
	Helo(ctx context.Context) string
}

// needsOpinion reports whether the result depends on what Postfix makes of TLS or of the certificate.
func (t *Transcript) needsOpinion() bool {
	return t.Failed == StepNone || t.Failed == StepCertificate ||
		t.Failed == StepTLS && t.Cause != Plaintext && !t.LocalFailure()
}

// weigh adds the opinion of Postfix to what the dialogue found. Postfix decides what Go could not judge; what Go
// accepts must be verified by Postfix too.
func (t *Transcript) weigh(o Opinion) {
	t.Postfix = o
	notJudged := t.Cause == NotJudged || t.Cause == CertificateRules
	switch o.Verdict {
	case Verified, GaveUp:
		ehlo := t.EHLO.positive() && (t.Implicit || t.EHLOAgain.positive()) // this dialogue has shown it
		if (notJudged || t.Failed == StepTLS) && (o.Verdict == Verified || ehlo) {
			t.Failed, t.Cause, t.Why = StepNone, CauseNone, ""
		}
	case Rejected:
		if t.OK() || notJudged {
			t.Failed, t.Cause, t.Why = cmp.Or(t.Failed, StepPostfix), RefusedByPostfix, "Postfix: "+o.Why
		}
	case NoVerdict:
		if t.OK() {
			t.Failed, t.Why = StepPostfix, "posttls-finger: "+o.Why
		}
	case NotAsked:
	}
}
