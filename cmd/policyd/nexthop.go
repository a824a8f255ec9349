package main

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/policyd/policyd/internal/policy"
)

// nexthopArgument checks an argument of query: a domain or [host], with or without a port, which is a number or the
// name of a service.
func nexthopArgument(arg string) error {
	parts := regexp.MustCompile(`^(?:\[(.+)\]|([^\[\]:]+))(?::(?:0*[1-9][0-9]*|[a-z-]+))?$`).FindStringSubmatch(arg)
	if parts != nil {
		if _, err := domainArgument(parts[1] + parts[2]); err == nil {
			return nil
		}
	}
	return notADomain(arg)
}

// domainArgument returns the domain of an argument in A-labels and lower case.
func domainArgument(arg string) (string, error) {
	name, ok := policy.ParseName(arg)
	if !ok {
		return "", notADomain(arg)
	}
	return name, nil
}

// notADomain returns the error for a wrong argument, without the local part of an e-mail address.
func notADomain(arg string) error {
	if at := strings.LastIndexByte(arg, '@'); at >= 0 {
		arg = "*" + arg[at:]
	}
	return fmt.Errorf("%q is not a domain: name one, such as example.com", arg)
}
