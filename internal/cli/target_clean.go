// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/kbuild"
	"github.com/tsugi-project/tsugi/internal/ui"
)

// cleanResult is what target clean did.
type cleanResult struct {
	Target string `json:"target"`
	Files  int    `json:"files"`
	Bytes  int64  `json:"bytes"`
}

func newTargetCleanCommand(a *app) *cobra.Command {
	days := 30
	cmd := &cobra.Command{
		Use:   "clean NAME...",
		Short: "Remove compiled objects that no build has used lately",
		Long: `clean removes from the cache of a target what belongs to selections of fixes and
was not used for some days: patched objects and preprocessed texts. The objects
of the original source stay. What is needed again is compiled again.`,
		Args: cobra.MinimumNArgs(1),

		ValidArgsFunction: a.completeTargets,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.targetClean(cmd.Context(), args, time.Duration(days)*24*time.Hour)
		},
	}
	cmd.Flags().IntVar(&days, "unused", days, "days that something was not used, 2 at least")
	return cmd
}

func (a *app) targetClean(ctx context.Context, names []string, unused time.Duration) error {
	store, err := a.store()
	if err != nil {
		return err
	}
	results := make([]cleanResult, 0, len(names))
	for _, name := range names {
		t, err := store.Get(name)
		if err != nil {
			return err
		}
		r := cleanResult{Target: t.Name}
		if r.Files, r.Bytes, err = kbuild.Clean(ctx, t, max(unused, 0)); err != nil {
			return err
		}
		results = append(results, r)
	}
	return a.Show("cleaned", results, func() string {
		s := ""
		for i, r := range results {
			if i > 0 {
				s += "\n"
			}
			s += fmt.Sprintf("%s %s: %d files, %s", ui.Good("✓"), r.Target, r.Files, ui.Size(r.Bytes))
		}
		return s
	})
}
