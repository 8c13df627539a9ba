// SPDX-License-Identifier: Apache-2.0

package servercli

import (
	"github.com/spf13/cobra"
)

func newConfigCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show the configuration in force, and check it",
		Long: `config shows every setting as a server in this directory would run with it,
whether it comes from the file, the environment or the defaults. Secrets are not
shown. An error in any of them is an error here.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.load(cmd)
			if err != nil {
				return err
			}
			values, err := c.Values()
			if err != nil {
				return err
			}
			text, err := c.YAML()
			if err != nil {
				return err
			}
			return a.Show("config", values, func() string { return string(text) })
		},
	}
	settings(cmd)
	return cmd
}
