package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/policyd/policyd/socketmap"
)

// checkOwn checks that domains of this site get no route: that policyd can read Postfix's lists, that the guard in
// transport_maps covers them, and that the daemon returns no route for them.
func (e *exam) checkOwn(ctx context.Context) {
	lists, domains, err := ownDomains(ctx, e.Options)
	switch {
	case err != nil:
		e.found("own-domains-unknown", err.Error(), "# correct the table in "+e.mainCF()+
			", or let the user policyd read it")
	case len(lists) == 0:
		e.found("own-domains-known", "Postfix's lists are empty: nothing is received here")
	default:
		e.found("own-domains-known", "policyd reads "+strings.Join(lists, ", "))
	}
	list, at := e.ours(transportMaps)
	if at < 0 {
		return
	}
	const most = 200 // domains to try one by one
	domains = domains[:min(len(domains), most)]
	if guards := list[:at]; slices.ContainsFunc(guards, table.isPattern) {
		e.guarded(ctx, guards, domains)
	}
	e.routed(ctx, list[at].endpoint, domains)
}

// guarded asks the pattern tables before the socketmap for an address in each domain.
func (e *exam) guarded(ctx context.Context, guards []table, domains []string) {
	tried := 0
	var change []string
	for _, d := range domains {
		if strings.HasPrefix(d, ".") {
			continue
		}
		tried++
		covered := false
		for _, g := range guards {
			if covered || !g.isPattern() {
				continue
			}
			key, err := e.commands.Query(ctx, g.text, []string{"postmaster@" + d})
			if err != nil {
				e.found("postmap-fails", err.Error(), "postmap -q postmaster@"+d+" "+quoted(g.text))
				return
			}
			covered = key != ""
		}
		if !covered {
			change = append(change, "#    "+guardEntry(pattern(d)))
		}
	}
	switch uncovered := len(change); {
	case tried == 0:
	case uncovered == 0:
		e.found("own-domain-covered", fmt.Sprintf("the guard in transport_maps covers all %d names", tried))
	default:
		const shown = 10
		if more := uncovered - shown; more > 0 {
			change = append(change[:shown], fmt.Sprintf("# and %d more: policyd postfix-config", more))
		}
		e.found("own-domain-unguarded", fmt.Sprintf("the guard in transport_maps does not cover %d of %d names",
			uncovered, tried),
			append([]string{"# in " + e.mainCF() + ", in the regexp: table of transport_maps:"}, change...)...)
	}
}

// routed asks the daemon for the route of each domain.
func (e *exam) routed(ctx context.Context, at string, domains []string) {
	const longest = 20 * time.Second
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	client, err := socketmap.Dial(ctx, e.dialable(at))
	if err != nil {
		return // connections has reported it
	}
	defer func() { _ = client.Close() }()
	for _, d := range domains {
		reply, err := client.Lookup(ctx, socketmap.Request{Map: "transport",
			Key: "postmaster@" + strings.TrimPrefix(d, ".")})
		if err != nil {
			return
		}
		if reply.Status == socketmap.StatusOK && !strings.HasPrefix(d, ".") {
			e.found("own-domain-routed", d+" gets the route "+reply.Text,
				e.setting("port26", `exclude_domains = ["`+d+`"]`))
		}
	}
}
