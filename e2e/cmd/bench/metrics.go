package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// counted are some metrics of a policyd.
type counted struct {
	entries, evicted, collections float64
}

// counters reads them. The constant server has none.
func (s *server) counters(ctx context.Context) (c counted, err error) {
	if s.metrics == "" {
		return c, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.metrics+"/metrics", nil)
	if err != nil {
		return c, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return c, err
	}
	defer func() { _ = resp.Body.Close() }()
	found := 0
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		to := map[string]*float64{
			"policyd_cache_entries": &c.entries, "policyd_cache_evictions_total": &c.evicted, "go_gc_duration_seconds_count": &c.collections,
		}[name]
		if to == nil {
			continue
		}
		if *to, err = strconv.ParseFloat(value, 64); err != nil {
			return c, err
		}
		found++
	}
	if err := lines.Err(); err != nil {
		return c, err
	}
	if found < 3 {
		return c, fmt.Errorf("the metrics at %s are not as expected", s.metrics)
	}
	return c, nil
}
