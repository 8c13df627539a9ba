// SPDX-License-Identifier: Apache-2.0

// Package man writes the manual pages of a program. It is apart from what all
// programs share because the agent has to be small: the machine that makes the
// agent's package writes its pages.
package man

import (
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/tsugi-project/tsugi/internal/command"
)

// Command is the command of a program that writes the pages of its whole tree.
func Command() *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "Write the manual pages into a directory",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return Write(cmd.Root(), args[0])
		},
	}
}

// Write writes the pages of the tree below root into a directory that is there.
func Write(root *cobra.Command, dir string) error {
	// A fixed date: the same program writes the same pages.
	epoch := time.Unix(0, 0).UTC()
	root.DisableAutoGenTag = true
	header := &doc.GenManHeader{Section: "1", Source: "Tsugi", Manual: "Tsugi", Date: &epoch}
	if err := doc.GenManTree(root, header, dir); err != nil {
		return command.FileProblem("TS1903", dir, err)
	}
	return nil
}
