package main

import (
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/policyd/policyd/cmd/policyd/internal/doctor"
	"github.com/policyd/policyd/internal/policy"
)

func newDoctor(c *common) *cobra.Command {
	o := doctor.Options{User: os.Geteuid(), ResolvConf: "/etc/resolv.conf", Proc: "/proc"}
	cmd := withJSONFlag(&cobra.Command{
		Use:   "doctor",
		Short: "Examine the resolver, Postfix and the connection between them",
		Long: `Examine the sender's side: the resolver, Postfix with main.cf and master.cf as postconf(1) reports them,
root certificates, the chroot, the domains of this site, and the connection between Postfix and policyd. Nothing is
changed. Run it as root: the tables and sockets of Postfix may be closed to other users.

Each finding has a stable code, explains why it matters and ends with commands that correct it, or comments, which
can be pasted into a shell. A finding that cannot be tested is "untested" and does not count as a
failure.

Exit status: 0 nothing to change, 1 warnings or errors, 2 usage.`,
		Example: "  policyd doctor\n  policyd doctor --egress mx.example.com\n  policyd doctor --json",
		PreRunE: func(*cobra.Command, []string) error {
			for i, h := range o.Egress {
				name, ok := policy.ParseName(h)
				if address, err := netip.ParseAddr(strings.Trim(h, "[]")); err == nil {
					name, ok = address.String(), true
				}
				if !ok {
					return fmt.Errorf("--egress %q is neither a host name nor an address", h)
				}
				o.Egress[i] = name
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Settings, _ = c.load(cmd) // a mistake is a finding
			report := doctor.Examine(cmd.Context(), o)
			text := func(s *screen, r doctor.Report) { _, _ = s.WriteString(r.Text(s.colour)) }
			if err := show(cmd, report, text); err != nil || report.Sound() {
				return err
			}
			return &exit{status: exitFailed}
		},
	})
	cmd.Flags().StringArrayVar(&o.Egress, "egress", nil,
		"test the connection to ports 25 and 26 of this `host`; may be repeated")
	cmd.Flags().StringVar(&o.ConfigDirectory, "postfix-dir", "",
		"configuration `directory` of Postfix (default: the one that postconf uses)")
	_ = cmd.MarkFlagDirname("postfix-dir") // fails only for an unknown flag
	cmd.Flags().StringVar(&o.Socket, "socket", "", "admin socket of the daemon (default: admin.socket of the settings)")
	return cmd
}
