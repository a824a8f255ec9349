package doctor

import (
	"strings"

	"github.com/policyd/policyd/internal/lookup"
)

// unknownMaps finds map names in main.cf and master.cf that policyd does not serve, at an endpoint of policyd.
func (e *exam) unknownMaps() {
	s := e.setup
	examine := func(file, parameter, value string) {
		for _, t := range tables(value) {
			if !e.unknown(t) {
				continue
			}
			use := lookup.NearestMap(t.name)
			if use == "" {
				use = "tls-policy"
				if parameter == "transport_maps" {
					use = "transport"
				}
			}
			e.found("map-unknown", parameter+" has "+t.text, "# in "+file+": "+strings.TrimSuffix(t.text, t.name)+use, "policyd postfix-config --commands | sh")
		}
	}
	for _, parameter := range []string{"smtp_tls_policy_maps", "transport_maps"} {
		examine(s.mainCF(), parameter, s.params[parameter])
		for _, svc := range s.services {
			examine(s.masterCF(), parameter, svc.options[parameter])
		}
	}
}

// unknown reports whether a table is policyd's and has a map name that policyd does not serve.
func (e *exam) unknown(t table) bool {
	return t.endpoint != "" && e.isEndpoint(t.endpoint) && lookup.CanonicalMap(t.name) == ""
}

// isEndpoint reports whether policyd listens at the endpoint of a table: it is the one that Postfix should use, or one that a
// table with a known map name has too.
func (e *exam) isEndpoint(at string) bool {
	if endpoint(at) == e.endpoint() {
		return true
	}
	for _, l := range e.daemon.status.Connections.Listeners {
		if path, unix := strings.CutPrefix(l, "unix:"); unix && strings.HasPrefix(at, "unix:") && e.setup.absolute(at) == path {
			return true
		}
		if string(inet(l)) == at {
			return true
		}
	}
	return false
}
