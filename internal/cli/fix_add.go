// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/catalogue"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/series"
	"github.com/tsugi-project/tsugi/internal/ui"
)

// metaFlags set what is known of a fix.
type metaFlags struct {
	title, severity, cvss, origin, note string
	cves, advisories, requires          []string
}

func (m *metaFlags) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&m.title, "title", "", "what it does, in a line")
	f.StringSliceVar(&m.cves, "cve", nil, "a CVE that it fixes (again or with commas for more)")
	f.StringSliceVar(&m.advisories, "advisory", nil, "an advisory that tells of it (again or with commas for more)")
	f.StringVar(&m.severity, "severity", "", "low, medium, high or critical")
	f.StringVar(&m.cvss, "cvss", "", "CVSS vector, version 3.0, 3.1 or 4.0")
	f.StringVar(&m.origin, "origin", "", "upstream commit or URL")
	f.StringSliceVar(&m.requires, "requires", nil, "id of a fix that must be there too (again or with commas for more)")
	f.StringVar(&m.note, "note", "", "what else there is to say")
}

// apply changes what flags were given for.
func (m *metaFlags) apply(cmd *cobra.Command, to *series.Meta) {
	set := func(name string, field *string, value string) {
		if cmd.Flags().Changed(name) {
			*field = value
		}
	}
	set("title", &to.Title, m.title)
	set("cvss", &to.CVSS, m.cvss)
	set("origin", &to.Origin, m.origin)
	set("note", &to.Note, m.note)
	set("severity", (*string)(&to.Severity), m.severity)
	if cmd.Flags().Changed("cve") {
		to.CVEs = m.cves
	}
	if cmd.Flags().Changed("advisory") {
		to.Advisories = m.advisories
	}
	if cmd.Flags().Changed("requires") {
		to.Requires = m.requires
	}
}

func newFixAddCommand(a *app) *cobra.Command {
	var place fixChoice
	var m metaFlags
	var id, name string
	cmd := &cobra.Command{
		Use:   "add DIFF...",
		Short: "Put diffs into the catalogue",
		Long: `add puts diffs into a series of the catalogue, behind those that are there. What
is known of a diff stands in a YAML header in front of it, in NAME.yaml beside
it, or in flags, which win. A fix of the same id is replaced.`,
		Example: `  tsugictl fix add my.diff --title "net: check the length" --cve CVE-2026-12345 --severity high
  tsugictl fix add --series site fixes/*.diff`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if id != "" && len(args) > 1 {
				return command.Usage(program+" fix add", "--id is for one diff")
			}
			var fixes []*series.Fix
			for _, path := range args {
				f, err := a.readSeriesFix(path)
				if err != nil {
					return err
				}
				m.apply(cmd, &f.Meta)
				if id != "" {
					f.ID = id
				}
				if f.Subsystem == "" {
					f.Subsystem = series.SubsystemOf(f.Diff)
				}
				if err := f.Check(path); err != nil {
					return err
				}
				fixes = append(fixes, f)
			}
			return a.fixAdd(cmd.Context(), place.catalogue, name, fixes)
		},
	}
	place.place(cmd)
	m.flags(cmd)
	cmd.Flags().StringVar(&id, "id", "", "its id (default the file's name)")
	cmd.Flags().StringVar(&name, "series", catalogue.Own, "the series that it goes to")
	return cmd
}

func (a *app) fixAdd(ctx context.Context, dir, name string, fixes []*series.Fix) error {
	cat, _, err := a.catalogue(dir)
	if err != nil {
		return err
	}
	added, replaced := []string{}, []string{}
	err = cat.Change(ctx, name, func(s *series.Series) error {
		for _, f := range fixes {
			if slices.Contains(added, f.ID) || slices.Contains(replaced, f.ID) {
				return code.New("TS1203", f.ID, "two of the diffs")
			}
			if i := slices.IndexFunc(s.Fixes, func(o *series.Fix) bool { return o.ID == f.ID }); i >= 0 {
				s.Fixes[i], replaced = f, append(replaced, f.ID)
			} else {
				s.Fixes, added = append(s.Fixes, f), append(added, f.ID)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return a.Show("changed", fixChange{Series: name, Added: added, Replaced: replaced}, func() string {
		var b strings.Builder
		for _, id := range added {
			b.WriteString(ui.Good("✓") + " " + id + " added to " + name + "\n")
		}
		for _, id := range replaced {
			b.WriteString(ui.Good("✓") + " " + id + " replaced in " + name + "\n")
		}
		return b.String()
	})
}

// fixChange tells what became of a series, in JSON.
type fixChange struct {
	Series   string   `json:"series"`
	Added    []string `json:"added,omitempty"`
	Replaced []string `json:"replaced,omitempty"`
	Removed  []string `json:"removed,omitempty"`
}

// sidecarOf reads the header beside a diff, or nil.
func sidecarOf(path string) ([]byte, error) {
	beside := strings.TrimSuffix(path, filepath.Ext(path)) + ".yaml"
	b, err := os.ReadFile(beside)
	switch {
	case beside == path, filepath.Base(beside) == series.Index, errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, command.FileProblem("TS1902", beside, err)
	case b == nil:
		return []byte{}, nil
	}
	return b, nil
}
