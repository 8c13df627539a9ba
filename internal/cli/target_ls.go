// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/ui"
)

func newTargetLsCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the kernels and packages that are ready",
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
			pkgs, err := a.packages()
			if err != nil {
				return err
			}
			packaged, err := pkgs.List()
			if err != nil {
				return err
			}
			results := make([]any, 0, len(targets)+len(packaged))
			for _, t := range targets {
				results = append(results, resultOfTarget(t))
			}
			for _, t := range packaged {
				results = append(results, resultOfPackage(t))
			}
			if len(results) == 0 {
				a.Term.Say("no targets yet; tsugictl target add debian:RELEASE makes one")
			}
			return a.Show("targets", results, func() string {
				var tables []string
				if len(targets) > 0 {
					tables = append(tables, targetTable(targets))
				}
				if len(packaged) > 0 {
					tables = append(tables, packageTable(packaged))
				}
				return strings.Join(tables, "\n")
			})
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
