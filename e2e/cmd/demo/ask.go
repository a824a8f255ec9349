package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/policyd/policyd/e2e/daemon"
	"github.com/policyd/policyd/socketmap"
)

// asker asks policyd in both ways: as Postfix, over the socket, and as an operator, by the command.
type asker struct{ *daemon.Process }

// lookup asks one question. The first request for a route can be answered NOTFOUND because its facts were not there
// within 200 ms; Postfix asks again for the next mail, and so does this function.
func (a asker) lookup(ctx context.Context, q question) (reply socketmap.Reply, err error) {
	for range 100 {
		reply, err = a.Ask(ctx, q.request)
		if err != nil || reply.Status != socketmap.StatusNotFound || q.want == nothing {
			break
		}
		err = daemon.Sleep(ctx, 100*time.Millisecond)
	}
	return reply, err
}

// explanation is what the demonstration shows of the JSON of policyd query.
type explanation struct {
	Nexthop string `json:"nexthop"`
	DNSSEC  string `json:"dnssec"`
	MX      []struct {
		Host       string `json:"host"`
		Preference uint16 `json:"preference"`
		Prefix     string `json:"prefix"`
	} `json:"mx"`
	Source       string   `json:"source"`
	Why          []string `json:"why"`
	WhyTransport []string `json:"why_transport"`
}

// explain runs policyd query, which looks everything up in a process of its own.
func (a asker) explain(ctx context.Context, of []domain) ([]explanation, error) {
	arguments := []string{"query", "--json"}
	for _, d := range of {
		arguments = append(arguments, d.name)
	}
	output, status, err := a.Run(ctx, arguments...)
	// One domain without a policy makes it 1, one that cannot be looked up 3; both are in the table.
	if err == nil && status != 3 {
		err = fmt.Errorf("policyd query: exit status %d in place of 3, that of a failed lookup:\n%s", status, output)
	}
	if err != nil {
		return nil, err
	}
	var all []explanation
	for in := json.NewDecoder(bytes.NewReader(output)); in.More(); {
		var e explanation
		if err := in.Decode(&e); err != nil {
			return nil, fmt.Errorf("policyd query --json: %w", err)
		}
		all = append(all, e)
	}
	if len(all) != len(of) {
		return nil, fmt.Errorf("policyd query --json explained %d of %d domains", len(all), len(of))
	}
	return all, nil
}
