package postfix

import (
	"cmp"
	"context"
	"strings"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/smtptls"
)

// clientParameters are the parameters of Postfix that a Client uses.
const clientParameters = "smtp_helo_name smtp_tls_CAfile smtp_tls_CApath smtp_tls_mandatory_protocols " +
	"smtp_tls_mandatory_ciphers smtp_tls_exclude_ciphers smtp_tls_mandatory_exclude_ciphers " +
	"tls_high_cipherlist tls_medium_cipherlist"

// Client is the SMTP client of Postfix on this machine, smtp(8), as a smtptls.Judge: it has the name that Postfix uses
// in EHLO, and asks posttls-finger(1) with the roots, protocols and ciphers of a "secure" destination. Without Postfix
// it has neither.
type Client struct {
	Site *Site
	// Transport is the service of master.cf that delivers over implicit TLS: its -o options replace those of main.cf.
	Transport string
	// CAFile has the roots where smtp_tls_CAfile is empty; "" means none. OnlyCAFile uses it instead of Postfix's
	// roots.
	CAFile     string
	OnlyCAFile bool
}

// Helo returns the name that Postfix uses in EHLO, "" if that is not known.
func (c *Client) Helo(ctx context.Context) string {
	if v, _ := c.Site.view(ctx, dns.Effort{}); v != nil {
		return v.settings.Of(c.service(), "smtp_helo_name")
	}
	return ""
}

func (c *Client) service() string { return c.Transport + "/unix" }

// Ask implements smtptls.Judge. Without posttls-finger(1) there is no opinion.
func (c *Client) Ask(ctx context.Context, d smtptls.Dialogue) smtptls.Opinion {
	v, err := c.Site.view(ctx, dns.Effort{})
	switch {
	case v == nil:
		return noVerdict(err.Error())
	case v.commands.Postconf == "":
		return smtptls.Opinion{}
	case v.settings == nil:
		return noVerdict(v.err.Error())
	}
	service := ""
	if d.Implicit {
		service = c.service()
	}
	options := c.fingerOptions(func(name string) string { return v.settings.Of(service, name) })
	if options == nil {
		return noVerdict("Postfix has no root certificates: set smtp_tls_CAfile")
	}
	if err := c.Site.fingers.Acquire(ctx, 1); err != nil {
		return noVerdict(err.Error())
	}
	defer c.Site.fingers.Release(1)
	return v.commands.finger(ctx, options, d)
}

// fingerOptions returns the options of posttls-finger for settings of smtp(8); none if there is no root certificate.
func (c *Client) fingerOptions(of func(name string) string) []string {
	file, path := cmp.Or(of("smtp_tls_CAfile"), c.CAFile), of("smtp_tls_CApath")
	if c.OnlyCAFile {
		file, path = c.CAFile, ""
	}
	if file == "" && path == "" {
		return nil
	}
	var options []string
	grade, protocols := of("smtp_tls_mandatory_ciphers"), of("smtp_tls_mandatory_protocols")
	for _, o := range [][]string{{"-F", file}, {"-P", path}, {"-p", protocols}, {"-g", grade}} {
		if o[1] != "" {
			options = append(options, o...)
		}
	}
	// posttls-finger has no option for excluded ciphers: they are taken out of the list of the grade.
	list := "tls_" + grade + "_cipherlist"
	excluded := strings.FieldsFunc(of("smtp_tls_exclude_ciphers")+" "+of("smtp_tls_mandatory_exclude_ciphers"),
		func(r rune) bool { return strings.ContainsRune(" \t,:", r) })
	if of(list) != "" && len(excluded) > 0 {
		options = append(options, "-o", list+"="+of(list)+":!"+strings.Join(excluded, ":!"))
	}
	return options
}

func noVerdict(why string) smtptls.Opinion {
	return smtptls.Opinion{Verdict: smtptls.NoVerdict, Why: smtptls.Tidy(why)}
}
