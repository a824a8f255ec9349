package doctor

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/policyd/policyd/internal/stub"
)

// checkResolver runs the self-test of the resolver and returns its servers.
func (e *exam) checkResolver(ctx context.Context) stub.State {
	o := e.Settings.Stub(nil)
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
		e.found("resolver-not-validating", st.Reason, "unbound-checkconf -o module-config # validator?", install, use)
	case stub.EchoesAD:
		e.found("resolver-echoes-ad", st.Reason, install, use)
	case stub.Unknown:
		what := "the self-test has no result: " + st.Reason
		if strings.Contains(what, "SERVFAIL") || strings.Contains(what, "REFUSED") { // it answers
			e.found("resolver-untested", what)
		} else {
			e.found("resolver-silent", what, "systemctl status unbound", use)
		}
	}
	return st
}

// checkResolvConf compares the servers of policyd with those of Postfix, which are in resolv.conf and, for chrooted
// services, in its copy.
func (e *exam) checkResolvConf(st stub.State) {
	own, system := st.Servers, nameservers(e.ResolvConf)
	if st.Source == e.ResolvConf || len(own) == 0 {
		own = system
	}
	if slices.Equal(slices.Sorted(slices.Values(own)), slices.Sorted(slices.Values(system))) {
		e.found("resolver-same", "Postfix and policyd ask the same servers: "+strings.Join(own, ", "))
	} else {
		change := []string{e.setting("dns", "remove servers")}
		unnameable := func(s string) bool { return strings.HasPrefix(s, "tls://") || !strings.HasSuffix(s, ":53") }
		if !slices.ContainsFunc(own, unnameable) { // resolv.conf(5) has neither ports nor TLS
			change = append(change, "# or name the same servers in "+e.ResolvConf)
		}
		e.found("resolver-differs",
			"policyd asks "+strings.Join(own, ", ")+", and "+e.ResolvConf+" has "+strings.Join(system, ", "), change...)
	}
	if !e.params.Chrooted(smtp) {
		return
	}
	inside := filepath.Join(e.queue, "etc/resolv.conf")
	if there := nameservers(inside); slices.Equal(there, system) {
		e.found("chroot-resolver-same", inside+" has the same servers")
	} else {
		because := " because of " + inside
		if _, err := os.Stat(inside); err != nil {
			because = " because there is no " + inside
		}
		e.found("chroot-resolver-differs", "smtp(8) uses "+strings.Join(there, ", ")+because+", and "+
			e.ResolvConf+" has "+strings.Join(system, ", "),
			"systemctl restart postfix", "# or:", "cp "+e.ResolvConf+" "+inside+" && postfix reload")
	}
}

// nameservers returns the servers that the C library asks with a resolv.conf(5). A Stub without servers of its own
// reads the file in the same way. A file that cannot be read counts as one without servers.
func nameservers(path string) []string {
	s, err := stub.New(stub.Options{ResolvConf: path})
	if err != nil {
		return []string{"127.0.0.1:53"}
	}
	return s.State().Servers
}
