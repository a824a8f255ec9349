package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/policyd/policyd/e2e/daemon"
	"github.com/policyd/policyd/e2e/lab/zone"
	"github.com/policyd/policyd/e2e/must"
)

// AuthorityAddr is where the lab's name server answers for all zones. Most resolvers only ask on port 53.
//
//nolint:gochecknoglobals // netip has no constants
var AuthorityAddr = netip.MustParseAddrPort("127.0.0.100:53")

// Server is a DNS server: a resolver of this machine or of a tree of packages, or the name server of all zones.
type Server struct {
	Name string
	Addr netip.AddrPort
	// Behind is the resolver that this one forwards to; it must run while this one does.
	Behind *Server

	*daemon.Process
	command daemon.Command
	dir     string            // the directory of its own files, emptied at each start
	files   map[string]string // configuration files by name
}

// Start starts the server with an empty cache and waits until it answers.
func (s *Server) Start(ctx context.Context) error {
	return must.Catch(func() {
		must.Do(os.RemoveAll(s.dir))
		for name, text := range s.files {
			must.Do(write(filepath.Join(s.dir, name), text))
		}
		s.Process = must.Get(s.command.Start())
		must.Do(s.Ready(ctx, s.Name+" answers", func(ctx context.Context) error {
			return Ask(ctx, s.Addr, DNSQuestion{"SOA", "test."})
		}))
	})
}

// The resolver of this machine reads the zones as if they came from a server on the network, so that it validates all
// of them from the trust anchor down. The settings that matter are explained in unbound.conf(5).
const (
	localUnbound = `  interface: %s@%d
  qname-minimisation: no
  trust-anchor-file: "%s/anchor"
remote-control:
  control-enable: yes
  control-interface: "%s/control"
`
	localZone = `auth-zone:
  name: "%s"
  zonefile: "%s"
  for-upstream: yes
  for-downstream: no
  fallback-enabled: no
`
)

// newUnbound returns a resolver of this machine for the zones of the lab.
func (l *Lab) newUnbound(name, addr string) *Server {
	s := &Server{Name: name, Addr: netip.MustParseAddrPort(addr), dir: filepath.Join(l.Dir, name)}
	var conf strings.Builder
	fmt.Fprintf(&conf, unboundServer+localUnbound, s.dir, s.Addr.Addr(), s.Addr.Port(), l.zones(), s.dir)
	for _, origin := range l.tree.Origins() {
		fmt.Fprintf(&conf, localZone, origin, filepath.Join(l.zones(), zone.File(origin)))
	}
	s.files = map[string]string{"conf": conf.String()}
	s.command = daemon.Command{Path: "unbound", Arguments: []string{"-d", "-c", filepath.Join(s.dir, "conf")}}
	return s
}

// reload makes a running resolver read a zone again and drop its cache for name and the names below it.
func (s *Server) reload(ctx context.Context, origin, name string) {
	for _, order := range [][2]string{{"auth_zone_reload", origin}, {"flush_zone", name}} {
		must.Get(daemon.Output(ctx, "", "unbound-control", "-c", s.dir+"/conf", order[0], order[1]))
	}
}

// Servers enters a tree of packages that has all resolvers, and returns the name server of all zones and the resolvers,
// none of them running. Call it once, after Prepare.
func (l *Lab) Servers(tree string) (authority *Server, resolvers []*Server, err error) {
	err = must.Catch(func() { authority, resolvers = l.servers(enter(tree, l.Dir, "/run", "/tmp", "/var")) })
	return authority, resolvers, err
}

