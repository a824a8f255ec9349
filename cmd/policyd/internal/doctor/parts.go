package doctor

// Parameter is a parameter of main.cf, or of a service in master.cf, with its unexpanded value.
type Parameter struct {
	Name  string `json:"parameter"`
	Value string `json:"value"`
}

// Service is a service of master.cf.
type Service struct {
	// Service is its name and type, as in smtps26/unix.
	Service string `json:"service"`
	// Definition is its line in master.cf, without options.
	Definition string      `json:"definition"`
	Parameters []Parameter `json:"parameters"`
}
