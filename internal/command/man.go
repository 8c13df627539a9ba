// SPDX-License-Identifier: Apache-2.0

package command

import (
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// Man writes the manual pages of the whole tree.
func (a *App) Man() *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "Write the manual pages into a directory",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			// A fixed date: the same program writes the same pages.
			epoch := time.Unix(0, 0).UTC()
			root := cmd.Root()
			root.DisableAutoGenTag = true
			header := &doc.GenManHeader{Section: "1", Source: "Tsugi", Manual: "Tsugi", Date: &epoch}
			if err := doc.GenManTree(root, header, args[0]); err != nil {
				return FileProblem("TS1903", args[0], err)
			}
			return nil
		},
	}
}
