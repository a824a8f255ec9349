package daemon

import (
	"context"
	"net/http"
	"slices"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/cmd/policyd/internal/settings"
	"github.com/policyd/policyd/cmd/policyd/internal/status"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/fleet"
	"github.com/policyd/policyd/internal/promises"
	"github.com/policyd/policyd/internal/stub"
)

// configureSecond applies the settings of the second resolver, if there is one. Only a restart starts its queries.
func (d *Daemon) configureSecond(l *settings.Loaded) (err error) {
	switch {
	case l.DNS.SecondOpinion == "":
	case d.second == nil:
		d.second, err = stub.New(l.SecondOpinion(d.log))
	default:
		err = d.second.Configure(l.SecondOpinion(d.log))
	}
	return err
}

// askSecond asks the second resolver about vanished promises, until ctx ends.
func (d *Daemon) askSecond(ctx context.Context) error {
	if d.second == nil {
		return nil
	}
	o := promises.SecondOpinion{Store: d.promises, First: d.cache, Second: d.second}
	return o.Run(ctx)
}

func (d *Daemon) getPromise(_ context.Context, q admin.DomainRequest) (promises.Entry, *admin.RefusedError) {
	e, ok := d.promises.Get(q.Domain)
	if !ok {
		return e, &admin.RefusedError{Code: http.StatusNotFound, Message: "nothing is remembered about " + q.Domain}
	}
	return e, nil
}

// forgetPromise removes what is remembered about a domain and ends a hold.
func (d *Daemon) forgetPromise(q admin.DomainRequest) admin.Forgotten {
	known := d.promises.Forget(q.Domain)
	d.unshare(fleet.Promise, q.Domain)
	d.log.Info("promises forgotten by the operator", "nexthop", q.Domain, "known", known)
	return admin.Forgotten{Forgotten: known}
}

// warm evaluates a domain as for mail to it: it remembers its promises and fetches its MTA-STS policy.
func (d *Daemon) warm(ctx context.Context, q admin.DomainRequest) admin.Warmed {
	status, source := d.service.Warm(ctx, q.Domain)
	return admin.Warmed{Domain: q.Domain, Status: status, Source: source}
}

func (d *Daemon) listPromises(f admin.Filter) (list admin.PromiseList) {
	entries := d.promises.List
	if f.Vanished {
		entries = d.promises.Vanished
	}
	matches := dns.Matching(f.Match)
	list.Promises, list.More = atMost(f.Limit,
		slices.DeleteFunc(entries(), func(e promises.Entry) bool { return !matches(e.Domain) }))
	return list
}

// promiseStatus returns the state of the remembered promises; nil if promises.vanished is off.
func (d *Daemon) promiseStatus() *status.PromiseStatus {
	if d.loaded.Load().Promises.Vanished == string(promises.Off) {
		return nil
	}
	return &status.PromiseStatus{Stats: d.promises.Stats(), Domains: d.vanished(5)}
}

// vanished returns the first domains whose promise is missing.
func (d *Daemon) vanished(most int) []string {
	domains := []string{}
	first, _ := atMost(most, d.promises.Vanished())
	for _, e := range first {
		domains = append(domains, e.Domain)
	}
	return domains
}
