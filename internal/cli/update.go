// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/series"
	"github.com/tsugi-project/tsugi/internal/survey"
	"github.com/tsugi-project/tsugi/internal/ui"
	"github.com/tsugi-project/tsugi/internal/userland"
)

func newUpdateCommand(a *app) *cobra.Command {
	return command.Parent("update", "The fixes that policies on the server choose from",
		`What is pushed for a target is a series of fixes, each with its verdict there
where it is known. The policies choose from it, and the server builds one live
patch for each choice. A newer update takes the place of the older one.`,
		newUpdatePushCommand(a), newUpdateLsCommand(a), newUpdateRmCommand(a))
}

// pushFlags are what update push is told.
type pushFlags struct {
	target, name, verdicts string
	choice                 choiceOptions
	extra                  bool
}

func newUpdatePushCommand(a *app) *cobra.Command {
	var p pushFlags
	cmd := &cobra.Command{
		Use:   "push [DIR | DIFF...] --target TARGET",
		Short: "Push an update's fixes, or a directory of one's own, to the server",
		Long: `push sends fixes to the server, for one target: those of a distribution's
update (--update), or a directory of diffs. Verdicts of a survey of the same
fixes go with them, from this computer or from the file that --verdicts names;
without any, builds find out what can't be live. Pushing the same again has
builds tried again that failed.

A series that is pushed with --extra is for the policies that name it alone.`,
		Example: `  tsugictl update push --update 6.1.192-1 --target debian:6.1.0-54-amd64
  tsugictl update push --update 2.36-9+deb12u14 --target debian:libc6=2.36-9+deb12u7
  tsugictl update push ./ours --name ours --extra --target debian:6.1.0-54-amd64`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, facts, err := a.pushedSeries(cmd.Context(), args, p)
			if err != nil {
				return err
			}
			b, err := selection.Push(p.target, s, facts).Bytes()
			if err != nil {
				return err
			}
			return ask(a, "update", func(c *client.Client) (*api.Update, error) {
				return c.PushUpdate(cmd.Context(), p.name, p.extra, b)
			}, func(u *api.Update) string { return updateTable([]api.Update{*u}) })
		},
	}
	f := cmd.Flags()
	f.StringVarP(&p.target, "target", "t", "", "kernel or package that the fixes are for (needed)")
	f.StringVar(&p.choice.update, "update", "", "source version up to which the fixes are taken")
	f.StringVar(&p.choice.catalogue, "catalogue", "", "directory of the catalogue of fixes (default catalogue below the home)")
	f.StringVar(&p.name, "name", "update", "name of the series on the server")
	f.StringVar(&p.verdicts, "verdicts", "", "file that tsugictl survey --json wrote")
	f.BoolVar(&p.extra, "extra", false, "only policies that name it take it")
	must(cmd.MarkFlagRequired("target"))
	return cmd
}

// pushedSeries is what is to be pushed, with what is known of it.
func (a *app) pushedSeries(ctx context.Context, args []string, p pushFlags) (*series.Series, map[string]selection.Fact, error) {
	if (p.choice.update == "") == (len(args) == 0) {
		return nil, nil, code.New("TS1901", "", "either --update or a directory of fixes is needed")
	}
	var facts *survey.Facts
	if p.verdicts != "" { // before anything that takes time
		b, err := a.ReadFile(p.verdicts)
		if err != nil {
			return nil, nil, err
		}
		r, err := survey.ReadReport(p.verdicts, b)
		if err != nil {
			return nil, nil, err
		}
		facts = r.Facts()
	}
	if userland.IsName(p.target) {
		s, err := a.pushedPackage(ctx, args, p)
		return s, factsOf(facts), err
	}
	store, err := a.store()
	if err != nil {
		return nil, nil, err
	}
	t, err := store.Get(p.target)
	if err != nil && (p.choice.update != "" || code.Of(err) != "TS2302") {
		return nil, nil, err
	}
	var s *series.Series
	if st, serr := os.Stat(cmp.Or(append(args, "")[0], ".")); len(args) == 1 && serr == nil && st.IsDir() {
		s, err = series.ReadDir(os.DirFS(args[0]))
	} else {
		s, err = a.chosenSeries(ctx, store, t, args, p.choice)
	}
	if err != nil {
		return nil, nil, err
	}
	if facts == nil && t != nil {
		if facts, err = knownFacts(store, t, s); err != nil {
			return nil, nil, err
		}
	}
	return s, factsOf(facts), nil // the series of a target that is not prepared here can be pushed all the same
}

// pushedPackage is the update of a package, or a directory of fixes for one.
func (a *app) pushedPackage(ctx context.Context, args []string, p pushFlags) (*series.Series, error) {
	if p.choice.update == "" { // the target need not be prepared here
		return a.readSeries(args)
	}
	store, err := a.packages()
	if err != nil {
		return nil, err
	}
	t, err := store.Get(p.target)
	if err != nil {
		return nil, err
	}
	return a.packageSeries(ctx, store, t, args, p.choice)
}

// factsOf are the verdicts of a survey, if there is one.
func factsOf(f *survey.Facts) map[string]selection.Fact {
	if f == nil {
		return nil
	}
	return f.Verdicts
}

func newUpdateLsCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List what is pushed",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return askAll(a, "updates", func(c *client.Client, _ string) (*api.List[api.Update], error) {
				return c.Updates(cmd.Context())
			}, updateTable)
		},
	}
}

func updateTable(all []api.Update) string {
	rows := make([][]string, len(all))
	for i, u := range all {
		name := u.Name
		if u.Extra {
			name += " (extra)"
		}
		known := ui.Dim("not known")
		if u.Known > 0 {
			known = strconv.Itoa(u.Live) + " live, " + strconv.Itoa(u.Reboot) + " reboot"
		}
		rows[i] = []string{
			u.Target, name, cmp.Or(u.To, u.Title), strconv.Itoa(u.Fixes), strconv.Itoa(u.CVEs), known, strconv.Itoa(u.Selections), when(u.Created) + " by " + u.CreatedBy,
		}
	}
	return ui.Table([]string{"target", "name", "update", "fixes", "CVEs", "verdicts", "live patches", "pushed"}, rows, 3, 4, 6)
}

func newUpdateRmCommand(a *app) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "rm TARGET",
		Short: "Take back what is pushed for a target; its live patches stay",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(a, "removed", func(c *client.Client) ([]string, error) {
				return args, c.DeleteUpdate(cmd.Context(), args[0], name)
			}, nothing)
		},
	}
	cmd.Flags().StringVar(&name, "name", "update", "name of the series")
	return cmd
}
