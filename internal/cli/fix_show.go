// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/fix"
)

func newFixShowCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show DIFF",
		Short: "Show what a diff touches and what it says about itself",
		Long:  `show reads a diff ("-" is standard input) and sums it up.`,
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := a.readFix(args[0])
			if err != nil {
				return err
			}
			r := resultOfFix(f)
			return a.Show("fix", r, func() string { return fixText(r) })
		},
	}
}

func (a *app) readFix(path string) (*fix.Fix, error) {
	b, err := a.ReadFile(path)
	if err != nil {
		return nil, err
	}
	name := path
	if path == "-" {
		name = "stdin"
	}
	return fix.Parse(name, b)
}
