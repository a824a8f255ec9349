package doctor

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/policyd/policyd/internal/postfix"
	"github.com/policyd/policyd/socketmap"
)

// checkConnections tests the connection from Postfix to policyd, for every table in main.cf: directly, and with
// Postfix's own client. Without any table, it tests the endpoint that postfix-config would write.
func (e *exam) checkConnections(ctx context.Context) {
	policies, _ := e.asking(policyMaps)
	transports, _ := e.asking(transportMaps)
	asked := slices.DeleteFunc(append(policies, transports...), func(t table) bool { return !t.asks })
	if len(asked) == 0 {
		asked = []table{{endpoint: e.endpoint, name: "tls-policy"}}
	}
	broken := map[string]bool{} // the endpoints that have a finding already
	for i, t := range asked {
		same := func(other table) bool { return other.endpoint == t.endpoint && other.name == t.name }
		switch {
		case slices.ContainsFunc(asked[:i], same), broken[t.endpoint]:
		case e.canConnect(t.endpoint) && e.answers(ctx, t.endpoint, t.name):
			// postmap(1) does not run in the queue directory.
			table := postfix.SocketmapTable(e.params.Outside(t.endpoint), t.name)
			if _, err := e.commands.Query(ctx, table, []string{notNexthop}); err != nil {
				e.found("postmap-fails", err.Error(), "postmap -q example.com "+quoted(table))
			} else {
				e.found("postmap-answers", "postmap -q "+notNexthop+" "+table+" answers")
			}
		default:
			broken[t.endpoint] = true
		}
	}
}

// canConnect reports whether Postfix's processes can connect at all: to a unix socket, or to an address of that family.
func (e *exam) canConnect(at string) bool {
	path, unix := strings.CutPrefix(e.params.Outside(at), "unix:")
	if e.barred(at) {
		code, what := "socket-outside-chroot", at+" in "+e.mainCF()
		if !unix {
			code, what = "socket-forbidden",
				shown("inet_protocols", e.params["inet_protocols"])+": Postfix cannot connect to "+at
		}
		change := []string{correct}
		if socket := e.queue + "/policyd/sock"; e.endpoint == at { // there is no other
			change = append([]string{e.listener(`listen = ["unix:`+socket+`"]`, "ListenStream="+socket)}, change...)
		}
		e.found(code, what, change...)
		return false
	}
	if !unix {
		return true
	}
	group := e.params["mail_owner"]
	why := forbidden(path, group)
	if why != "" {
		e.found("socket-forbidden", why, e.listener(`socket_group = "`+group+`"`, "SocketGroup="+group))
	}
	return why == ""
}

// listener returns where to change a listener: in the settings, unless the daemon has listeners that the settings do
// not name. Then systemd has passed them, and its unit must be changed.
func (e *exam) listener(setting, unit string) string {
	passed := func(address string) bool { return !slices.Contains(e.Settings.Server.Listen, address) }
	if slices.ContainsFunc(e.daemon.Connections.Listeners, passed) {
		return "systemctl edit policyd.socket    # [Socket] " + unit
	}
	return e.setting("server", setting)
}

// lookup makes one request directly.
func (e *exam) lookup(ctx context.Context, at, name, key string) (socketmap.Reply, error) {
	client, err := socketmap.Dial(ctx, strings.TrimPrefix(e.params.Outside(at), "inet:"))
	if err != nil {
		return socketmap.Reply{}, err
	}
	defer func() { _ = client.Close() }()
	return client.Lookup(ctx, socketmap.Request{Map: name, Key: key})
}

// notNexthop is a key that is answered without any lookup.
const notNexthop = "[192.0.2.1]"

// answers reports whether policyd answers at an endpoint.
func (e *exam) answers(ctx context.Context, at, name string) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	const elsewhere = "# or, if policyd does not listen there:"
	reply, err := e.lookup(ctx, at, name, notNexthop)
	switch {
	case err != nil:
		e.found("socket-silent", at+": "+err.Error(),
			"systemctl start policyd.socket policyd.service", elsewhere, correct)
	case reply.Status != socketmap.StatusNotFound:
		e.found("socket-not-policyd", fmt.Sprintf("%s, map %s answers %q for %s", at, name, reply.String(), notNexthop),
			"ss -lp    # shows which program that is", elsewhere, correct)
	default:
		e.found("socket-answers", "map "+name+" at "+at+" answers")
		return true
	}
	return false
}

// forbidden returns the reason why a user may not connect to a unix socket; "" if the user may, or if that is unknown.
func forbidden(path, owner string) string {
	u, err := user.Lookup(owner)
	if err != nil {
		return ""
	}
	groups, err := u.GroupIds()
	if err != nil {
		return ""
	}
	const enter, write fs.FileMode = 1, 2
	what := " may not write to "
	for at, bit := path, write; ; at, bit, what = filepath.Dir(at), enter, " may not enter " {
		info, err := os.Stat(at)
		if err != nil {
			return ""
		}
		const user, group = 6, 3
		if st, ok := info.Sys().(*syscall.Stat_t); ok && strconv.Itoa(int(st.Uid)) == u.Uid {
			bit <<= user
		} else if ok && slices.Contains(groups, strconv.Itoa(int(st.Gid))) {
			bit <<= group
		}
		switch {
		case info.Mode().Perm()&bit == 0:
			return "user " + owner + what + at
		case at == filepath.Dir(at):
			return ""
		}
	}
}
