// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/ui"
)

func newTargetLsCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the kernels that are ready",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			store, err := a.store()
			if err != nil {
				return err
			}
			targets, err := store.List()
			if err != nil {
				return err
			}
			results := make([]targetResult, len(targets))
			for i, t := range targets {
				results[i] = resultOfTarget(t)
			}
			if len(targets) == 0 {
				a.Term.Say("no targets yet; tsugictl target add debian:RELEASE makes one")
			}
			return a.Show("targets", results, func() string { return targetTable(targets) })
		},
	}
}

func targetTable(targets []*kernel.Target) string {
	rows := make([][]string, len(targets))
	for i, t := range targets {
		rows[i] = []string{t.Name, t.PackageVersion, t.Arch, short(t.BuildID), strconv.Itoa(len(t.Modules()))}
	}
	return ui.Table([]string{"target", "version", "arch", "build-id", "modules"}, rows, 4)
}

// short is the start of a long hexadecimal name.
func short(hex string) string { return hex[:min(12, len(hex))] }
