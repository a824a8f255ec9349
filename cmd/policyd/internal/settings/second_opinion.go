package settings

import (
	"log/slog"

	"github.com/policyd/policyd/internal/stub"
)

// SecondOpinion returns the options of the resolver that is asked about vanished promises, if the setting names one.
func (l *Loaded) SecondOpinion(log *slog.Logger) stub.Options {
	o := l.Stub(log.With("setting", "dns.second_opinion"))
	o.Servers, o.Trust, o.RootCAs = []string{l.DNS.SecondOpinion}, stub.TrustNever, l.Roots.Pool
	return o
}

func secondOpinion(s string) bool {
	server, err := stub.ParseServer(s)
	return err == nil && server.TLSName != ""
}
