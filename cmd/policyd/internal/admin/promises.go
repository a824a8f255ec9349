package admin

import "github.com/policyd/policyd/internal/promises"

// The endpoints for remembered promises.
const (
	ListPromises  Endpoint[Filter, PromiseList]           = "GET /v1/promises"
	GetPromise    Endpoint[DomainRequest, promises.Entry] = "GET /v1/promises/{domain}"
	ForgetPromise Endpoint[DomainRequest, Forgotten]      = "POST /v1/promises/forget"
	Warm          Endpoint[DomainRequest, Warmed]         = "POST /v1/warm"
)

// PromiseList has what is remembered about each domain.
type PromiseList struct {
	Promises []promises.Entry `json:"promises"`
	More     bool             `json:"more"` // there are more domains than the limit allows
}

// Forgotten reports whether there was anything to forget.
type Forgotten struct {
	Forgotten bool `json:"forgotten"`
}

// Warmed is the result of the evaluation of a domain.
type Warmed struct {
	Domain string `json:"domain"`
	Status string `json:"status"` // the tls-policy answer with mode = "enforce": OK, NOTFOUND or TEMP
	Source string `json:"source"` // the mechanism that decided
}
