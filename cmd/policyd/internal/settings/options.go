package settings

import (
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/policyd/policyd/internal/check"
	"github.com/policyd/policyd/internal/dnscache"
	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/postfix"
	"github.com/policyd/policyd/internal/probe"
	"github.com/policyd/policyd/internal/promises"
	"github.com/policyd/policyd/internal/stsstore"
	"github.com/policyd/policyd/internal/stub"
	"github.com/policyd/policyd/internal/unixsock"
	"github.com/policyd/policyd/socketmap"
)

// Stub returns the options of the resolver.
func (l *Loaded) Stub(log *slog.Logger) stub.Options {
	o := stub.Options{
		Servers: l.DNS.Servers, Trust: stub.TrustMode(l.DNS.TrustAD), Timeout: durationOf(l.DNS.Timeout),
		SelfTestNames: l.DNS.SelfTest, Logger: log,
	}
	// The roots are a part of the trust in servers with TLS, and a change of them voids all cached answers.
	if slices.ContainsFunc(o.Servers, func(s string) bool { return strings.HasPrefix(s, "tls://") }) {
		o.RootCAs = l.Roots.Pool
	}
	return o
}

// Lookup returns the settings of lookups.
func (l *Loaded) Lookup() lookup.Settings {
	return lookup.Settings{Wait: durationOf(l.Port26.Wait), Log: lookup.LogMode(l.Log.Lookups), Policy: policy.Options{
		Mode: policy.Mode(l.Mode), Overrides: l.Rules, OnVanished: promises.Mode(l.Promises.Vanished),
		IgnoreUnsigned: l.Policy.UnsignedMX == "ignore", IgnoreMixed: l.Policy.MixedMX == "ignore",
		DANE: l.Policy.DANE, MTASTS: l.Policy.MTASTS,
		Port26Mode: policy.PortMode(l.Port26.Mode), Port26: uint16(l.Port26.Port), Transport: l.Port26.Transport,
	}}
}

// Site returns the options of what this site receives itself.
func (l *Loaded) Site(log *slog.Logger) postfix.Options {
	return postfix.Options{
		ExcludeDomains: l.Port26.ExcludeDomains, OwnHosts: l.Port26.OwnHosts, Logger: log,
		LoopbackProbed: l.Port26.Mode == string(policy.PortProbe) && l.Port26.ProbeSpecialAddresses,
	}
}

// Probe returns the options of probes, which ask r. Postfix of the site judges receivers too.
func (l *Loaded) Probe(r *dnscache.Cache, site *postfix.Site, log *slog.Logger) probe.Options {
	o := probe.Options{
		Resolver: r, Port: uint16(l.Port26.Port), Roots: l.Roots.Pool, Special: l.Port26.ProbeSpecialAddresses,
		StateDir: l.Cache.StateDir, Logger: log,
		Helo: l.Port26.HeloName, Postfix: l.SMTPClient(site),
	}
	if l.Policy.DANE {
		o.DANE = check.JudgeDANE(r, o.Port)
	}
	return o
}

// SMTPClient returns the SMTP client of Postfix, which judges receivers.
func (l *Loaded) SMTPClient(site *postfix.Site) *postfix.Client {
	return &postfix.Client{Site: site, Transport: l.Port26.Transport, CAFile: l.TLS.CAFile}
}

// Store returns the options of the store of MTA-STS policies, which asks r.
func (l *Loaded) Store(r *dnscache.Cache, log *slog.Logger) stsstore.Options {
	return stsstore.Options{
		Resolver: r, StateDir: l.Cache.StateDir, Logger: log,
		Fetcher: &mtasts.Fetcher{
			Resolver: r, Roots: l.Roots.Pool, Special: l.Port26.ProbeSpecialAddresses,
			ProxyFromEnvironment: l.MTASTS.ProxyFromEnvironment,
		},
	}
}

// Limits returns the limits of the server, with at most the given number of connections.
func (l *Loaded) Limits(maxConnections int) socketmap.Limits {
	return socketmap.Limits{
		MaxConnections: min(l.Server.MaxConnections, maxConnections), IdleTimeout: durationOf(l.Server.IdleTimeout),
	}
}

// ListenOptions returns permission and group of unix sockets.
func (l *Loaded) ListenOptions() unixsock.Options {
	mode, _ := strconv.ParseUint(l.Server.SocketMode, 8, 32) // checked; 0 means 0660
	return unixsock.Options{Mode: fs.FileMode(mode), Group: l.Server.SocketGroup}
}

// DrainTimeout returns how long the daemon waits for open requests when it stops.
func (l *Loaded) DrainTimeout() time.Duration { return durationOf(l.Server.DrainTimeout) }

// durationOf returns a duration that has been checked.
func durationOf(s string) time.Duration {
	d, _ := time.ParseDuration(s)
	return d
}

// warnings returns a line for each setting that is valid and may still be a mistake.
func (l *Loaded) warnings() (all []string) {
	warn := func(holds bool, warning string) {
		if holds {
			all = append(all, warning)
		}
	}
	warn(l.Mode == "off", `mode = "off": every lookup is answered NOTFOUND`)
	warn(l.DNS.TrustAD == "always" && slices.ContainsFunc(l.DNS.Servers, exposed), `dns.trust_ad = "always" with a `+
		"server that is not on the loopback interface: an attacker on the path to it can forge secure answers")
	for _, address := range l.Server.Listen {
		warn(reachable(address), "server.listen: "+address+" is reachable from other machines")
		warn(strings.ContainsAny(address, " ,$"), "server.listen: Postfix cannot have "+address+" in a list of "+
			"tables: its path has a space, a comma or $")
	}
	warn(reachable(l.Metrics.Listen), "metrics.listen: "+l.Metrics.Listen+" is reachable from other machines")
	warn(reachable(l.HTTP.Listen), "http.listen: "+l.HTTP.Listen+" is reachable from other machines, and an attacker "+
		"on the path can forge answers")
	warn(l.Port26.Mode == "always", fmt.Sprintf(`port26.mode = "always": mail for an smtps- host whose port %d does `+
		"not work stays in the queue until it bounces", l.Port26.Port))
	warn(l.Port26.ProbeSpecialAddresses, "port26.probe_special_addresses = true: remote senders choose which "+
		"addresses of your network are probed")
	return append(all, l.listenerConflicts()...)
}

// exposed reports whether queries to a server leave this machine without TLS.
func exposed(text string) bool {
	s, err := stub.ParseServer(text)
	return err == nil && s.TLSName == "" && !s.Addr.Addr().Unmap().IsLoopback()
}

// reachable reports whether other machines can connect to a listener at an address.
func reachable(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && host != "unix" && host != "localhost" && !net.ParseIP(host).IsLoopback()
}
