package postfix

import (
	"context"
	"errors"
	"strings"

	"github.com/policyd/policyd/internal/dns"
)

// own goes through the settings and all of Postfix's lists. One list that has the domain is enough; only if
// every list could be read to its end the answer is no.
func (s *Site) own(ctx context.Context, domain string, wait bool) (own bool, why string, err error) {
	look := s.tables.known
	if wait {
		look = s.tables.ask
	}
	domain = canonical(domain)
	if e := s.options().exclude.match(domain); e != "" {
		return true, "exclude_domains has " + e, nil
	}
	if localhost(domain) {
		return true, domain + " is this machine", nil
	}
	v, err := s.knowledge(ctx, wait)
	if err != nil {
		return false, "", err
	}
	for _, l := range v.lists {
		has, by, failed := l.match(domain, func(table string, keys []string) (string, error) {
			return look(ctx, question{l.at, table, strings.Join(keys, " ")})
		})
		if has {
			return true, l.parameter + " has " + by, nil
		}
		if failed != nil && (err == nil || errors.Is(err, dns.ErrNotCached)) {
			err = failed
			if !errors.Is(failed, dns.ErrNotCached) {
				err = errors.New(l.parameter + ": " + failed.Error())
			}
		}
	}
	return false, "", err
}
