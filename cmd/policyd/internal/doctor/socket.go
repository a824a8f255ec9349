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

// connections tests the connection from Postfix to policyd, for every endpoint in main.cf. Without any, it tests the endpoint
// that postfix-config would write.
func (e *exam) connections(ctx context.Context) {
	type use struct{ endpoint, name string }
	var uses []use
	for _, p := range []struct {
		parameter string
		names     []string
	}{{"smtp_tls_policy_maps", tlsNames()}, {"transport_maps", []string{"transport"}}} {
		list := tables(e.setup.params[p.parameter])
		for _, i := range policydTables(list, p.names) {
			if u := (use{list[i].endpoint, list[i].name}); !slices.Contains(uses, u) {
				uses = append(uses, u)
			}
		}
	}
	if len(uses) == 0 {
		uses = []use{{string(e.endpoint()), "tls-policy"}}
	}
	reached := map[string]bool{}
	for _, u := range uses {
		if ok, tried := reached[u.endpoint]; !tried {
			ok = e.reach(u.endpoint)
			reached[u.endpoint] = ok && e.answer(ctx, u.endpoint, u.name)
		} else if ok {
			reached[u.endpoint] = e.answer(ctx, u.endpoint, u.name)
		}
		if reached[u.endpoint] {
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
	s := e.setup
	if filepath.IsAbs(path) && slices.ContainsFunc(s.services, func(svc service) bool { return svc.chroot && asks(svc) }) {
		change := []string{"# in " + s.mainCF() + ": " + string(endpointOf([]string{at}, s.queue)) + " in place of " + at}
		if !strings.HasPrefix(path, s.queue+"/") {
			inside := s.queue + "/policyd/sock"
			change = []string{e.listener(`listen = ["unix:`+inside+`"]`, "ListenStream="+inside), "# and in " + s.mainCF() + ": unix:policyd/sock in place of " + at}
		}
		e.found("socket-outside-chroot", at+" in "+s.mainCF(), change...)
		return false
	}
	if why := forbidden(s.absolute(at), s.params["mail_owner"]); why != "" {
		group := s.params["mail_owner"]
		e.found("socket-forbidden", why, e.listener(`socket_group = "`+group+`"`, "SocketGroup="+group))
		return false
	}
	return true
}

// listener returns where to change a listener: in the settings, unless the daemon has listeners that the settings do not
// name. Then systemd has passed them, and its unit must be changed.
func (e *exam) listener(setting, unit string) string {
	for _, address := range e.daemon.status.Connections.Listeners {
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
	if e.endpoint() != endpoint(at) {
		change = append(change, "# or, because policyd listens at "+string(e.endpoint())+":", "policyd postfix-config --commands | sh")
	}
	silent := func(err error) bool {
		e.found("socket-silent", at+": "+err.Error(), change...)
		return false
	}
	client, err := socketmap.Dial(ctx, e.setup.dialable(at))
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
		address = "unix:" + e.setup.absolute(at) // postmap does not run in the queue directory
	}
	table := "socketmap:" + address + ":" + name
	if _, err := e.setup.commands.Query(ctx, table, []string{notNexthop}); err != nil {
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
