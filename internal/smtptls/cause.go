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
	Banner             Cause = "banner"
	NoAddress          Cause = "no address"
	AddressNotAllowed  Cause = "address not allowed"
)

// Causes lists every cause but CauseNone.
func Causes() []Cause {
	return []Cause{
		Refused, Timeout, Plaintext, TLSHandshake, CertificateName, CertificateChain, CertificateExpired, Banner, NoAddress, AddressNotAllowed,
	}
}
