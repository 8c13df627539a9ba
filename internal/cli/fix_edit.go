// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/catalogue"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/series"
	"github.com/tsugi-project/tsugi/internal/ui"
	changes "github.com/tsugi-project/tsugi/internal/update"
)

// editFlags are corrections of fixes of an update.
type editFlags struct {
	metaFlags
	attribute, detach, join []string
}

func newFixEditCommand(a *app) *cobra.Command {
	var c fixChoice
	var e editFlags
	cmd := &cobra.Command{
		Use:   "edit ID",
		Short: "Change what is known of a fix, or correct an attribution",
		Long: `edit changes what the catalogue says of a fix. Of a fix of an update it keeps
corrections, which hold whenever the update is computed again: --attribute
SUBJECT gives it an entry of the changelog, --detach SUBJECT takes one away,
--join ID makes another fix of the update one with it. There --cve and
--requires add to what is known. What is kept is a YAML file below updates/ in
the catalogue, and may be edited as such.`,
		Example: `  tsugictl fix edit my --severity high --series own
  tsugictl fix edit fs-ext4-super --update 6.1.192-1 --from 6.1.190-1 --attribute "ext4: fix use-after-free"`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cat, store, err := a.catalogue(c.catalogue)
			if err != nil {
				return err
			}
			if c.update != "" {
				return a.correct(cmd, c, e, cat, store, args[0])
			}
			if len(e.attribute)+len(e.detach)+len(e.join) > 0 {
				return command.Usage(program+" fix edit", "--attribute, --detach and --join are for fixes of an update: give --update")
			}
			s, _, err := a.oneFix(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			if isDir(c.series) {
				return command.Usage(program+" fix edit", "edit the files of a directory outside of the catalogue by hand, or import it")
			}
			err = cat.Change(cmd.Context(), s.Name, func(s *series.Series) error {
				f := s.Fix(args[0])
				if f == nil {
					return code.New("TS1205", args[0], "")
				}
				e.apply(cmd, &f.Meta)
				return f.Check(args[0])
			})
			if err != nil {
				return err
			}
			return a.fixShow(cmd.Context(), fixChoice{catalogue: c.catalogue, series: s.Name}, args[0], false)
		},
	}
	c.flags(cmd, a)
	e.flags(cmd)
	f := cmd.Flags()
	f.StringArrayVar(&e.attribute, "attribute", nil, "an entry of the changelog, by its subject, belongs to this fix (again for more)")
	f.StringArrayVar(&e.detach, "detach", nil, "an entry of the changelog does not belong to this fix (again for more)")
	f.StringSliceVar(&e.join, "join", nil, "another fix of the update is one with this (again for more)")
	return cmd
}

// correct keeps corrections of a fix of an update.
func (a *app) correct(cmd *cobra.Command, c fixChoice, e editFlags, cat *catalogue.Catalogue, store *kernel.Store, id string) error {
	ctx := cmd.Context()
	s, from, err := a.chosenUpdate(ctx, c, cat, store)
	if err != nil {
		return err
	}
	to := c.update
	if s.Fix(id) == nil {
		return code.New("TS1205", id, "the update to "+to)
	}
	for _, subject := range slices.Concat(e.attribute, e.detach) {
		if len(fixesOf(s, subject)) == 0 && !slices.ContainsFunc(s.Unattributed, func(x series.Entry) bool { return x.Subject == subject }) {
			return code.New("TS1212", fmt.Sprintf("the entry %q", subject), "the changelog of the update has none with this subject")
		}
	}
	err = cat.Correct(ctx, from, to, func(x *changes.Corrections) error {
		if x.Fixes == nil {
			x.Fixes = make(map[string]changes.Correction)
		}
		f := x.Fixes[id]
		e.correction(cmd, &f)
		x.Fixes[id] = f
		for _, subject := range e.attribute {
			x.Attribute(subject, append(fixesStated(s, subject), id))
		}
		for _, subject := range e.detach {
			x.Attribute(subject, slices.DeleteFunc(fixesOf(s, subject), func(o string) bool { return o == id }))
		}
		return nil
	})
	if err != nil {
		return err
	}
	if _, _, err := a.chosenUpdate(ctx, c, cat, store); err != nil { // a correction that can't be applied shows now
		return err
	}
	a.Term.Say("%s kept in %s", ui.Good("✓"), cat.Dir())
	return a.fixShow(ctx, c, id, false)
}

func (e *editFlags) correction(cmd *cobra.Command, f *changes.Correction) {
	m := series.Meta{Title: f.Title, Severity: f.Severity, CVSS: f.CVSS, Note: f.Note}
	e.apply(cmd, &m)
	f.Title, f.Severity, f.CVSS, f.Note = m.Title, m.Severity, m.CVSS, m.Note
	f.CVEs = union(f.CVEs, e.cves)
	f.Requires = union(f.Requires, e.requires)
	f.Join = union(f.Join, e.join)
}

func union(a, b []string) []string {
	out := slices.Concat(a, b)
	slices.Sort(out)
	return slices.Compact(out)
}

// fixesOf are the fixes that an entry is attributed to.
func fixesOf(s *series.Series, subject string) []string {
	var out []string
	for _, f := range s.Fixes {
		if slices.ContainsFunc(f.Entries, func(x series.Entry) bool { return x.Subject == subject }) {
			out = append(out, f.ID)
		}
	}
	return out
}

// fixesStated are those that it was attributed to by hand before.
func fixesStated(s *series.Series, subject string) []string {
	var out []string
	for _, f := range s.Fixes {
		if slices.ContainsFunc(f.Entries, func(x series.Entry) bool { return x.Subject == subject && x.Confidence == series.Stated }) {
			out = append(out, f.ID)
		}
	}
	return out
}
