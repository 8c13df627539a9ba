// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/ui"
)

func newOverviewCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "overview",
		Short: "Show how the fleet stands, in numbers",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(a, "overview", func(c *client.Client) (*api.Overview, error) {
				return c.Overview(cmd.Context())
			}, overviewText)
		},
	}
}

func overviewText(o *api.Overview) string {
	var jobs []string
	for _, state := range slices.Sorted(maps.Keys(o.Jobs)) {
		if n := o.Jobs[state]; n > 0 {
			jobs = append(jobs, strconv.Itoa(n)+" "+string(state))
		}
	}
	pairs := [][2]string{{"machines", strconv.Itoa(o.Machines)}}
	for _, p := range []api.Protection{api.Protected, api.Outdated, api.Partly, api.Unprotected, api.Failing, api.Silent, api.NotCovered} {
		if n := o.Protections[p]; n > 0 {
			pairs = append(pairs, [2]string{"  " + string(p), strconv.Itoa(n)})
		}
	}
	if o.Stale > 0 {
		pairs = append(pairs, [2]string{"processes to restart", "on " + ui.Count(o.Stale, "machine")})
	}
	for _, need := range api.Needs() {
		n := 0
		for _, machines := range o.Open[need] {
			n += machines
		}
		if n > 0 {
			pairs = append(pairs, [2]string{"open, needs " + string(need), ui.Count(n, "machine")})
		}
	}
	return ui.Pairs(append(pairs,
		[2]string{"not promoted", some(o.Unpromoted)},
		[2]string{"exclusions that end", some(o.Ending)},
		[2]string{"builds", strings.Join(jobs, ", ")},
		[2]string{"counted", when(o.Counted)},
	)...)
}

func newWhoamiCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "whoami",
		Short: "Show the server, who you are there, and what you may do",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(a, "whoami", func(c *client.Client) (*api.Whoami, error) {
				return c.Whoami(cmd.Context())
			}, func(w *api.Whoami) string {
				var may []string
				for _, p := range slices.Sorted(maps.Keys(w.May)) {
					if groups := w.May[p]; len(groups) > 0 {
						p += " (" + strings.Join(groups, ", ") + ")"
					}
					may = append(may, p)
				}
				return ui.Pairs([2]string{"server", w.Server}, [2]string{"version", w.Version}, [2]string{"name", w.Name}, [2]string{"role", w.Role}) +
					ui.Flow("may      ", may, ",")
			})
		},
	}
}
