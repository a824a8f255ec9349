package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/internal/report"
	"github.com/policyd/policyd/internal/text"
)

func newReport(c *common) *cobra.Command {
	var since string
	var asked admin.ReportRequest
	cmd := showCommand(c, &cobra.Command{
		Use:   "report",
		Short: "Summarize the decisions of the daemon",
		Long: `Ask the running daemon how many next hops it has seen, how mail to them is sent, or would be sent with
mode = "enforce", and which of them would wait, and why. The daemon counts in every mode except "off".`,
		Example: "  policyd report --since 24h",
		PreRunE: func(*cobra.Command, []string) error {
			if since == "" {
				return nil
			}
			age, err := duration(since)
			if err != nil || age <= 0 {
				return fmt.Errorf("--since: %q is not a duration: write one such as 24h or 7d", since)
			}
			asked.Since = time.Now().Add(-age)
			return nil
		},
	}, admin.GetReport, &asked, (*screen).decisions)
	cmd.Flags().StringVar(&since, "since", "",
		"only the lookups of the last `duration`, such as 24h or 7d (default: all that are remembered)")
	return cmd
}

// decisions shows a report of the daemon.
func (s *screen) decisions(r report.Report) {
	from := slices.MaxFunc([]time.Time{r.Since, r.Recorded}, time.Time.Compare)
	s.title(number(r.Nexthops) + " next hops in " + span(r.Until.Sub(from)) + ", mode " + r.Mode)
	reports := r.Mode == "report"
	s.linef("how their mail %s:\n", text.Either(reports, `would be sent with mode = "enforce"`, "is sent"))
	const count = "  %-12s  %9s"
	for _, row := range []struct {
		label string
		n     int
	}{
		{"as before", r.AsBefore}, {"by DANE", r.DANE}, {"by prefix", r.Prefix}, {"by MTA-STS", r.MTASTS},
		{"by overrides", r.Override}, {"would wait", r.Wait},
	} {
		s.linef(count, row.label, number(row.n))
	}
	s.linef("\n"+count+"  of them", "by port 26", number(r.Port26))
	if r.Port26Promised > 0 {
		s.paragraph(strings.Repeat(" ", 27), number(r.Port26Promised)+" more have only hosts that promise it: mail "+
			"uses it once probes find them open"+wordsIf(reports, ` with mode = "enforce"`))
	}
	s.waiting(r)
	if len(r.Vanished) > 0 {
		s.linef("")
		s.paragraph("", "Promises vanished from unsigned answers (policyd promises list --vanished): "+
			strings.Join(r.Vanished, ", "))
	}
	if r.Dropped > 0 {
		s.linef("\nThere were too many next hops to remember: %s were forgotten.", number(r.Dropped))
	}
}

// waiting lists the next hops whose mail would wait.
func (s *screen) waiting(r report.Report) {
	if len(r.Waiting) == 0 {
		return
	}
	s.linef("")
	s.title("mail waits, the worst first:")
	const shown = 50
	for _, w := range r.Waiting[:min(len(r.Waiting), shown)] {
		s.linef("  %s", text.Printable(w.Nexthop))
		s.paragraph("    ", text.Either(w.Still, "still", "no longer")+", "+number(w.Waits)+" of "+number(w.Lookups)+
			" lookups, last "+span(r.Until.Sub(w.LastWait))+" ago: "+w.Reason)
	}
	if len(r.Waiting) > shown {
		s.linef("  … more of them: policyd report --json")
	}
}
