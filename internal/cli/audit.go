// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/ui"
)

func newAuditCommand(a *app) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "List who decided what, the newest first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(a, "audit", func(c *client.Client) ([]api.AuditEntry, error) {
				return upTo(limit, func(after string, n int) (*api.List[api.AuditEntry], error) {
					return c.Audit(cmd.Context(), after, n)
				})
			}, func(entries []api.AuditEntry) string {
				rows := make([][]string, len(entries))
				for i, e := range entries {
					rows[i] = []string{time.UnixMilli(e.Time).UTC().Format(time.DateTime), e.Actor, e.Action, e.Object, ui.Dim(e.Detail)}
				}
				return ui.Table([]string{"time (UTC)", "who", "what", "on", ""}, rows)
			})
		},
	}
	cmd.Flags().IntVarP(&limit, "lines", "n", 50, "entries to show")
	return cmd
}
