// Package prefix reads the promise in the name of an MX host.
//
// # The MX-prefix proposal
//
// A receiver of mail makes a promise by the first label of the names of its MX hosts: "starttls-" promises STARTTLS
// with a valid certificate on port 25, and "smtps-" promises the same and also implicit TLS on port 26. A certificate
// is valid if its chain ends at a trusted root, it is in date, and it names the MX host including the prefix.
//
// The name in the RDATA of the MX record counts, never the target of a CNAME. The list of prefixes is closed.
//
// # Use
//
// [Of] returns the [Class] of a host name; the methods of Class describe its promise. [ValidHost] reports whether
// Postfix accepts a host name. A domain without MX records, a null MX and an address literal promise nothing: do not
// call Of for them.
package prefix

import "strings"

// The ports of the promises. Sender and receiver may agree on another port for implicit TLS.
const (
	SMTPPort        = 25
	ImplicitTLSPort = 26
)

// Class is the promise of a host name.
type Class uint8

// The classes. The zero value None promises nothing.
const (
	None Class = iota
	STARTTLS
	SMTPS
)

// class describes a Class.
type class struct {
	name, prefix, promise string
	implicitTLS           bool
}

// classes returns the description of every Class. A new prefix needs a constant above, a line here, and the constant in
// Classes.
func classes() []class {
	return []class{
		None:     {name: "none", promise: "nothing"},
		STARTTLS: {"starttls", "starttls-", "STARTTLS", false},
		SMTPS:    {"smtps", "smtps-", "STARTTLS and implicit TLS", true},
	}
}

// Classes returns the classes that promise something.
func Classes() []Class { return []Class{STARTTLS, SMTPS} }

func (c Class) class() class {
	if all := classes(); int(c) < len(all) {
		return all[c]
	}
	return classes()[None]
}

// String returns the name of the class: none, starttls or smtps.
func (c Class) String() string { return c.class().name }

// Prefix returns what names of this class begin with, such as "smtps-", and "" for None.
func (c Class) Prefix() string { return c.class().prefix }

// Promise returns the promise in words, such as "STARTTLS and implicit TLS".
func (c Class) Promise() string { return c.class().promise }

// Promises reports whether the class promises TLS with a valid certificate on this port: STARTTLS on port 25,
// implicit TLS on any other port, because that port is a matter of agreement.
func (c Class) Promises(port uint16) bool {
	return c.class().implicitTLS || c.Prefix() != "" && port == SMTPPort
}

// ImplicitTLS reports whether the class promises implicit TLS.
func (c Class) ImplicitTLS() bool { return c.class().implicitTLS }

// Of returns the class of a host name, in any case and with or without a final dot. Letters, digits and hyphens must
// follow the prefix within the first label, and no hyphen may follow it directly or end the label; only the first
// prefix counts. A name that is not a valid host name is None.
func Of(host string) Class {
	host = strings.TrimSuffix(host, ".")
	label, _, _ := strings.Cut(host, ".")
	for _, c := range Classes() {
		p := c.Prefix()
		if len(label) <= len(p) || !strings.EqualFold(label[:len(p)], p) {
			continue
		}
		if label[len(p)] == '-' || strings.Contains(label, "_") || !ValidHost(host) {
			return None
		}
		return c
	}
	return None
}

// ValidHost reports whether Postfix accepts s as a host name: labels of 1 to 63 letters, digits, hyphens and
// underscores, none of which begins or ends with a hyphen, at most 253 octets, no final dot, and not only digits and
// dots, which would be an address (RFC 1123 section 2.1). An invalid host name in a route makes smtp(8) exit, so check
// every name that goes into one.
func ValidHost(s string) bool {
	numeric := true
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			c := label[i]
			letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '-' || c == '_'
			if !letter && (c < '0' || c > '9') {
				return false
			}
			numeric = numeric && !letter
		}
	}
	return !numeric && len(s) <= 253
}
