package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/report"
)

func TestReportNamesVanishedPromises(t *testing.T) {
	t.Parallel()
	show := func(vanished ...string) string {
		var b screen
		b.decisions(report.Report{Mode: "enforce", Nexthops: 2, Vanished: vanished})
		return strings.Join(strings.Fields(b.String()), " ")
	}
	require.Contains(t, show("a.example", "b.example"),
		"Promises vanished from unsigned answers (policyd promises list --vanished): a.example, b.example")
	require.NotContains(t, show(), "vanished")
}
