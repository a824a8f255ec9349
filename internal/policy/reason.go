package policy

// Reason says in a word why a decision is what it is: for metrics, where every value is a time series. For people
// there is Decision.Why.
type Reason string

// The reasons. The empty one is that of a decision which nobody made.
const (
	ReasonOff            Reason = "off"
	ReasonOverride       Reason = "override"
	ReasonMXFailed       Reason = "mx-failed"
	ReasonDANEFailed     Reason = "dane-failed"
	ReasonDANEFull       Reason = "dane-full"
	ReasonDANEInsecureMX Reason = "dane-insecure-mx"
	ReasonDANEUnusable   Reason = "dane-unusable"
	ReasonDANEPartial    Reason = "dane-partial"
	ReasonPrefixAll      Reason = "prefix-all"
	ReasonPrefixMixed    Reason = "prefix-mixed"
	ReasonSTSEnforce     Reason = "sts-enforce"
	ReasonSTSNoHost      Reason = "sts-no-host"
	ReasonSTSConflict    Reason = "sts-conflict"
	ReasonSTSUnknown     Reason = "sts-unknown"
	ReasonOwnRelay       Reason = "own-relay"
	ReasonNone           Reason = "none"
	// Of routes.
	ReasonRouteDomain Reason = "route-domain"
	ReasonRouteHosts  Reason = "route-hosts"
	ReasonNoRoute     Reason = "no-route"
	ReasonReceiver    Reason = "receiver"
)
