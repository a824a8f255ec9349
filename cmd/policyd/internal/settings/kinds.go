package settings

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/stub"
	"github.com/policyd/policyd/internal/unixsock"
)

// kind is the kind of values that a setting takes. Type describes it in the manual and in messages. read returns the
// value of the field for a decoded value, and any invalid part: the decoded value itself, or elements of a list. A
// change of a setting with restart takes effect only after a restart.
type kind struct {
	Type    string
	read    func(decoded any) (value any, bad []any)
	words   []string // the only values that it takes, if there are any
	restart bool
}

func restart(k kind) kind {
	k.restart = true
	return k
}

// of returns the kind of a setting with values of one TOML type, those that valid accepts.
func of[T any](description string, valid func(T) bool) kind {
	return kind{Type: description, read: func(decoded any) (value any, bad []any) {
		if v, ok := decoded.(T); ok && valid(v) {
			return v, nil
		}
		return nil, []any{decoded}
	}}
}

// list is the kind of a list of valid texts; least and most bound its length.
func list(description string, least, most int, valid func(string) bool) kind {
	return kind{Type: description, read: func(decoded any) (value any, bad []any) {
		elements, ok := decoded.([]any)
		if !ok || len(elements) < least || len(elements) > most {
			return nil, []any{decoded}
		}
		all := []string{}
		for _, element := range elements {
			s, ok := element.(string)
			switch {
			case !ok:
				return nil, []any{decoded}
			case valid(s):
				all = append(all, s)
			default:
				bad = append(bad, s)
			}
		}
		return all, bad
	}}
}

func boolean() kind { return of("true or false", func(bool) bool { return true }) }

// oneOf is the kind of a few words.
func oneOf(words ...string) kind {
	last := len(words) - 1
	k := of(`"`+strings.Join(words[:last], `", "`)+`" or "`+words[last]+`"`,
		func(s string) bool { return slices.Contains(words, s) })
	k.words = words
	return k
}

func number(least, most int64) kind {
	return of(fmt.Sprintf("a number from %d to %d", least, most), func(n int64) bool { return least <= n && n <= most })
}

func duration(least, most time.Duration) kind {
	short := func(d time.Duration) string { // without the units that are zero
		return strings.ReplaceAll(strings.ReplaceAll(d.String(), "m0s", "m"), "h0m", "h")
	}
	return of(fmt.Sprintf("a duration from %s to %s", short(least), short(most)), func(s string) bool {
		d, err := time.ParseDuration(s)
		return err == nil && least <= d && d <= most
	})
}

// matching is for texts that a regular expression matches as a whole.
func matching(expression string) func(string) bool {
	return func(s string) bool { return regexp.MustCompile("^(?:" + expression + ")$").MatchString(s) }
}

// optional is for texts that may be empty.
func optional(valid func(string) bool) func(string) bool {
	return func(s string) bool { return s == "" || valid(s) }
}

// socketPath reports whether s is the path of a unix socket, which has to fit into a sockaddr_un, unix(7).
func socketPath(s string) bool {
	file := s[strings.LastIndexByte(s, '/')+1:]
	return filepath.IsAbs(s) && len(s) <= 107 && strings.Trim(file, ".") != "" && !strings.Contains(s, "\x00")
}

func listenAddress(s string) bool {
	path, isPath := strings.CutPrefix(s, "unix:")
	return isPath && socketPath(path) || !isPath && hostPort(s)
}

func hostPort(s string) bool {
	host, port, err := net.SplitHostPort(s)
	n, _ := strconv.ParseUint(port, 10, 16)
	if err != nil || strconv.FormatUint(n, 10) != port {
		return false
	}
	_, notIP := netip.ParseAddr(host)
	return host == "" || notIP == nil || hostName(host)
}

func hostName(s string) bool {
	_, ok := policy.ParseName(s)
	return ok
}

func group(s string) bool {
	_, err := unixsock.GroupID(s)
	return err == nil
}

func dnsServer(s string) bool {
	_, err := stub.ParseServer(s)
	return err == nil
}

func excludeDomain(s string) bool { return hostName(strings.TrimPrefix(s, ".")) }
