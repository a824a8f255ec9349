package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"github.com/policyd/policyd/e2e/daemon"
	"github.com/policyd/policyd/socketmap"
)

// asker asks policyd in both ways: as Postfix, over the socket, and as an operator, by the command.
type asker struct {
	binary string
	daemon *daemon.Process
}

// lookup asks one question on a connection of its own. The first request for a route can be answered NOTFOUND because
// its facts were not there within 200 ms; Postfix asks again at the next mail, and so does this.
func (a asker) lookup(ctx context.Context, q question) (socketmap.Reply, error) {
	const patience = 10 * time.Second
	c, err := socketmap.Dial(ctx, a.daemon.Address)
	if err != nil {
		return socketmap.Reply{}, err
	}
	defer func() { _ = c.Close() }()
	late := time.After(patience)
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		reply, err := c.Lookup(ctx, q.request)
		if err != nil || reply.Status != socketmap.StatusNotFound || q.want == nothing {
			return reply, err
		}
		select {
		case <-again.C:
		case <-late:
			return reply, nil
		case <-ctx.Done():
			return socketmap.Reply{}, ctx.Err()
		}
	}
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
	arguments := []string{"query", "--json", "--config", a.daemon.Config}
	for _, d := range of {
		arguments = append(arguments, d.name)
	}
	command := exec.CommandContext(ctx, a.binary, arguments...)
	var output, complaints bytes.Buffer
	command.Stdout, command.Stderr = &output, &complaints
	// One domain without a policy makes it 1, one that cannot be looked up 3; both are in the table.
	if exit, ok := errors.AsType[*exec.ExitError](command.Run()); !ok || exit.ExitCode() != 3 {
		return nil, fmt.Errorf("policyd query did not end with the exit status 3 of a failed lookup: %v\n%s",
			command.ProcessState, complaints.String())
	}
	var all []explanation
	for in := json.NewDecoder(&output); in.More(); {
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
