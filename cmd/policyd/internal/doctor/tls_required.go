package doctor

// checkTLSRequired examines whether a message with the header TLS-Required: no (RFC 8689) breaks implicit TLS.
func (e *exam) checkTLSRequired() {
	header := e.params["tls_required_enable"] == "yes"
	if _, at := e.asking(transportMaps); at >= 0 && header && e.since(10, 0) && !e.since(10, 6) {
		e.found("tls-required-breaks-port26", "Postfix "+e.version+" with the service "+e.Settings.Port26.Transport,
			e.set("tls_required_enable", "no"), "# or upgrade Postfix to 3.10.6 or later")
	}
}
