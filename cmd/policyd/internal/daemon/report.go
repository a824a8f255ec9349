package daemon

import (
	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/internal/report"
)

// getReport returns the report on the lookups that the request asks for.
func (d *Daemon) getReport(q admin.ReportRequest) report.Report {
	r := d.report.Sum(q.Since)
	r.Mode, r.Vanished = d.loaded.Load().Mode, []string{}
	if d.promiseStatus() != nil {
		r.Vanished = d.vanished(50)
	}
	return r
}
