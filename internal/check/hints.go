package check

import (
	"cmp"
	"net"
	"strconv"
	"strings"

	"github.com/policyd/policyd/internal/dane"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/stub"
	"github.com/policyd/policyd/prefix"
)

// hints say what to publish, as lines for a zone file.
func (d *domain) hints() {
	if d.Set == "none" || d.Set == "mixed" {
		d.hintPrefix()
	}
	for _, h := range d.hosts {
		d.hintTLSA(h)
	}
	if d.Set == "none" {
		return
	}
	if d.TLSRPT.State == "absent" {
		d.find("publish-tlsrpt", about{zone: []string{
			"_smtp._tls." + d.Domain + `. IN TXT "v=TLSRPTv1; rua=mailto:tls-reports@` + d.Domain + `"`,
		}}, "ask senders to report TLS failures")
	}
	if d.DNSSEC == dns.Insecure.String() && d.Resolver.Result == stub.Validating.String() {
		d.find("sign-zone", about{}, "sign the zone with DNSSEC, so that an attacker cannot hide the prefix")
	}
}

// hintPrefix shows the records that give a prefix to hosts below the domain that keep the promise already, except for
// the name in the certificate.
func (d *domain) hintPrefix() {
	var zone []string
	for _, h := range d.hosts {
		if h.class != prefix.None || !h.Valid || !strings.HasSuffix(h.Host.Host, "."+d.Domain) || !h.keeps() {
			continue
		}
		name := prefix.STARTTLS.Prefix() + h.Host.Host
		if prefix.Of(name) != prefix.STARTTLS {
			continue
		}
		zone = append(zone, d.Domain+". IN MX "+strconv.Itoa(int(h.Preference))+" "+name+".")
		for _, a := range h.addrs {
			kind := "A"
			if a.Is6() {
				kind = "AAAA"
			}
			zone = append(zone, name+". IN "+kind+" "+a.String())
		}
	}
	switch {
	case len(zone) == 0:
	case d.Set == "mixed":
		d.find("publish-prefix-everywhere", about{zone: zone},
			"give the other hosts a prefix too: get certificates for the new names, then publish")
	default:
		d.find("publish-prefix", about{zone: zone},
			"promise what the hosts already do: get certificates for the new names, then publish")
	}
}

// keeps reports whether port 25 of a host did all that the prefix starttls- promises, wherever it was tested.
func (h *host) keeps() bool {
	spoken := h.spoken(false)
	right := 0
	for i := range spoken {
		switch t := &spoken[i]; {
		case t.OK():
			right++
		case !t.Ours:
			return false
		}
	}
	return right > 0
}

// hintTLSA shows the TLSA records for the port of implicit TLS where there are some for port 25 only.
func (d *domain) hintTLSA(h *host) {
	if h.TLSA26 == nil || h.dane.State != dane.Usable || h.dane26.State != dane.Absent {
		return
	}
	port := d.o.Policy.Port
	var zone []string
	for _, t := range h.spoken(true) {
		if t.Session == nil || len(t.Session.Chain) == 0 {
			continue
		}
		line := "_" + strconv.Itoa(int(port)) + "._tcp." + h.Host.Host + ". IN TLSA " + record(t.Session.Chain[0])
		if len(zone) == 0 || zone[len(zone)-1] != line {
			zone = append(zone, line)
		}
	}
	if len(zone) > 0 {
		d.find("publish-tlsa-26", about{host: h.Host.Host, port: port, zone: zone},
			"publish TLSA records for the port of implicit TLS as well")
	}
}

// commands returns posttls-finger(1) commands that repeat the tests manually.
func (d *domain) commands() {
	roots := cmp.Or(d.o.CAFile, "/etc/ssl/certs/ca-certificates.crt")
	for _, h := range d.hosts {
		for _, t := range h.heard {
			if t.skipped != "" {
				continue
			}
			where := d.dialogue("", &t).Addr
			to := "[" + where.Addr().String() + "]"
			if where.Addr().Is6() {
				to = "[ipv6:" + where.Addr().String() + "]"
			}
			wrapper := ""
			if t.implicit {
				wrapper = " -w"
			}
			d.Commands = append(d.Commands, "posttls-finger -c"+wrapper+" -l secure -F "+shellWord(roots)+" -s "+
				h.Host.Host+
				` "`+to+net.JoinHostPort("", strconv.Itoa(int(where.Port())))+`" `+h.Host.Host)
		}
	}
}

// shellWord quotes a path for a shell, where it must be.
func shellWord(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
