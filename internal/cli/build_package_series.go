// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/catalogue"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/cumulative"
	"github.com/tsugi-project/tsugi/internal/series"
	"github.com/tsugi-project/tsugi/internal/ui"
	"github.com/tsugi-project/tsugi/internal/userland"
)

// packageSeriesResult is a build of what a policy chose, for a package.
type packageSeriesResult struct {
	packageBuildResult
	choiceResult
	// Unattributed are entries of the changelog with a CVE that no fix was found for.
	Unattributed []series.Entry `json:"unattributed,omitempty"`
	// Formatted is how many files of an update were only formatted anew.
	Formatted int `json:"formatted,omitempty"`
}

// buildPackageSeries chooses fixes of a package, and builds one live patch of
// what can be live.
func (a *app) buildPackageSeries(ctx context.Context, args []string, o buildOptions) error {
	p, err := a.chosenPolicy(args, o.choice)
	if err != nil {
		return err
	}
	req := cumulative.PackageRequest{
		Policy: p, Now: time.Now(), Name: o.name, Version: o.version, Builder: command.Maker(), Accept: o.accept,
		Jobs: o.jobs, MaxUnits: o.maxObjects, EntryOnly: o.entryOnly,
	}
	if !o.versionSet && o.choice.previous != "" {
		req.Version = 0
	}
	store, err := a.packages()
	if err != nil {
		return err
	}
	if req.Target, err = store.Get(o.target); err != nil {
		return err
	}
	if req.Series, err = a.packageSeries(ctx, store, req.Target, args, o.choice); err != nil {
		return err
	}
	if err := known(req.Series, o.choice.exclude); err != nil {
		return err
	}
	if req.Previous, err = a.previous(o.choice.previous); err != nil {
		return err
	}
	output := cmp.Or(o.output, cmp.Or(req.Series.To, req.Series.Name, "fixes")+".tsugi")
	if err := command.CheckOutput(output); err != nil {
		return err
	}
	r, err := cumulative.BuildPackage(ctx, req, a.Progress())
	if err != nil {
		return err
	}
	out := packageSeriesResult{choiceResult: choiceResult{req.Series.Name, r.Selection, r.Selection.Offers(), r.Open, r.Rounds}, Formatted: req.Series.Formatted}
	for _, e := range req.Series.Unattributed {
		if len(e.CVEs) > 0 {
			out.Unattributed = append(out.Unattributed, e)
		}
	}
	if out.packageBuildResult, err = writtenPackage(r.Report, output); err != nil {
		return err
	}
	if err := a.Show("build", out, func() string { return packageSeriesText(out) }); err != nil {
		return err
	}
	return outcome(r.Report.Verdict)
}

// packageSeries is the update of a package, a directory of fixes, or diffs.
func (a *app) packageSeries(ctx context.Context, store *userland.Store, t *userland.Target, args []string, o choiceOptions) (*series.Series, error) {
	if o.update == "" {
		return a.readSeries(args)
	}
	c, err := catalogue.Open(cmp.Or(o.catalogue, filepath.Join(t.Home(), "catalogue")))
	if err != nil {
		return nil, err
	}
	return c.PackageUpdate(ctx, store, t, o.update, a.Progress())
}

func packageSeriesText(r packageSeriesResult) string {
	var b strings.Builder
	for _, e := range r.Unattributed {
		fmt.Fprintf(&b, "  %s  no fix was found for %s: %s\n        %s\n", ui.Dim("note"), strings.Join(e.CVEs, ", "), clip(e.Subject, 100), ui.Dim(e.Why))
	}
	if r.Formatted > 0 {
		b.WriteString("  " + formattedText(r.Formatted))
	}
	return packageHead(r.packageBuildResult) + selectedText(r.choiceResult, r.Artifact) + b.String() + packageBody(r.packageBuildResult)
}
