package main

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/policyd/policyd/internal/policy"
)

// nexthopArgument checks an argument of query: a domain or [host], with or without a port.
func nexthopArgument(arg string) error {
	name := arg
	if host, port, found := strings.Cut(arg, "]"); strings.HasPrefix(arg, "[") && found {
		if number, colon := strings.CutPrefix(port, ":"); port == "" || colon && isPort(number) {
			name = host[1:]
		}
	} else if host, port, found := strings.Cut(arg, ":"); found && isPort(port) {
		name = host
	}
	return checkDomain(arg, name)
}

// isPort reports whether a text is a port number or the name of a service, as in a next hop of Postfix.
func isPort(s string) bool {
	if s == "" || strings.Trim(s, "0") == "" {
		return false
	}
	return strings.Trim(s, "0123456789") == "" || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz-") == ""
}

// domainArgument returns the domain of an argument in A-labels and lower case.
func domainArgument(arg string) (string, error) {
	if err := checkDomain(arg, arg); err != nil {
		return "", err
	}
	name, _ := policy.ParseName(arg)
	return name, nil
}

// checkDomain returns an error that names what arg probably stands for, if name, its domain, is none. A local part is
// never repeated.
func checkDomain(arg, name string) error {
	at := strings.LastIndexByte(arg, '@')
	after := arg[at+1:]
	_, valid := policy.ParseName(after)
	link, err := url.Parse(arg)
	switch {
	case arg == "":
		return fmt.Errorf("empty domain: name one, such as example.com")
	case err == nil && link.Scheme != "" && link.Hostname() != "" && strings.Contains(arg, "://"):
		return fmt.Errorf("a URL is not a domain: did you mean %s?", link.Hostname())
	case at >= 0 && valid:
		return fmt.Errorf("an e-mail address is not a domain: did you mean %s?", after)
	case at >= 0:
		return fmt.Errorf("an e-mail address is not a domain: name its domain, such as example.com")
	case isAddress(name):
		return fmt.Errorf(
			"%q is an address: Postfix has no TLS policy for addresses; name a domain, such as example.com", arg)
	}
	if _, ok := policy.ParseName(name); !ok {
		return fmt.Errorf("%q is not a domain: name one, such as example.com", arg)
	}
	return nil
}

// isAddress reports whether a name is an IP address, also as an address literal (RFC 5321, section 4.1.3).
func isAddress(name string) bool {
	name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	if len(name) > len("IPv6:") && strings.EqualFold(name[:len("IPv6:")], "IPv6:") {
		name = name[len("IPv6:"):]
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	return name != "" && strings.Trim(name, "0123456789.") == ""
}
