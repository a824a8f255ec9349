package doctor

import (
	"regexp"
	"slices"
	"strings"

	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/postfix"
)

// The parameters of main.cf that have policyd's tables.
const (
	policyMaps    = "smtp_tls_policy_maps"
	transportMaps = "transport_maps"
)

// table is a table in one of these parameters.
type table struct {
	text           string // as it is written, such as proxy:socketmap:inet:127.0.0.1:2526:transport
	endpoint, name string // the endpoint of a socketmap; "" for other tables
	serves         string // the map of policyd that the name stands for, or ""
	pattern        bool   // it matches the whole address by pattern
	// ours is set for every table at an endpoint of policyd, even without the name of a map, and for policyd's names at
	// any other endpoint, except those that postfix-tlspol uses as well; right is the text that such a table must have.
	// asks is set where policyd serves the map for this parameter.
	ours, asks bool
	right      string
}

// noTable matches a part of a table that was written with a space, and an endpoint without socketmap: in front.
var noTable = regexp.MustCompile(`^(proxy:)?([^:$]*|socketmap:|inet:.*|unix:.*:.*)$`).MatchString

// unknown reports whether the table is policyd's and has a map name that policyd does not serve.
func (t table) unknown() bool { return t.ours && t.serves == "" }

func (p plan) tables(parameter, value string) []table {
	var list []table
	for _, text := range postfix.Tokens(value) {
		t := table{text: text, pattern: strings.HasPrefix(text, "regexp:") || strings.HasPrefix(text, "pcre:")}
		t.endpoint, t.name = postfix.ParseSocketmap(text)
		t.serves = lookup.CanonicalMap(t.name)
		here := t.endpoint != "" && slices.ContainsFunc(p.endpoints, func(e string) bool {
			return p.params.Outside(e) == p.params.Outside(t.endpoint) || e == t.endpoint+":"+t.name
		})
		fits := t.serves != "" && (t.serves == "transport") == (parameter == transportMaps)
		t.ours = here || fits && !strings.HasPrefix(strings.ToLower(t.name), "query")
		t.asks = t.ours && fits
		// The present endpoint and name are kept if they are right.
		at, name := t.endpoint, t.name
		if p.barred(at) || !slices.Contains(p.endpoints, at) {
			at = p.endpoint
		}
		if t.serves != p.mapFor(parameter) {
			name = p.mapFor(parameter)
		}
		t.right = postfix.SocketmapTable(at, name)
		list = append(list, t)
	}
	return list
}

// asking returns the tables of a parameter, and the index of the first that asks policyd, -1 for none.
func (p plan) asking(parameter string) (list []table, at int) {
	list = p.tables(parameter, p.params[parameter])
	return list, slices.IndexFunc(list, func(t table) bool { return t.asks })
}

// join returns a list of tables as the value of a parameter.
func join(list []table) string {
	var texts []string
	for _, t := range list {
		texts = append(texts, t.text)
	}
	return strings.Join(texts, ", ")
}

// mapFor returns the map of policyd for a parameter that fits the version.
func (p plan) mapFor(parameter string) string {
	switch {
	case parameter == transportMaps:
		return "transport"
	case p.params.Since(10, 0):
		return "tls-policy-tlsrpt"
	}
	return "tls-policy"
}

// barred reports whether Postfix's processes that ask policyd cannot connect to an endpoint.
func (p plan) barred(endpoint string) bool {
	return p.params.Barred(endpoint, smtp, "relay/unix", "rewrite/unix", p.service())
}
