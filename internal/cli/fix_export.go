// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/series"
	"github.com/tsugi-project/tsugi/internal/ui"
)

func newFixExportCommand(a *app) *cobra.Command {
	var c fixChoice
	var q filterFlags
	cmd := &cobra.Command{
		Use:   "export DIR",
		Short: "Write fixes as files",
		Long: `export writes one series, or the chosen fixes of it with those that they
require, as a directory: ID.diff with what is known of it in front, and
series.yaml with the order. import reads it back. DIR must not exist or be
empty.`,
		Example: "  tsugictl fix export out/ --update 6.1.192-1 --from 6.1.190-1 --security",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := q.check("export", c); err != nil {
				return err
			}
			return a.fixExport(cmd.Context(), c, q, args[0])
		},
	}
	c.flags(cmd, a)
	q.flags(cmd)
	return cmd
}

func (a *app) fixExport(ctx context.Context, c fixChoice, q filterFlags, dir string) error {
	all, err := a.chosenFixes(ctx, c)
	if err != nil {
		return err
	}
	if len(all) != 1 {
		return command.Usage(program+" fix export", "name one series with --series, or an update with --update")
	}
	s := *all[0]
	verdicts, err := a.verdictsOf(c, &s)
	if err != nil {
		return err
	}
	keep := make(map[string]bool)
	for i := len(s.Fixes) - 1; i >= 0; i-- { // what is required comes before
		f := s.Fixes[i]
		if keep[f.ID] = keep[f.ID] || q.take(f, verdicts); keep[f.ID] {
			for _, r := range f.Requires {
				keep[r] = true
			}
		}
	}
	var fixes []*series.Fix
	for _, f := range s.Fixes {
		if keep[f.ID] {
			fixes = append(fixes, f)
		}
	}
	if len(fixes) < len(s.Fixes) {
		s.Unattributed = nil
	}
	s.Fixes = fixes
	files, err := s.Files()
	if err != nil {
		return err
	}
	have, err := os.ReadDir(dir)
	switch {
	case err == nil && len(have) > 0:
		return command.FileProblem("TS1903", dir, errors.New("the directory is not empty"))
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return command.FileProblem("TS1903", dir, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return command.FileProblem("TS1903", dir, err)
	}
	for name, b := range files {
		if err := command.WriteFile(filepath.Join(dir, name), b); err != nil {
			return err
		}
	}
	ids := make([]string, len(fixes))
	for i, f := range fixes {
		ids[i] = f.ID
	}
	return a.Show("exported", map[string]any{"directory": dir, "fixes": ids}, func() string {
		return ui.Good("✓") + " " + ui.Count(len(ids), "fix") + " written to " + dir + "\n"
	})
}
