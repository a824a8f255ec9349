package main

import (
	"regexp"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
)

// nexthopArgument checks an argument of query: a domain or [host], with or without a port, which is a number or the
// name of a service.
func nexthopArgument(arg string) error {
	parts := regexp.MustCompile(`^(?:\[(.+)\]|([^\[\]:]+))(?::(?:0*[1-9][0-9]*|[a-z-]+))?$`).FindStringSubmatch(arg)
	if parts != nil {
		if _, err := admin.ParseDomain(parts[1] + parts[2]); err == nil {
			return nil
		}
	}
	_, err := admin.ParseDomain(arg)
	return err
}
