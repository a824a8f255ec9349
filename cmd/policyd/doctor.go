package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/policyd/policyd/cmd/policyd/internal/doctor"
	"github.com/policyd/policyd/cmd/policyd/internal/settings"
	"github.com/policyd/policyd/internal/policy"
)

type doctorFlags struct {
	json     bool
	instance string
	egress   []string
	socket   string
}

func newDoctor(c *common) *cobra.Command {
	f := doctorFlags{}
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Examine this sender: resolver, Postfix, and the way between them",
		Long: `Examine the sender's side: whether the resolver validates, is trusted, and is the one
that Postfix asks; what follows from the version of Postfix; main.cf and master.cf
as postconf(1) reports them; certificate authorities; the chroot; whether the
domains of this site are kept from routes; a question asked directly and through
postmap(1). Nothing is changed. Run it as root: Postfix's tables and sockets may
be closed to others.

Each finding has a stable code, says why it matters, and what to change. What
cannot be tested is "untested" and counts as no failure. Ports 25 and 26 of other
hosts are tried with --egress only.

Mistakes in the settings come first; the rest is examined with the defaults of those
settings.

Exit status: 0 nothing is to be changed, 1 there are warnings or errors, 2 usage.`,
		Example: "  policyd doctor\n  policyd doctor --egress mx.example.com\n  policyd doctor --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for i, h := range f.egress {
				host, err := egressHost(h)
				if err != nil {
					return err
				}
				f.egress[i] = host
			}
			return examine(cmd, c, f)
		},
	}
	cmd.Flags().BoolVar(&f.json, "json", false, "as JSON")
	cmd.Flags().StringArrayVar(&f.egress, "egress", nil, "connect to ports 25 and 26 of this `host`; may be repeated")
	cmd.Flags().StringVar(&f.instance, "postfix-dir", "", "configuration `directory` of Postfix (default Postfix's own)")
	_ = cmd.MarkFlagDirname("postfix-dir") // fails for a flag that does not exist only
	cmd.Flags().StringVar(&f.socket, "socket", "", "admin socket of the daemon (default: that of the settings)")
	_ = cmd.MarkFlagFilename("socket")
	return cmd
}

// egressHost reads a host of --egress: a name, or an address, also as Postfix writes it.
func egressHost(s string) (string, error) {
	address := strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	if a, err := netip.ParseAddr(address); err == nil {
		return a.String(), nil
	}
	name, ok := policy.ParseName(s)
	if !ok {
		return "", fmt.Errorf("--egress %q is neither the name of a host nor an address", s)
	}
	return name, nil
}

func examine(cmd *cobra.Command, c *common, f doctorFlags) error {
	o := doctor.Options{ConfigDirectory: f.instance, Egress: f.egress, User: os.Geteuid(), Socket: f.socket}
	var err error
	if o.Settings, err = c.load(cmd); err != nil {
		wrong, ok := errors.AsType[*settings.Error](err)
		if !ok || o.Settings == nil {
			return failed(err)
		}
		o.Mistakes = wrong.Problems
	}
	report := doctor.Examine(cmd.Context(), o)
	out := cmd.OutOrStdout()
	if f.json {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		err = e.Encode(report)
	} else {
		err = report.Text(out, palette(out))
	}
	if err == nil && !report.Sound() {
		return &exit{status: exitFailed}
	}
	return failed(err)
}
