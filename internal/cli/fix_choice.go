// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/catalogue"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/series"
	"github.com/tsugi-project/tsugi/internal/survey"
	"github.com/tsugi-project/tsugi/internal/userland"
)

// fixChoice says which fixes a command is about: those of the catalogue's
// series, of a directory, or of an update.
type fixChoice struct {
	catalogue string
	series    string // a series of the catalogue, or a directory
	update    string // source version that the update goes to
	from      string // and comes from
	target    string // whose source version it comes from, and whose verdicts count
}

func (c *fixChoice) flags(cmd *cobra.Command, a *app) {
	c.place(cmd)
	f := cmd.Flags()
	f.StringVar(&c.series, "series", "", "a series of the catalogue, or a directory of fixes (default all series)")
	f.StringVar(&c.update, "update", "", "the fixes of the update to this source version (6.1.192-1)")
	f.StringVar(&c.from, "from", "", "the source version that the update starts from")
	f.StringVarP(&c.target, "target", "t", "", "the target that the update starts from, and whose verdicts are shown")
	_ = cmd.RegisterFlagCompletionFunc("target", a.completeTargets)
	cmd.MarkFlagsMutuallyExclusive("series", "update")
	cmd.MarkFlagsMutuallyExclusive("from", "target")
}

func (c *fixChoice) place(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.catalogue, "catalogue", "", "directory of the catalogue (default catalogue/ in the caches)")
}

// open opens the catalogue.
func (a *app) catalogue(dir string) (*catalogue.Catalogue, *kernel.Store, error) {
	store, err := a.store()
	if err != nil {
		return nil, nil, err
	}
	c, err := catalogue.Open(cmp.Or(dir, filepath.Join(store.Home(), "catalogue")))
	return c, store, err
}

// versions are those of the chosen update.
func (c *fixChoice) versions(store *kernel.Store) (from, to string, err error) {
	if c.from != "" {
		return c.from, c.update, nil
	}
	if c.target == "" {
		targets, err := store.List()
		if err != nil {
			return "", "", err
		}
		from, err := onlySource(targets, c.update)
		return from, c.update, err
	}
	t, err := store.Get(c.target)
	if err != nil {
		return "", "", err
	}
	return t.SourceVersion, c.update, nil
}

// onlySource is the source version that an update starts from on this
// computer, when its targets leave no choice: those of the same kernel series
// have one source in common that is another than the update's.
func onlySource(targets []*kernel.Target, to string) (string, error) {
	var from []string
	for _, t := range targets {
		if v := t.SourceVersion; v != to && kernelSeries(v) == kernelSeries(to) && !slices.Contains(from, v) {
			from = append(from, v)
		}
	}
	if len(from) == 1 {
		return from[0], nil
	}
	slices.Sort(from)
	why := "--update needs --from VERSION or --target NAME"
	if len(from) > 1 {
		why += "; targets here have " + strings.Join(from, " and ")
	}
	return "", command.Usage(program+" fix", why)
}

