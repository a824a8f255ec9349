package doctor

import (
	"maps"
	"slices"
	"strings"
)

// overrides returns the services that set a parameter themselves.
func (p plan) overrides(parameter string) (services []string) {
	for _, name := range slices.Sorted(maps.Keys(p.params)) {
		if service, ok := strings.CutSuffix(name, "/"+parameter); ok {
			services = append(services, service)
		}
	}
	return services
}

// checkServiceTables examines the tables of policyd in the services that set a parameter themselves.
func (e *exam) checkServiceTables(parameter string) {
	for _, service := range e.overrides(parameter) {
		for _, t := range e.tables(parameter, e.params.Of(service, parameter)) {
			e.checkTable(parameter, t, "# in "+e.masterCF()+", service "+service+": "+t.right)
		}
	}
}

// checkServicesWithoutPolicies examines whether clients have TLS policies of their own, without those of policyd.
func (e *exam) checkServicesWithoutPolicies() {
	ours := func(t table) bool { return t.ours }
	for _, service := range e.overrides(policyMaps) {
		own := e.params.Of(service, policyMaps)
		if slices.Contains([]string{"smtp", "lmtp"}, e.program(service)) &&
			!slices.ContainsFunc(e.tables(policyMaps, own), ours) {
			e.found("service-without-policies", e.masterCF()+", service "+service+": "+is(policyMaps, own),
				e.edit("-PX", service+"/"+policyMaps))
		}
	}
}
