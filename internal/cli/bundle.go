// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/ui"
)

func newBundleCommand(a *app) *cobra.Command {
	var tier, output string
	var ids, machines []string
	cmd := &cobra.Command{
		Use:   "bundle --tier TIER -o FILE",
		Short: "Write a file that carries live patches to machines without a network",
		Long: `bundle gets the signed metadata of the repository, the encrypted live patches of
a tier and their keys, wrapped for the machines named. On such a machine, tsugi
apply FILE verifies it as if it came from the server. Without --livepatch it
carries the newest live patch of the tier for each kernel and each package.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := command.CheckOutput(output); err != nil {
				return err
			}
			c, err := a.server()
			if err != nil {
				return err
			}
			b, err := c.Bundle(cmd.Context(), tier, ids, machines)
			if err != nil {
				return err
			}
			if err := command.WriteFile(output, b); err != nil {
				return err
			}
			return a.Show("bundle", bundleResult{File: output, Size: int64(len(b))}, func() string {
				return output + ", " + ui.Size(int64(len(b))) + "\n"
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&tier, "tier", "", "tier of the machines (needed)")
	f.StringVarP(&output, "output", "o", "", "file to write (needed)")
	f.StringArrayVar(&ids, "livepatch", nil, "live patch to carry (may be repeated; default the newest of the tier for each kernel and package)")
	f.StringArrayVar(&machines, "machine", nil, "machine that may read it (needed; may be repeated)")
	for _, name := range []string{"tier", "output", "machine"} {
		must(cmd.MarkFlagRequired(name))
	}
	return cmd
}

type bundleResult struct {
	File string `json:"file"`
	Size int64  `json:"size"`
}
