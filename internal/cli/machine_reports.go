// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/ui"
)

func newMachineModulesCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "modules MACHINE",
		Short: "List the kernel modules that a machine has loaded",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return askAll(a, "modules", func(c *client.Client, _ string) (*api.List[api.Module], error) {
				return c.MachineModules(cmd.Context(), args[0])
			}, func(all []api.Module) string {
				rows := make([][]string, len(all))
				for i, m := range all {
					rows[i] = []string{m.Name, m.BuildID}
				}
				return ui.Table([]string{"module", "build-id"}, rows)
			})
		},
	}
}

func newMachineReportsCommand(a *app) *cobra.Command {
	var f client.ReportFilter
	var lines int
	cmd := &cobra.Command{
		Use:   "reports [MACHINE]",
		Short: "List what a machine, or all of them, reported, the newest first",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				f.Machine = args[0]
			}
			return ask(a, "reports", func(c *client.Client) ([]api.StoredReport, error) {
				return upTo(lines, func(after string, limit int) (*api.List[api.StoredReport], error) {
					f.After, f.Limit = after, limit
					return c.Reports(cmd.Context(), f)
				})
			}, func(all []api.StoredReport) string {
				rows := make([][]string, len(all))
				for i, r := range all {
					detail := r.Report.Detail
					if p := r.Report.Patch.Problem; p != nil {
						detail = strings.TrimSpace(string(p.Code) + " " + p.What)
					}
					rows[i] = []string{
						time.UnixMilli(r.Report.Time).UTC().Format(time.DateTime), r.Machine, string(r.Report.Kind),
						r.Report.Kernel.Release, patchOf(r.Report.Patch), ui.Dim(clip(detail, 90)),
					}
				}
				return ui.Table([]string{"time (UTC)", "machine", "kind", "kernel", "live patch", ""}, rows)
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.Kind, "kind", "", "only state, crash, health or agent")
	fl.StringVar(&f.Patch, "livepatch", "", "only those about this live patch")
	fl.IntVarP(&lines, "lines", "n", 50, "reports to show")
	return cmd
}

// upTo gets the first so many of a list, page by page.
func upTo[T any](n int, get func(after string, limit int) (*api.List[T], error)) ([]T, error) {
	all := []T{}
	for after := ""; len(all) < n; {
		l, err := get(after, min(n-len(all), api.MaxPage))
		if err != nil {
			return nil, err
		}
		all = append(all, l.Items...)
		if after = l.Next; after == "" {
			break
		}
	}
	return all, nil
}
