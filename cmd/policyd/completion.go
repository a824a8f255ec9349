package main

import "github.com/spf13/cobra"

// newCompletion replaces the command of cobra, which accepts any word as a shell and exits 0.
func newCompletion() *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|fish|powershell|zsh",
		Short: "Print the completions for a shell",
		Long: `Print a script that lets the shell complete the commands and options of policyd. The packages install
the scripts for bash, fish and zsh.`,
		Example:   "  source <(policyd completion bash)",
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"bash", "fish", "powershell", "zsh"},
		RunE: func(cmd *cobra.Command, args []string) error {
			root, out := cmd.Root(), cmd.OutOrStdout()
			switch args[0] {
			case "bash":
				return failed(root.GenBashCompletionV2(out, true))
			case "fish":
				return failed(root.GenFishCompletion(out, true))
			case "zsh":
				return failed(root.GenZshCompletion(out))
			}
			return failed(root.GenPowerShellCompletionWithDesc(out))
		},
	}
}
