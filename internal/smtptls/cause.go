package smtptls

// Cause says in a word or two why an address failed. It is shown to people and is a label of metrics.
type Cause string

// The causes. CauseNone, the zero value, is that of a dialogue that went well.
const (
	CauseNone          Cause = ""
	Refused            Cause = "refused"
	Timeout            Cause = "timeout"
	Plaintext          Cause = "plaintext"
	TLSHandshake       Cause = "tls handshake"
	CertificateName    Cause = "certificate name"
	CertificateChain   Cause = "certificate chain"
	CertificateExpired Cause = "certificate expired"
	// CertificateRules is for what Go accepts and OpenSSL, and so Postfix, refuses.
	CertificateRules Cause = "certificate rules"
	// RefusedByPostfix is for what Postfix's own TLS client refused.
	RefusedByPostfix Cause = "refused by postfix"
	// NotJudged is for what Go cannot judge and Postfix may accept: it says nothing against the server.
	NotJudged         Cause = "not judged"
	Banner            Cause = "banner"
	NoAddress         Cause = "no address"
	AddressNotAllowed Cause = "address not allowed"
)

// Causes lists every cause but CauseNone.
func Causes() []Cause {
	return []Cause{
		Refused, Timeout, Plaintext, TLSHandshake, CertificateName, CertificateChain, CertificateExpired,
		CertificateRules,
		RefusedByPostfix, NotJudged, Banner, NoAddress, AddressNotAllowed,
	}
}
