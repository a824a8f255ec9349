package stub

import (
	"strconv"
	"strings"

	"github.com/policyd/policyd/internal/dns"
)

// hostName returns a name from a message in the form that RRset uses.
func hostName(name string) string { return dns.TrimRoot(dns.Lower(name)) }

// unescape reverses the escapes that the library uses in TXT data.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		if i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 10, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		i++
		b.WriteByte(s[i])
	}
	return b.String()
}
