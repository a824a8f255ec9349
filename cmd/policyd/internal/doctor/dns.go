package doctor

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/policyd/policyd/internal/regfile"
	"github.com/policyd/policyd/internal/stub"
)

// checkResolver runs the self-test of the resolver and returns its servers.
func (e *exam) checkResolver(ctx context.Context) stub.State {
	o := e.Settings.Stub(quiet())
	o.ResolvConf = e.ResolvConf
	tested, err := stub.New(o)
	if err != nil {
		e.found("resolver-silent", err.Error())
		return stub.State{}
	}
	tested.SelfTest(ctx)
	st := tested.State()
	servers := strings.Join(st.Servers, ", ")
	const install = "apt-get install unbound    # a validating resolver on this machine"
	use := "echo nameserver 127.0.0.1 > " + e.ResolvConf
	if st.Source != e.ResolvConf {
		use = e.setting("dns", `servers = ["127.0.0.1"]`)
	}
	switch st.Result {
	case stub.Validating:
		e.found("resolver-validating", servers+" (from "+st.Source+") validates and is trusted")
	case stub.NotTrusted:
		e.found("resolver-untrusted", servers+" (from "+st.Source+") is not trusted: "+st.Reason, install, use)
	case stub.NotValidating:
		e.found("resolver-not-validating", st.Reason, install, use)
	case stub.EchoesAD:
		e.found("resolver-echoes-ad", st.Reason, install, use)
	case stub.Unknown:
		if answers(st.Reason) {
			e.found("resolver-untested", "the self-test has no result: "+st.Reason)
		} else {
			e.found("resolver-silent", "the self-test has no result: "+st.Reason, "systemctl status unbound", use)
		}
	}
	return st
}

// answers reports whether the server answered something in a self-test without a result.
func answers(reason string) bool {
	return strings.Contains(reason, "SERVFAIL") || strings.Contains(reason, "REFUSED")
}

// checkResolvConf compares the servers of policyd with those of Postfix, which are in resolv.conf and, for chrooted
// services, in its copy.
func (e *exam) checkResolvConf(st stub.State) {
	system := nameservers(e.ResolvConf)
	if st.Source != e.ResolvConf && len(st.Servers) > 0 {
		var own []string
		for _, s := range st.Servers {
			own = append(own, bare(s))
		}
		if slices.Equal(sorted(own), sorted(system)) {
			e.found("resolver-same", "Postfix and policyd ask the same servers: "+strings.Join(st.Servers, ", "))
		} else {
			e.found("resolver-differs", "policyd asks "+strings.Join(st.Servers, ", ")+", and "+e.ResolvConf+" has "+
				strings.Join(system, ", "),
				e.setting("dns", "remove servers"), "# or:", "printf 'nameserver %s\\n' "+strings.Join(own, " ")+" > "+
					e.ResolvConf)
		}
	} else {
		e.found("resolver-same", "Postfix and policyd both follow "+e.ResolvConf)
	}
	if !e.smtpChrooted() {
		return
	}
	inside := filepath.Join(e.queue, "etc/resolv.conf")
	switch there := nameservers(inside); {
	case slices.Equal(there, system):
		e.found("chroot-resolver-same", inside+" has the same servers")
	default:
		what := inside + " has " + strings.Join(there, ", ")
		if _, err := os.Stat(inside); err != nil {
			what = "there is no " + inside + ", which means 127.0.0.1,"
		}
		e.found("chroot-resolver-differs", what+" and "+e.ResolvConf+" has "+strings.Join(system, ", "),
			"systemctl restart postfix", "# or:", "cp "+e.ResolvConf+" "+inside+" && postfix reload")
	}
}

// bare is a server without the port where that is 53.
func bare(server string) string {
	if ap, err := netip.ParseAddrPort(server); err == nil && ap.Port() == 53 {
		return ap.Addr().String()
	}
	return server
}

func sorted(list []string) []string { return slices.Sorted(slices.Values(list)) }

// nameservers reads a resolv.conf(5) as the C library does: three servers at most, and without any the one on this
// machine.
func nameservers(path string) []string {
	text, _ := regfile.Read(path)
	var servers []string
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "nameserver" {
			servers = append(servers, f[1])
		}
	}
	if len(servers) == 0 {
		return []string{"127.0.0.1"}
	}
	const most = 3
	return servers[:min(len(servers), most)]
}
