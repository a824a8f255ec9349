package probe

import (
	"context"

	"github.com/policyd/policyd/internal/smtptls"
)

// matchTLSA makes a dialogue that went well a failed one if the host has usable TLSA records for the port and none of
// them matches the certificate: Postfix applies DANE to that host. Where only Postfix could speak with the host, there
// is no session, and so no certificate to compare.
func (o *Options) matchTLSA(ctx context.Context, host string, t *smtptls.Transcript) {
	if o.DANE == nil || !t.OK() || t.Session == nil {
		return
	}
	if mismatch := o.DANE(ctx, host, t.Session); mismatch != nil {
		t.Failed, t.Cause, t.Why = smtptls.StepCertificate, smtptls.TLSAMismatch, "certificate: "+mismatch.Error()
	}
}
