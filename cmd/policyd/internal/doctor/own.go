package doctor

import (
	"cmp"
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
	if e.ownErr != nil {
		e.found("own-domains-unknown", e.ownErr.Error(), "# correct the table, or let the user policyd read it")
	} else {
		e.found("own-domains-known", "policyd reads "+cmp.Or(strings.Join(e.lists, ", "), "empty lists"))
	}
	list, at := e.asking(transportMaps)
	if at < 0 {
		return
	}
	names := slices.DeleteFunc(slices.Clone(e.domains), func(d string) bool { return strings.HasPrefix(d, ".") })
	names = names[:min(len(names), 200)] // checkRoutes tries them one by one
	if guards := slices.DeleteFunc(list[:at:at], func(t table) bool { return !t.pattern }); len(guards) > 0 {
		e.checkGuards(ctx, guards, names)
	}
	e.checkRoutes(ctx, list[at].endpoint, names)
}

// checkGuards asks the pattern tables before the socketmap for an address in each domain.
func (e *exam) checkGuards(ctx context.Context, guards []table, domains []string) {
	var keys []string
	for _, d := range domains {
		keys = append(keys, "postmaster@"+d)
	}
	uncovered := slices.Clone(domains)
	for _, g := range guards {
		found, err := e.commands.Query(ctx, g.text, keys)
		if err != nil {
			e.found("postmap-fails", err.Error(), "postmap -q postmaster@example.com "+quoted(g.text))
			return
		}
		uncovered = slices.DeleteFunc(uncovered, func(d string) bool { return slices.Contains(found, "postmaster@"+d) })
	}
	switch n := len(uncovered); {
	case n > 0:
		entry := fileEntry
		if strings.Contains(guards[0].text, ":{") {
			entry = guardEntry
		}
		change := []string{"# add to the regexp: table, for all names see policyd postfix-config:"}
		for _, d := range uncovered[:min(n, 10)] {
			change = append(change, "#    "+entry(pattern(d)))
		}
		e.found("own-domain-unguarded",
			fmt.Sprintf("the guard in transport_maps does not cover %d of %d names", n, len(domains)), change...)
	case len(domains) > 0:
		e.found("own-domain-covered", fmt.Sprintf("the guard in transport_maps covers all %d names", len(domains)))
	}
}

// checkRoutes asks the daemon for the route of each domain. If it does not answer, checkConnections has reported it.
func (e *exam) checkRoutes(ctx context.Context, at string, domains []string) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for _, d := range domains {
		reply, err := e.lookup(ctx, at, "transport", "postmaster@"+d)
		if err != nil {
			return
		}
		if reply.Status == socketmap.StatusOK {
			e.found("own-domain-routed", d+" gets the route "+reply.Text,
				e.setting("port26", `exclude_domains = ["`+d+`"]`))
		}
	}
}
