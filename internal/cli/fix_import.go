// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/catalogue"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/series"
	"github.com/tsugi-project/tsugi/internal/ui"
)

func newFixImportCommand(a *app) *cobra.Command {
	var place fixChoice
	var name, tree string
	var paths []string
	cmd := &cobra.Command{
		Use:   "import DIR | import --git TREE COMMIT|RANGE...",
		Short: "Import a directory of fixes, or commits of a git tree",
		Long: `import brings a series into the catalogue: a directory of fixes as export writes
it, or commits of a clone of the kernel's stable tree, each one fix. Commits of
a range A..B are taken oldest first, without merges. CVEs of commits are known
from CVE records that were imported before (tsugictl fix feed), by the commits
that these name, and from their messages. Fixes of the same ids are replaced;
what the series holds beside them stays.`,
		Example: `  tsugictl fix import --git ~/linux-stable v6.1.190..v6.1.192 --series stable
  tsugictl fix import fixes/`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cat, _, err := a.catalogue(place.catalogue)
			if err != nil {
				return err
			}
			var fixes []*series.Fix
			var to string
			switch {
			case tree != "":
				to = cmp.Or(name, "git")
				req := catalogue.GitRequest{Dir: tree, Commits: args, Paths: paths}
				if fixes, err = cat.Git(cmd.Context(), req, a.Progress()); err != nil {
					return err
				}
			case len(args) != 1:
				return command.Usage(program+" fix import", "one directory at a time; diffs are added with fix add")
			default:
				info, err := os.Stat(args[0])
				if err == nil && !info.IsDir() {
					err = fmt.Errorf("not a directory")
				}
				if err != nil {
					return command.FileProblem("TS1902", args[0], err)
				}
				s, err := series.ReadDir(os.DirFS(args[0]))
				if err != nil {
					return err
				}
				fixes = s.Fixes
				to = cmp.Or(name, s.Name, filepath.Base(filepath.Clean(args[0])))
			}
			change := fixChange{Series: to, Added: []string{}}
			err = cat.Change(cmd.Context(), to, func(s *series.Series) error {
				for _, f := range fixes {
					if i := slices.IndexFunc(s.Fixes, func(o *series.Fix) bool { return o.ID == f.ID }); i >= 0 {
						s.Fixes[i], change.Replaced = f, append(change.Replaced, f.ID)
					} else {
						s.Fixes, change.Added = append(s.Fixes, f), append(change.Added, f.ID)
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
			return a.Show("changed", change, func() string {
				return fmt.Sprintf("%s %s added to series %s, %d replaced\n", ui.Good("✓"), ui.Count(len(change.Added), "fix"), to, len(change.Replaced))
			})
		},
	}
	place.place(cmd)
	f := cmd.Flags()
	f.StringVar(&name, "series", "", "the series that they go to (default the directory's name, or git)")
	f.StringVar(&tree, "git", "", "a clone of the kernel's tree")
	f.StringSliceVar(&paths, "path", nil, "with --git, only commits that change files below this path (again for more)")
	return cmd
}
