package admin

import (
	"time"

	"github.com/policyd/policyd/internal/report"
)

// GetReport is the endpoint for the report on decisions.
const GetReport Endpoint[ReportRequest, report.Report] = "GET /v1/report"

// ReportRequest asks for a report. Since limits it to the lookups from that time on; the zero time means all that are
// remembered.
type ReportRequest struct {
	Since time.Time `json:"since,omitzero"`
}
