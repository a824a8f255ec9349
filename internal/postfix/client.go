package postfix

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"os/exec"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/policyd/policyd/internal/smtptls"
)

// ClientOptions say which Postfix a Client asks. Postconf and ConfigDirectory are as in Options.
type ClientOptions struct {
	Postconf, ConfigDirectory string
	// Transport is the service of master.cf that delivers over implicit TLS: its -o options replace those of main.cf.
	Transport string
	// CAFile has the roots where smtp_tls_CAfile is empty; "" means none. OnlyCAFile uses it instead of Postfix's
	// roots.
	CAFile     string
	OnlyCAFile bool
	Logger     *slog.Logger
}

// Client is the SMTP client of Postfix on this machine, smtp(8), as a smtptls.Judge: it has the name that Postfix uses
// in EHLO, and asks posttls-finger(1) with the roots, protocols and ciphers of a "secure" destination. Without Postfix
// it has neither. It reads main.cf again after a minute.
type Client struct {
	o     ClientOptions
	slots *semaphore.Weighted

	mu       sync.Mutex // guards what follows
	read     time.Time
	commands Commands
	helo     string
	options  map[bool][]string // of posttls-finger for implicit TLS, and for STARTTLS; nil without posttls-finger
	warned   bool
}

const (
	clientRefresh = time.Minute
	clientSlots   = 4 // processes at the same time
)

// NewClient returns a Client.
func NewClient(o ClientOptions) *Client {
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	return &Client{o: o, slots: semaphore.NewWeighted(clientSlots)}
}

// Helo returns the name that Postfix uses in EHLO, "" if that is not known.
func (c *Client) Helo(ctx context.Context) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refresh(ctx)
	return c.helo
}

// Ask implements smtptls.Judge. Without posttls-finger(1) it returns the zero Opinion.
func (c *Client) Ask(ctx context.Context, d smtptls.Dialogue) smtptls.Opinion {
	c.mu.Lock()
	c.refresh(ctx)
	commands, installed, options := c.commands, c.options != nil, c.options[d.Implicit]
	c.mu.Unlock()
	switch {
	case !installed:
		return smtptls.Opinion{}
	case len(options) == 0:
		return smtptls.Opinion{Verdict: smtptls.NoVerdict, Why: "Postfix has no root certificates: set smtp_tls_CAfile"}
	}
	if c.slots.Acquire(ctx, 1) != nil {
		return smtptls.Opinion{Verdict: smtptls.NoVerdict, Why: "deadline exceeded"}
	}
	defer c.slots.Release(1)
	return commands.finger(ctx, options, d)
}

// refresh reads the settings of Postfix if they are old; c.mu is held. A setting that cannot be read stays as it was.
func (c *Client) refresh(ctx context.Context) {
	if time.Since(c.read) < clientRefresh {
		return
	}
	err := c.readSettings(ctx)
	if ctx.Err() != nil {
		return // the caller went away, which says nothing about Postfix
	}
	c.read = time.Now()
	if err != nil && !c.warned {
		c.o.Logger.Warn("cannot read the settings of Postfix's SMTP client", "err", err)
	}
	c.warned = err != nil
}

func (c *Client) readSettings(ctx context.Context) error {
	commands, err := Find(c.o.Postconf, c.o.ConfigDirectory)
	if errors.Is(err, ErrNotInstalled) {
		c.helo, c.options = "", nil
		return nil
	}
	values, err := commands.Parameters(ctx, "smtp_helo_name", "smtp_tls_CAfile", "smtp_tls_CApath",
		"smtp_tls_mandatory_protocols", "smtp_tls_mandatory_ciphers", "smtp_tls_exclude_ciphers",
		"smtp_tls_mandatory_exclude_ciphers", "tls_high_cipherlist", "tls_medium_cipherlist")
	if err != nil {
		return err
	}
	options, err := commands.Settings(ctx, "-P", "-x")
	if err != nil {
		return err
	}
	onPort26 := maps.Clone(values)
	for option, value := range options {
		if name, ok := strings.CutPrefix(option, c.o.Transport+"/unix/"); ok {
			onPort26[name] = value
		}
	}
	c.commands, c.helo = commands, onPort26["smtp_helo_name"]
	c.options = nil // without posttls-finger the Go client judges alone
	if _, err := exec.LookPath(commands.beside("posttls-finger")); err == nil {
		c.options = map[bool][]string{true: c.fingerOptions(onPort26), false: c.fingerOptions(values)}
	}
	return nil
}

// fingerOptions returns the options of posttls-finger for settings of smtp(8); none if there is no root certificate.
func (c *Client) fingerOptions(values map[string]string) []string {
	file, path := cmp.Or(values["smtp_tls_CAfile"], c.o.CAFile), values["smtp_tls_CApath"]
	if c.o.OnlyCAFile {
		file, path = c.o.CAFile, ""
	}
	if file == "" && path == "" {
		return nil
	}
	var options []string
	grade, protocols := values["smtp_tls_mandatory_ciphers"], values["smtp_tls_mandatory_protocols"]
	for _, o := range [][]string{{"-F", file}, {"-P", path}, {"-p", protocols}, {"-g", grade}} {
		if o[1] != "" {
			options = append(options, o...)
		}
	}
	// posttls-finger has no option for excluded ciphers: they are taken out of the list of the grade.
	list := "tls_" + grade + "_cipherlist"
	excluded := strings.FieldsFunc(values["smtp_tls_exclude_ciphers"]+" "+values["smtp_tls_mandatory_exclude_ciphers"],
		func(r rune) bool { return strings.ContainsRune(" \t,:", r) })
	if values[list] != "" && len(excluded) > 0 {
		options = append(options, "-o", list+"="+values[list]+":!"+strings.Join(excluded, ":!"))
	}
	return options
}
