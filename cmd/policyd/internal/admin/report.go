package admin

import (
	"time"

	"github.com/policyd/policyd/internal/report"
)

// GetReport is the endpoint for what the decisions add up to.
const GetReport Endpoint[ReportRequest, report.Report] = "GET /v1/report"

// ReportRequest is for the lookups since then; the zero time means all that are remembered.
type ReportRequest struct {
	Since time.Time `json:"since,omitzero"`
}
