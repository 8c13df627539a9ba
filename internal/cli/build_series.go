// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/tsugi-project/tsugi/internal/catalogue"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/cumulative"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/series"
)

// choiceOptions are the flags of build that choose from a series of fixes.
type choiceOptions struct {
	update       string
	catalogue    string
	exclude      []string
	policy       string
	all          bool
	previous     string
	fixedModules bool
}

func (o *choiceOptions) register(f *pflag.FlagSet) {
	f.StringVar(&o.update, "update", "", "build every fix of the update to this source version that can be live")
	f.StringVar(&o.catalogue, "catalogue", "", "directory of the catalogue of fixes (default catalogue below the home)")
	f.StringArrayVar(&o.exclude, "exclude", nil, "CVE, or id of a fix, to leave out (may be repeated)")
	f.StringVar(&o.policy, "policy", "", "file with the policy to choose by")
	f.BoolVar(&o.all, "all", false, "take fixes without a CVE or an advisory too")
	f.StringVar(&o.previous, "previous", "", "live patch that this one comes after: its version and states are carried on")
	f.BoolVar(&o.fixedModules, "fixed-modules", false, "build fixed modules beside it, for machines that have not loaded them")
}

// chooses tells whether the fixes are a series to choose from.
func (o *choiceOptions) chooses(args []string) bool {
	if o.update != "" || len(o.exclude) > 0 || o.policy != "" || o.all || o.previous != "" || o.fixedModules {
		return true
	}
	for _, a := range args {
		if st, err := os.Stat(a); err == nil && st.IsDir() {
			return true
		}
	}
	return false
}

// buildSeries chooses fixes, and builds one live patch of what can be live.
func (a *app) buildSeries(ctx context.Context, args []string, o buildOptions) error {
	p, err := a.chosenPolicy(args, o.choice)
	if err != nil {
		return err
	}
	store, err := a.store()
	if err != nil {
		return err
	}
	req := cumulative.Request{
		Policy: p, Now: time.Now(), Name: o.name, Version: o.version, Builder: command.Maker(),
		Accept: o.accept, Jobs: o.jobs, Replacements: o.choice.fixedModules,
	}
	if !o.versionSet && o.choice.previous != "" {
		req.Version = 0
	}
	if req.Target, err = store.Get(o.target); err != nil {
		return err
	}
	if req.Series, err = a.chosenSeries(ctx, store, req.Target, args, o.choice); err != nil {
		return err
	}
	facts, err := knownFacts(store, req.Target, req.Series)
	if err != nil {
		return err
	}
	req.Verdicts = facts.Verdicts
	if req.Previous, err = a.previous(o.choice.previous); err != nil {
		return err
	}
	if req.Sign, err = signer(req.Target, o.key, o.cert); err != nil {
		return err
	}
	if o.output == "" {
		o.output = cmp.Or(req.Series.To, req.Series.Name, "fixes") + ".tsugi"
	}
	if err := command.CheckOutput(o.output, o.module); err != nil {
		return err
	}
	if err := known(req.Series, o.choice.exclude); err != nil {
		return err
	}
	r, err := cumulative.Build(ctx, req, a.Progress())
	if err != nil {
		return err
	}
	out := seriesResult{
		buildResult: buildResult{Report: r.Report}, Unreplaced: r.Unreplaced,
		choiceResult: choiceResult{req.Series.Name, r.Selection, r.Selection.Offers(), r.Open, r.Rounds},
	}
	if r.Artifact != nil {
		if err := a.writePatch(r.Report, o); err != nil {
			return err
		}
		out.Output, out.ModuleFile = o.output, o.module
	}
	if err := a.Show("build", out, func() string { return seriesText(out) }); err != nil {
		return err
	}
	return outcome(r.Report.Verdict)
}

// chosenPolicy is the policy of a file with the exclusions of the command line.
// Fixes that a person names are all wanted; of an update those that matter.
func (a *app) chosenPolicy(args []string, o choiceOptions) (selection.Policy, error) {
	p := selection.Policy{Name: "default"}
	if len(args) > 0 || o.all {
		p.Scope = selection.All
	}
	if o.policy != "" {
		b, err := a.ReadFile(o.policy)
		if err != nil {
			return p, err
		}
		name, _, _ := strings.Cut(filepath.Base(o.policy), ".")
		if p, err = selection.ParsePolicy(name, b); err != nil {
			return p, err
		}
		if o.all {
			p.Scope = selection.All
		}
	}
	for _, id := range o.exclude {
		x := selection.Exclusion{Reason: "left out on the command line", Owner: "tsugictl build"}
		if strings.HasPrefix(id, "CVE-") {
			x.CVE = id
		} else {
			x.Fix = id
		}
		p.Exclusions = append(p.Exclusions, x)
	}
	return p, p.Check()
}

// known refuses exclusions that a person typed and that mean nothing.
func known(s *series.Series, exclude []string) error {
	cves := s.CVEs()
	for _, id := range exclude {
		has := s.Fix(id) != nil
		for _, c := range cves {
			has = has || c == id
		}
		if !has {
			return code.New("TS1302", id, fmt.Sprintf("%s has %d fixes with %d CVEs", cmp.Or(s.Name, "the series"), len(s.Fixes), len(cves)))
		}
	}
	return nil
}

// chosenSeries is the update of a target, a directory of fixes, or diffs.
func (a *app) chosenSeries(ctx context.Context, store *kernel.Store, t *kernel.Target, args []string, o choiceOptions) (*series.Series, error) {
	if o.update == "" {
		return a.readSeries(args)
	}
	c, err := catalogue.Open(cmp.Or(o.catalogue, filepath.Join(store.Home(), "catalogue")))
	if err != nil {
		return nil, err
	}
	return c.Update(ctx, store, t.SourceVersion, o.update, a.Progress())
}

// readSeries puts directories of fixes and diffs into one series.
func (a *app) readSeries(args []string) (*series.Series, error) {
	all := &series.Series{}
	for _, arg := range args {
		st, err := os.Stat(arg)
		if err == nil && st.IsDir() {
			s, err := series.ReadDir(os.DirFS(arg))
			if err != nil {
				return nil, err
			}
			all.Name, all.From, all.To = cmp.Or(all.Name, s.Name, filepath.Base(filepath.Clean(arg))), cmp.Or(all.From, s.From), cmp.Or(all.To, s.To)
			all.Fixes = append(all.Fixes, s.Fixes...)
			continue
		}
		f, err := a.readSeriesFix(arg)
		if err != nil {
			return nil, err
		}
		all.Name = cmp.Or(all.Name, f.ID)
		all.Fixes = append(all.Fixes, f)
	}
	for i, f := range all.Fixes {
		if all.Fix(f.ID) != all.Fixes[i] {
			return nil, code.New("TS1305", f.ID, "")
		}
	}
	return all, nil
}

func (a *app) previous(file string) (*livepatch.Manifest, error) {
	if file == "" {
		return nil, nil
	}
	b, err := a.ReadFile(file)
	if err != nil {
		return nil, err
	}
	p, err := livepatch.Read(b)
	if err != nil {
		return nil, err
	}
	return &p.Manifest, nil
}
