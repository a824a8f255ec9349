package main

import (
	"github.com/spf13/cobra"

	"github.com/policyd/policyd/internal/fleet"
)

func newFleet() *cobra.Command {
	return group("fleet", "Make the key that the nodes of a site share", &cobra.Command{
		Use:   "key",
		Short: "Print a new random site key",
		Long: `Print a new random key for the setting fleet.key_file. Every node of the site needs the same key; anyone
who has it can add promises and policies to those that the nodes share.

To change the key, rename the file of the present key and set fleet.previous_key_file to it, write the new key to the
file of fleet.key_file, and restart policyd, on one node after the other: a node signs with the new key and accepts
both. A day after the last node, remove fleet.previous_key_file on every node and restart policyd again.`,
		Example: "  (umask 027; policyd fleet key >/etc/policyd/fleet.key)\n  chgrp policyd /etc/policyd/fleet.key",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return show(cmd, fleet.NewKey(), func(s *screen, key fleet.Key) { s.linef("%s", key.Text()) })
		},
	})
}
