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

// asSMTPHas returns the value of a parameter as smtp(8) has it, how a finding shows it, and the command that corrects
// it: an option of the service in master.cf replaces the value of main.cf.
func (e *exam) asSMTPHas(r rule) (value, what, change string) {
	option := smtp + "/" + r.Name
	if value, replaced := e.params[option]; replaced {
		return value, e.masterCF() + ", service " + smtp + ": " + is(r.Name, value), e.edit("-P", option+"="+r.Value)
	}
	value = e.params[r.Name]
	return value, is(r.Name, value), e.set(r.Name, r.Value)
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
