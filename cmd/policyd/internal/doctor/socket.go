package doctor

import (
	"context"
	"errors"
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

	"github.com/policyd/policyd/socketmap"
)

// checkConnections tests the connection from Postfix to policyd, for every endpoint in main.cf. Without any, it tests
// the endpoint that postfix-config would write.
func (e *exam) checkConnections(ctx context.Context) {
	type use struct{ endpoint, name string }
	var uses []use
	for _, parameter := range []string{policyMaps, transportMaps} {
		for _, t := range tables(e.params[parameter]) {
			if u := (use{t.endpoint, t.name}); t.serves(parameter) && !slices.Contains(uses, u) {
				uses = append(uses, u)
			}
		}
	}
	if len(uses) == 0 {
		uses = []use{{e.endpoint, "tls-policy"}}
	}
	reached := map[string]bool{}
	for _, u := range uses {
		ok, tried := reached[u.endpoint]
		if !tried {
			ok = e.reach(u.endpoint)
		}
		ok = ok && e.answer(ctx, u.endpoint, u.name)
		reached[u.endpoint] = ok
		if ok {
			e.postmap(ctx, u.endpoint, u.name)
		}
	}
}

// reach reports whether Postfix's processes can get to a unix socket at all.
func (e *exam) reach(at string) bool {
	path, unix := strings.CutPrefix(at, "unix:")
	if !unix {
		return true
	}
	if filepath.IsAbs(path) && slices.ContainsFunc(e.services,
		func(svc service) bool { return svc.chroot && asks(svc) }) {
		change := []string{"# in " + e.mainCF() + ": " + endpointOf([]string{at}, e.queue) + " in place of " + at}
		if !strings.HasPrefix(path, e.queue+"/") {
			inside := e.queue + "/policyd/sock"
			change = []string{e.listener(`listen = ["unix:`+inside+`"]`, "ListenStream="+inside),
				"# and in " + e.mainCF() + ": unix:policyd/sock in place of " + at}
		}
		e.found("socket-outside-chroot", at+" in "+e.mainCF(), change...)
		return false
	}
	if why := forbidden(e.absolute(at), e.params["mail_owner"]); why != "" {
		group := e.params["mail_owner"]
		e.found("socket-forbidden", why, e.listener(`socket_group = "`+group+`"`, "SocketGroup="+group))
		return false
	}
	return true
}

// listener returns where to change a listener: in the settings, unless the daemon has listeners that the settings do
// not name. Then systemd has passed them, and its unit must be changed.
func (e *exam) listener(setting, unit string) string {
	for _, address := range e.listeners(e.daemon) {
		if !slices.Contains(e.Settings.Server.Listen, address) {
			return "systemctl edit policyd.socket    # [Socket] " + unit
		}
	}
	return e.setting("server", setting)
}

// asks reports whether a service is one of those that ask policyd.
func asks(svc service) bool {
	return slices.Contains([]string{"smtp", "trivial-rewrite"}, svc.command)
}

// absolute returns the path of a unix socket as it is outside the chroot.
func (s *setup) absolute(at string) string {
	path := strings.TrimPrefix(at, "unix:")
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(s.queue, path)
}

// dialable returns an endpoint as socketmap.Dial takes it.
func (s *setup) dialable(at string) string {
	if address, ok := strings.CutPrefix(at, "inet:"); ok {
		return address
	}
	return "unix:" + s.absolute(at)
}

// notNexthop is a key that is answered without any lookup.
const notNexthop = "[192.0.2.1]"

// answer asks one question directly.
func (e *exam) answer(ctx context.Context, at, name string) bool {
	const longest = 5 * time.Second
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	change := []string{"systemctl start policyd.socket policyd.service"}
	if e.endpoint != at {
		change = append(change, "# or, because policyd listens at "+e.endpoint+":",
			"policyd postfix-config --commands | sh")
	}
	silent := func(err error) bool {
		e.found("socket-silent", at+": "+err.Error(), change...)
		return false
	}
	client, err := socketmap.Dial(ctx, e.dialable(at))
	if err != nil {
		return silent(err)
	}
	defer func() { _ = client.Close() }()
	reply, err := client.Lookup(ctx, socketmap.Request{Map: name, Key: notNexthop})
	if err != nil {
		return silent(err)
	}
	if reply.Status != socketmap.StatusNotFound {
		e.found("socket-not-policyd", fmt.Sprintf("%s, map %s answers %q for %s", at, name, reply.String(), notNexthop),
			append([]string{"ss -lp    # shows which program that is"}, change[1:]...)...)
		return false
	}
	e.found("socket-answers", "map "+name+" at "+at+" answers")
	return true
}

// postmap asks the same question with Postfix's own client.
func (e *exam) postmap(ctx context.Context, at, name string) {
	address := at
	if strings.HasPrefix(at, "unix:") {
		address = "unix:" + e.absolute(at) // postmap does not run in the queue directory
	}
	table := socketmapTable(address, name)
	if _, err := e.commands.Query(ctx, table, []string{notNexthop}); err != nil {
		e.found("postmap-fails", err.Error(), "postmap -q example.com "+quoted(table))
		return
	}
	e.found("postmap-answers", "postmap -q "+notNexthop+" "+table+" answers")
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
	const search, write = 1, 2
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if !permits(dir, u.Uid, groups, search) {
			return "user " + owner + " may not enter " + dir
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	if !permits(path, u.Uid, groups, write) {
		return "user " + owner + " may not write to " + path
	}
	return ""
}

// permits reports whether the permissions of a file allow something; true if they cannot be read.
func permits(path, uid string, groups []string, bit fs.FileMode) bool {
	info, err := os.Stat(path)
	if err != nil {
		return !errors.Is(err, fs.ErrPermission) || os.Geteuid() != 0
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return true
	}
	const user, group = 6, 3
	switch {
	case strconv.FormatUint(uint64(st.Uid), 10) == uid:
		bit <<= user
	case slices.Contains(groups, strconv.FormatUint(uint64(st.Gid), 10)):
		bit <<= group
	}
	return info.Mode().Perm()&bit != 0
}
