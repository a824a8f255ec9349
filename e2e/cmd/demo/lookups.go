package main

import (
	"bytes"
	"context"
	"encoding/json"
	"time"

	"github.com/policyd/policyd/e2e/daemon"
	"github.com/policyd/policyd/e2e/must"
	"github.com/policyd/policyd/socketmap"
)

// lookup asks one question. The first request for a route can be answered NOTFOUND because its facts were not there
// within 200 ms; Postfix asks again for the next mail, and so does this function.
func lookup(ctx context.Context, p *daemon.Process, q question) (reply socketmap.Reply) {
	for range 100 {
		reply = must.Get(p.Ask(ctx, q.request))
		if reply.Status != socketmap.StatusNotFound || q.want == nothing {
			break
		}
		must.Do(daemon.Sleep(ctx, 100*time.Millisecond))
	}
	return reply
}

// explanation is what the demonstration shows of the JSON of policyd query.
type explanation struct {
	DNSSEC string
	MX     []struct {
		Host, Prefix string
		Preference   uint16
	}
	Why          []string
	WhyTransport []string `json:"why_transport"`
}

// explain runs policyd query, which looks everything up in a process of its own.
func explain(ctx context.Context, p *daemon.Process, of []domain) (all []explanation) {
	arguments := []string{"query", "--json"}
	for _, d := range of {
		arguments = append(arguments, d.name)
	}
	output, status, err := p.Run(ctx, arguments...)
	// Domains without a policy make it 1, and domains that cannot be looked up 3; the table has both.
	must.Be(err == nil && status == 3, "policyd query: %w, exit status %d in place of 3, that of a failed lookup:\n%s",
		err, status, output)
	for in := json.NewDecoder(bytes.NewReader(output)); in.More(); {
		var e explanation
		must.Do(in.Decode(&e))
		all = append(all, e)
	}
	must.Be(len(all) == len(of), "policyd query --json explained %d of %d domains", len(all), len(of))
	return all
}
