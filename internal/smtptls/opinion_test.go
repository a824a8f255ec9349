package smtptls

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// An open host needs the verdicts of both; what Go cannot judge is for Postfix to decide.
func TestWeigh(t *testing.T) {
	t.Parallel()
	sound := Reply{Code: 250}
	for name, c := range map[string]struct {
		t       Transcript
		verdict PostfixVerdict
		ok      bool
		cause   Cause
		ours    bool
	}{
		"both accept":                               {Transcript{}, Verified, true, CauseNone, false},
		"Postfix refuses":                           {Transcript{}, Rejected, false, RefusedByPostfix, false},
		"Postfix has no verdict":                    {Transcript{}, NoVerdict, false, CauseNone, true},
		"Postfix is not asked":                      {Transcript{}, NotAsked, true, CauseNone, false},
		"not judged, Postfix accepts":               {Transcript{Failed: StepTLS, Cause: NotJudged}, Verified, true, CauseNone, false},
		"not judged, Postfix refuses":               {Transcript{Failed: StepTLS, Cause: NotJudged}, Rejected, false, RefusedByPostfix, false},
		"not judged, Postfix has no verdict":        {Transcript{Failed: StepTLS, Cause: NotJudged}, NoVerdict, false, NotJudged, false},
		"not judged, Postfix verifies, no EHLO":     {Transcript{Failed: StepTLS, Cause: NotJudged}, GaveUp, false, NotJudged, false},
		"not judged, Postfix is not asked":          {Transcript{Failed: StepTLS, Cause: NotJudged}, NotAsked, false, NotJudged, false},
		"a rule of OpenSSL, OpenSSL accepts":        {Transcript{Failed: StepCertificate, Cause: CertificateRules}, Verified, true, CauseNone, false},
		"a rule of OpenSSL, EHLO 503 for Postfix":   {Transcript{Failed: StepCertificate, Cause: CertificateRules, Implicit: true, EHLO: sound}, GaveUp, true, CauseNone, false},
		"a wrong name, Postfix accepts":             {Transcript{Failed: StepCertificate, Cause: CertificateName}, Verified, false, CertificateName, false},
		"an unknown authority, Postfix accepts":     {Transcript{Failed: StepCertificate, Cause: CertificateChain}, Verified, false, CertificateChain, false},
		"an expired certificate, Postfix refuses":   {Transcript{Failed: StepCertificate, Cause: CertificateExpired}, Rejected, false, CertificateExpired, false},
		"both accept TLS, EHLO differs for Postfix": {Transcript{Implicit: true, EHLO: sound}, GaveUp, true, CauseNone, false},
	} {
		c.t.Connected = true
		c.t.weigh(Opinion{c.verdict, "why"})
		require.Equal(t, c.ok, c.t.OK(), name)
		require.Equal(t, c.cause, c.t.Cause, name)
		require.Equal(t, c.ours, c.t.LocalFailure(), name)
		require.Equal(t, c.verdict, c.t.Postfix.Verdict, name)
	}
}