func (l *Lab) servers(system string) (*Server, []*Server) {
	// named listens only on addresses of an interface.
	must.Get(daemon.Output(context.Background(), "", "ip", "address", "add", AuthorityAddr.Addr().String()+"/32", "dev",
		"lo"))
	ds := strings.Fields(l.tree.Anchor())[3:] // key tag, algorithm, digest type, digest
	hints := ". 600 IN NS ns.\nns. 600 IN A " + AuthorityAddr.Addr().String() + "\n"
	port := uint16(5400)
	server := func(name string, behind *Server, conf, command string) *Server {
		port++
		s := &Server{Name: name, Addr: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port), Behind: behind,
			dir: filepath.Join(l.Dir, name)}
		forward := ""
		if behind != nil {
			forward = strconv.Itoa(int(behind.Addr.Port()))
		}
		fill := strings.NewReplacer("DIR", "/lab/"+name, "PORT", strconv.Itoa(int(port)), "UPSTREAM", forward,
			"AUTHORITY", AuthorityAddr.Addr().String(), "ANCHOR", strings.Join(ds, " "),
			"COMMAS", strings.Join(ds, ","), "QUOTED", fmt.Sprintf("%s %s %s %q", ds[0], ds[1], ds[2], ds[3]))
		conf = fill.Replace(conf)
		// PowerDNS requires these names.
		s.files = map[string]string{"conf": conf, "recursor.conf": conf, "anchor.lua": fill.Replace(powerDNSAnchor),
			"root.hints": hints, "anchor": l.tree.Anchor()}
		words := strings.Fields(fill.Replace(command))
		s.command = daemon.Command{Root: system, Path: words[0], Arguments: words[1:]}
		return s
	}
	var zones strings.Builder
	for _, origin := range l.tree.Origins() {
		fmt.Fprintf(&zones, "zone %q { type primary; file \"/lab/zones/%s\"; };\n", origin, zone.File(origin))
	}
	const named, dnsmasq = "/usr/sbin/named -g -n 1 -c DIR/conf", "/usr/sbin/dnsmasq -k --conf-file=DIR/conf"
	authority := server("authority", nil, authorityConfig+zones.String(), named)
	authority.Addr = AuthorityAddr
	unbound := server("unbound", nil, fmt.Sprintf(unboundServer, "DIR")+unboundResolver,
		"/usr/sbin/unbound -d -p -c DIR/conf")
	return authority, []*Server{
		unbound,
		server("bind", nil, bindResolver, named),
		server("knot", unbound, knotResolver, "/usr/sbin/kresd -n -c DIR/conf DIR"),
		server("powerdns", nil, powerDNSConfig, "/usr/sbin/pdns_recursor --config-dir=DIR"),
		server("dnsmasq", unbound, dnsmasqConfig+"dnssec\ntrust-anchor=.,COMMAS\n", dnsmasq),
		server("dnsmasq-proxy", unbound, dnsmasqConfig+"proxy-dnssec\n", dnsmasq),
		server("dnsdist", unbound, dnsdistConfig, "/usr/bin/dnsdist --supervised --disable-syslog -C DIR/conf"),
	}
}

// Names returns the names of all records of the lab.
func (l *Lab) Names() []string { return l.tree.Names() }

const authorityConfig = `options {
  directory "DIR"; listen-on port 53 { AUTHORITY; }; listen-on-v6 { none; };
  recursion no; allow-query { any; }; dnssec-validation no; pid-file none; minimal-responses yes; notify no;
  check-names primary ignore; check-mx ignore; check-mx-cname ignore; check-integrity no; check-sibling no;
};
controls {};
`

// unboundServer is common to all resolvers with Unbound.
const unboundServer = `server:
  directory: "%s"
  do-not-query-localhost: no
  use-syslog: no
  username: ""
  chroot: ""
  pidfile: ""
  module-config: "validator iterator"
  local-zone: "test." nodefault
  ede: yes
  val-bogus-ttl: 1
  num-threads: 1
`

const unboundResolver = `  interface: 127.0.0.1@PORT
  trust-anchor-file: "DIR/anchor"
  root-hints: "DIR/root.hints"
`

const bindResolver = `options {
  directory "DIR"; listen-on port PORT { 127.0.0.1; }; listen-on-v6 { none; };
  recursion yes; allow-query { any; }; dnssec-validation yes; pid-file none; empty-zones-enable no;
};
trust-anchors { . static-ds QUOTED; };
zone "." { type hint; file "DIR/root.hints"; };
controls {};
`

const knotResolver = `net.listen('127.0.0.1', PORT, { kind = 'dns' })
modules.unload('ta_update')
modules.unload('ta_signal_query')
modules.unload('priming')
trust_anchors.remove('.')
trust_anchors.add('. 600 IN DS ANCHOR')
policy.add(policy.all(policy.FORWARD({'127.0.0.1@UPSTREAM'})))
cache.open(20 * MB, 'lmdb://DIR/cache')
`

const powerDNSConfig = `local-address=127.0.0.1
local-port=PORT
allow-from=127.0.0.0/8
dont-query=
hint-file=DIR/root.hints
dnssec=validate
lua-config-file=DIR/anchor.lua
security-poll-suffix=
socket-dir=DIR
daemon=no
disable-syslog=yes
threads=1
version-string=
`

const powerDNSAnchor = `clearTA()
addTA('.', 'ANCHOR')
`

const dnsmasqConfig = `port=PORT
listen-address=127.0.0.1
bind-interfaces
no-resolv
no-hosts
user=root
pid-file=
cache-size=10000
server=127.0.0.1#UPSTREAM
log-facility=-
`

const dnsdistConfig = `setLocal('127.0.0.1:PORT')
setSecurityPollSuffix('')
newServer({address = '127.0.0.1:UPSTREAM', checkName = 'test.', checkType = 'SOA'})
getPool(''):setCache(newPacketCache(10000))
`