// kernelSeries is "6.1" of "6.1.190-1".
func kernelSeries(version string) string {
	parts := strings.SplitN(version, ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}

// chosenFixes reads the chosen series.
func (a *app) chosenFixes(ctx context.Context, c fixChoice) ([]*series.Series, error) {
	cat, store, err := a.catalogue(c.catalogue)
	if err != nil {
		return nil, err
	}
	switch {
	case c.update != "":
		s, _, err := a.chosenUpdate(ctx, c, cat, store)
		if err != nil {
			return nil, err
		}
		return []*series.Series{s}, nil
	case isDir(c.series):
		s, err := series.ReadDir(os.DirFS(c.series))
		if err != nil {
			return nil, err
		}
		s.Name = cmp.Or(s.Name, filepath.Base(c.series))
		return []*series.Series{s}, nil
	case c.series != "":
		s, err := cat.Series(c.series)
		if err != nil {
			return nil, err
		}
		return []*series.Series{s}, nil
	}
	names, err := cat.Names()
	if err != nil {
		return nil, err
	}
	var out []*series.Series
	for _, n := range names {
		s, err := cat.Series(n)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// chosenUpdate is the update that was chosen, of a kernel or a package, and what
// its corrections are kept as coming from.
func (a *app) chosenUpdate(ctx context.Context, c fixChoice, cat *catalogue.Catalogue, store *kernel.Store) (s *series.Series, from string, err error) {
	if userland.IsName(c.target) {
		pkgs, err := a.packages()
		if err != nil {
			return nil, "", err
		}
		t, err := pkgs.Get(c.target)
		if err != nil {
			return nil, "", err
		}
		s, err := cat.PackageUpdate(ctx, pkgs, t, c.update, a.Progress())
		return s, catalogue.PackageFrom(t), err
	}
	from, to, err := c.versions(store)
	if err != nil {
		return nil, "", err
	}
	s, err = cat.Update(ctx, store, from, to, a.Progress())
	return s, from, err
}

// isDir tells whether a word is meant as a directory: it has a slash, or is ".".
func isDir(word string) bool { return strings.ContainsRune(word, '/') || word == "." }

// oneFix finds a fix by its id among the chosen ones.
func (a *app) oneFix(ctx context.Context, c fixChoice, id string) (*series.Series, *series.Fix, error) {
	all, err := a.chosenFixes(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	var in []string
	var s *series.Series
	for _, x := range all {
		if x.Fix(id) != nil {
			in, s = append(in, x.Name), x
		}
	}
	switch len(in) {
	case 0:
		return nil, nil, code.New("TS1205", id, "").WithFix("list what there is with tsugictl fix ls; fixes of an update need --update")
	case 1:
		return s, s.Fix(id), nil
	}
	return nil, nil, code.New("TS1205", id, "it is in the series "+strings.Join(in, " and ")).WithFix("name one with --series")
}

// verdictsOf are what surveys found out about a series on the chosen target.
func (a *app) verdictsOf(c fixChoice, s *series.Series) (map[string]selection.Fact, error) {
	if c.target == "" || userland.IsName(c.target) {
		return nil, nil
	}
	store, err := a.store()
	if err != nil {
		return nil, err
	}
	t, err := store.Get(c.target)
	if err != nil {
		return nil, err
	}
	facts, err := knownFacts(store, t, s)
	if err != nil {
		return nil, err
	}
	return facts.Verdicts, nil
}

// filterFlags are what fixes are chosen by.
type filterFlags struct {
	series.Filter
	severity string
	verdict  string
}

func (q *filterFlags) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&q.CVE, "cve", "", "only fixes of this CVE; * and ? match")
	f.StringVar(&q.severity, "severity", "", "only fixes known to be at least low, medium, high or critical")
	f.StringVar(&q.Subsystem, "subsystem", "", "only fixes that change a file below this path (fs/ext4)")
	f.BoolVar(&q.Exploited, "exploited", false, "only fixes of CVEs that are known to be exploited")
	f.BoolVar(&q.Security, "security", false, "only fixes with a CVE or an advisory")
	f.StringVar(&q.verdict, "verdict", "", "only fixes that surveys of --target found live, reboot, not-affected, error, or unknown")
	f.StringVar(&q.Text, "match", "", "only fixes with this text in id or title")
}

// check reads the words that flags hold.
func (q *filterFlags) check(verb string, c fixChoice) error {
	q.MinSeverity = series.Severity(q.severity)
	if q.MinSeverity.Rank() < 0 {
		return command.Usage(program+" fix "+verb, fmt.Sprintf("--severity %q is not low, medium, high or critical", q.severity))
	}
	verdicts := []string{"", string(survey.Live), string(survey.Reboot), string(survey.NotAffected), string(survey.Failed), "unknown"}
	if !slices.Contains(verdicts, q.verdict) {
		return command.Usage(program+" fix "+verb, fmt.Sprintf("--verdict %q is not one of %s", q.verdict, strings.Join(verdicts[1:], ", ")))
	}
	if q.verdict != "" && c.target == "" {
		return command.Usage(program+" fix "+verb, "--verdict needs --target: a verdict is of one kernel")
	}
	return nil
}

// take tells whether a fix is chosen.
func (q *filterFlags) take(f *series.Fix, verdicts map[string]selection.Fact) bool {
	if !q.Match(f) {
		return false
	}
	return q.verdict == "" || cmp.Or(string(verdicts[f.ID].Verdict), "unknown") == q.verdict
}
