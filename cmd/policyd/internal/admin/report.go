package admin

import (
	"time"

	"github.com/policyd/policyd/internal/report"
)

// GetReport is the endpoint for the report on decisions.
const GetReport Endpoint[ReportRequest, report.Report] = "GET /v1/report"

// ReportRequest asks about the lookups since a time; the zero time means all that are remembered.
type ReportRequest struct {
	Since time.Time `json:"since,omitzero"`
}
