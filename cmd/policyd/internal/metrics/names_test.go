package metrics_test

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert/yaml"
	"github.com/stretchr/testify/require"
)

const packaging = "../../../../packaging/"

// series returns the names of all time series of a daemon, with the label names of each.
func series(t *testing.T) map[string][]string {
	t.Helper()
	m, reg := registered(t)
	m.Lookup(kind())(time.Microsecond)
	families, err := reg.Gather()
	require.NoError(t, err)
	names := map[string][]string{}
	for _, f := range families {
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		names[f.GetName()] = labels
		if f.GetMetric()[0].GetHistogram() != nil {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				names[f.GetName()+suffix] = append(labels, "le")
			}
		}
	}
	return names
}

// check finds the metrics in a PromQL expression and fails for one that policyd does not have, or a label that the
// metric does not have. It returns the names.
func check(t *testing.T, has map[string][]string, expr string) []string {
	t.Helper()
	selector := regexp.MustCompile(`\b((?:policyd|process|go)_\w+)\b(\{[^}]*\})?`)
	label := regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)\s*"`)
	grouping := regexp.MustCompile(`\bby \(([\w, ]+)\)`)
	var names, labels []string
	for _, found := range selector.FindAllStringSubmatch(expr, -1) {
		name := found[1]
		require.Contains(t, has, name, expr)
		names = append(names, name)
		labels = append(labels, has[name]...)
		for _, l := range label.FindAllStringSubmatch(found[2], -1) {
			require.Contains(t, append(has[name], "job", "instance"), l[1], "%s in %s", name, expr)
		}
	}
	for _, found := range grouping.FindAllStringSubmatch(expr, -1) {
		for by := range strings.SplitSeq(found[1], ", ") {
			require.Contains(t, append(labels, "job", "instance"), by, expr)
		}
	}
	require.Equal(t, strings.Count(expr, "("), strings.Count(expr, ")"), expr)
	return names
}

func TestTheDashboardUsesExistingMetrics(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(packaging + "grafana/policyd.json")
	require.NoError(t, err)
	var dashboard struct {
		UID         string
		Annotations struct {
			List []struct{ Expr string }
		}
		Templating struct {
			List []struct{ Definition string }
		}
		Panels []struct {
			ID                       int
			Title, Type, Description string
			Targets                  []struct{ Expr string }
		}
	}
	require.NoError(t, json.Unmarshal(text, &dashboard))
	require.Equal(t, "policyd", dashboard.UID)
	has := series(t)
	var shown []string
	for _, a := range dashboard.Annotations.List {
		shown = append(shown, check(t, has, a.Expr)...)
	}
	for _, v := range dashboard.Templating.List {
		check(t, has, v.Definition)
	}
	ids := map[int]bool{}
	for _, p := range dashboard.Panels {
		require.False(t, ids[p.ID], "two panels have the ID %d", p.ID)
		ids[p.ID] = true
		if p.Type == "row" {
			continue
		}
		require.NotEmpty(t, p.Description, p.Title)
		require.NotEmpty(t, p.Targets, p.Title)
		for _, target := range p.Targets {
			names := check(t, has, target.Expr)
			require.NotEmpty(t, names, target.Expr)
			shown = append(shown, names...)
		}
	}
	for name := range has {
		base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
		if !strings.HasPrefix(name, "policyd_") || slices.Contains(shown, base) || slices.Contains(shown, base+"_bucket") {
			continue
		}
		t.Errorf("%s is not on the dashboard", name)
	}
}

func TestTheAlertsUseExistingMetrics(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(packaging + "prometheus/policyd.rules.yml")
	require.NoError(t, err)
	var rules struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	require.NoError(t, yaml.Unmarshal(text, &rules))
	require.Len(t, rules.Groups, 1)
	has := series(t)
	names := map[string]bool{}
	for _, r := range rules.Groups[0].Rules {
		require.Regexp(t, `^Policyd[A-Z]\w+$`, r.Alert)
		require.False(t, names[r.Alert], "two alerts are called %s", r.Alert)
		names[r.Alert] = true
		require.Contains(t, []string{"page", "ticket"}, r.Labels["severity"], r.Alert)
		require.NotEmpty(t, r.Annotations["summary"], r.Alert)
		if used := check(t, has, r.Expr); len(used) == 0 {
			require.Equal(t, `up{job="policyd"} == 0`, r.Expr, "the one metric that Prometheus makes itself")
		}
	}
	require.GreaterOrEqual(t, len(names), 10)
}

func TestCheckFindsMistakes(t *testing.T) {
	t.Parallel()
	has := series(t)
	require.Equal(t, []string{"policyd_lookups_total"}, check(t, has, `sum by (map) (rate(policyd_lookups_total{result="OK"}[5m]))`))
	require.NotContains(t, has, "policyd_lookup_total")
	require.NotContains(t, has["policyd_lookups_total"], "domain")
	require.NotContains(t, has["policyd_lookups_total"], "le")
}
