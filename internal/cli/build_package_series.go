// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"time"

	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/cumulative"
)

// packageSeriesResult is a build of what a policy chose, for a package.
type packageSeriesResult struct {
	packageBuildResult
	choiceResult
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
	if req.Series, err = a.readSeries(args); err != nil {
		return err
	}
	if err := known(req.Series, o.choice.exclude); err != nil {
		return err
	}
	if req.Previous, err = a.previous(o.choice.previous); err != nil {
		return err
	}
	store, err := a.packages()
	if err != nil {
		return err
	}
	if req.Target, err = store.Get(o.target); err != nil {
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
	out := packageSeriesResult{choiceResult: choiceResult{req.Series.Name, r.Selection, r.Selection.Offers(), r.Open, r.Rounds}}
	if out.packageBuildResult, err = writtenPackage(r.Report, output); err != nil {
		return err
	}
	if err := a.Show("build", out, func() string { return packageSeriesText(out) }); err != nil {
		return err
	}
	return outcome(r.Report.Verdict)
}

func packageSeriesText(r packageSeriesResult) string {
	return packageHead(r.packageBuildResult) + selectedText(r.choiceResult, r.Artifact) + packageBody(r.packageBuildResult)
}
