package settings

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/policyd/policyd/internal/fleet"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/postfix"
	"github.com/policyd/policyd/internal/stub"
	"github.com/policyd/policyd/internal/text"
)

// kind is what a setting takes. Type describes it to a reader of the manual and of a message, and check returns what is
// wrong with a value. A change of a setting with restart takes effect after a restart only.
type kind struct {
	Type    string
	check   func(value any) error
	restart bool
}

func restart(k kind) kind {
	k.restart = true
	return k
}

func of[T any](description string, check func(T) error) kind {
	return kind{Type: description, check: func(value any) error {
		v, _ := value.(T) // assign has given the field a value of its type
		return check(v)
	}}
}

// optional is of for a setting that may be empty.
func optional(description string, check func(string) error) kind {
	return of(description, func(s string) error {
		if s == "" {
			return nil
		}
		return check(s)
	})
}

// unless returns an error, unless a condition holds.
func unless(holds bool, format string, args ...any) error {
	if holds {
		return nil
	}
	return fmt.Errorf(format, args...)
}

// matching is of for text that matches a regular expression as a whole. message follows the text that does not.
func matching(description, expression, message string) kind {
	return of(description, func(s string) error {
		return unless(regexp.MustCompile("^(?:"+expression+")$").MatchString(s), "%q is %s", s, message)
	})
}

// list is of for the elements of a list.
func list(description string, check func(string) error) kind {
	return of(description, func(l []string) error { return distinct(l, check) })
}

// boolean is of for settings of which every value is good.
func boolean() kind { return of("true or false", func(bool) error { return nil }) }

// oneOf is for a setting that takes one of a few words.
func oneOf(words ...string) kind {
	last := len(words) - 1
	or := func(words []string) string { return strings.Join(words[:last], ", ") + " or " + words[last] }
	quoted := slices.Clone(words)
	for i, w := range words {
		quoted[i] = strconv.Quote(w)
	}
	return of(or(quoted), func(s string) error {
		if slices.Contains(words, s) {
			return nil
		}
		hint := ""
		if near := text.Nearest(s, words); near != "" {
			hint = fmt.Sprintf("; did you mean %q?", near)
		}
		return fmt.Errorf("unknown value %q: use %s%s", s, or(words), hint)
	})
}

func number(least, most int) kind {
	return of(fmt.Sprintf("a number from %d to %d", least, most), func(n int) error { return between(n, least, most) })
}

func between(n, least, most int) error {
	return unless(least <= n && n <= most, "%d is out of range: write %d to %d", n, least, most)
}

func duration(least, most time.Duration) kind {
	return of(fmt.Sprintf("a duration from %s to %s", short(least), short(most)), func(s string) error {
		d, err := time.ParseDuration(s)
		if err != nil {
			return fmt.Errorf(`%q is not a duration: write a number with a unit, such as "200ms", "5s" or "2m"`, s)
		}
		return unless(least <= d && d <= most, "%s is out of range: write %s to %s", s, short(least), short(most))
	})
}

// distinct checks the elements of a list, and that no element is in it twice. The error has a line for each mistake.
func distinct(list []string, check func(string) error) error {
	var errs []error
	for i, s := range list {
		err := check(s)
		if err == nil && slices.Contains(list[:i], s) {
			err = fmt.Errorf("%q is in the list twice: keep one of them", s)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...) // without those that are nil
}

// short writes a duration without the units that are zero.
func short(d time.Duration) string {
	return strings.ReplaceAll(strings.ReplaceAll(d.String(), "m0s", "m"), "h0m", "h")
}

func absolutePath(s string) error {
	return unless(filepath.IsAbs(s), "%q is not an absolute path: write one that begins with /", s)
}

// socketPath checks the path of a unix socket, which has to fit into a sockaddr_un, unix(7).
func socketPath(s string) error {
	const longest = 107
	if err := absolutePath(s); err != nil {
		return err
	}
	return unless(len(s) <= longest, "the path has %d bytes, and a socket path may have %d: write a shorter one",
		len(s), longest)
}

func listenAddress(s string) error {
	path, ok := strings.CutPrefix(s, "unix:")
	if !ok {
		return hostPort(s)
	}
	if err := socketPath(path); err != nil {
		return fmt.Errorf("%w, as in \"unix:/run/policyd/sock\"", err)
	}
	return nil
}

func hostPort(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil || strings.HasPrefix(s, "/") {
		return fmt.Errorf(`%q is not host:port: write an address and a port, such as "127.0.0.1:2526" or "[::1]:2526"`,
			s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return fmt.Errorf("%q is not a port: write a number from 1 to 65535", port)
	}
	_, notIP := netip.ParseAddr(host)
	_, isName := policy.ParseName(host)
	return unless(host == "" || notIP == nil || isName && strings.Trim(host, "0123456789.") != "",
		`%q is neither an IP address nor a host name: write an address and a port, such as "127.0.0.1:2526"`, host)
}

func group(s string) error {
	n, notNumber := strconv.Atoi(s)
	_, unknown := user.LookupGroup(s)
	return unless(notNumber == nil && n >= 0 || unknown == nil,
		"unknown group %q: write the name or the number of a group", s)
}

func dnsServers(servers []string) error {
	const most = 3 // resolv.conf(5)
	if len(servers) > most {
		return fmt.Errorf("%d servers, and at most %d are used: leave some out", len(servers), most)
	}
	return distinct(servers, func(s string) error {
		_, err := stub.ParseServer(s)
		return err
	})
}

func selfTest(names []string) error {
	if len(names) == 0 {
		return fmt.Errorf(`empty list: write at least one name with a signed NS RRset, such as "."`)
	}
	return distinct(names, func(s string) error {
		_, ok := policy.ParseName(s)
		return unless(ok || s == ".",
			`%q is not a domain name: write one with a signed NS RRset, such as "." or "com."`, s)
	})
}

func port26(n int) error {
	if n == policy.SMTPPort {
		return fmt.Errorf("port 25 does not speak implicit TLS: write another port, such as 26")
	}
	return between(n, 1, 65535)
}

func excludeDomain(s string) error {
	_, err := postfix.New(postfix.Options{ExcludeDomains: []string{s}})
	return unless(err == nil, "%q is not a domain: write example.com, or .example.com for all its subdomains", s)
}

func ownHost(s string) error {
	_, err := postfix.New(postfix.Options{OwnHosts: []string{s}})
	return unless(err == nil, `%q is not a host name: write one, such as "mx.example.com"`, s)
}

func secondOpinion(s string) error {
	server, err := stub.ParseServer(s)
	if err == nil && server.TLSName == "" {
		err = fmt.Errorf(
			`%q does not use TLS: write a resolver elsewhere with its name, such as "tls://name@192.0.2.1:853"`, s)
	}
	return err
}

func fleetURL(s string) error {
	if err := fleet.CheckURL(s); err != nil {
		return fmt.Errorf(`%w: write a URL such as "redis://127.0.0.1:6379" or "unix:///run/redis/redis.sock"`, err)
	}
	return nil
}
