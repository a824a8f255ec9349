package doctor

// smtpValue returns the value that a parameter has for smtp(8), how a finding shows it, and the command that corrects
// it: an option of the service in master.cf replaces the value of main.cf.
func (e *exam) smtpValue(r rule) (value, what, change string) {
	option := smtp + "/" + r.Name
	if value, replaced := e.params[option]; replaced {
		return value, e.masterCF() + ", service " + smtp + ": " + shown(r.Name, value), e.edit("-P", option+"="+r.Value)
	}
	value = e.params[r.Name]
	return value, shown(r.Name, value), e.set(r.Name, r.Value)
}

// checkServiceTables examines the tables of policyd in the services that set a parameter themselves.
func (e *exam) checkServiceTables(parameter string) {
	for _, service := range e.params.Overriding(parameter) {
		for _, t := range e.tables(parameter, e.params.Of(service, parameter)) {
			e.checkTable(parameter, t, "# in "+e.masterCF()+", service "+service+": "+t.right)
		}
	}
}
