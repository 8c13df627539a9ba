// SPDX-License-Identifier: Apache-2.0

package jobs

import (
	"context"
	"fmt"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/cumulative"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/proof"
	"github.com/tsugi-project/tsugi/internal/userland"
	"github.com/tsugi-project/tsugi/internal/userland/build"
)

// makeForPackage builds for a package.
func (p *Pipeline) makeForPackage(ctx context.Context, l *api.Lease, fixes []*fix.Fix, old *livepatch.Patch, log *Log, b Backend) (*made, error) {
	var k *kernel.Target // that the virtual machine of the proof runs
	var err error
	if l.Spec.Prove { // before a package is prepared for minutes
		if k, err = proof.Bootable(ctx, p.store, p.packages, "", log); err != nil {
			return nil, err
		}
	}
	t, err := p.packageTarget(ctx, l.Spec.Target, log)
	if err != nil {
		return nil, err
	}
	m := &made{}
	var r *build.Report
	if l.Update != nil {
		r, m.omitted, err = p.buildPackageUpdate(ctx, l, t, old, log, b)
	} else {
		r, err = build.Build(ctx, build.Request{
			Target: t, Fixes: fixes, Name: packageName(l), Version: l.Version, Builder: p.opt.Builder, Jobs: p.opt.Jobs,
			Accept: l.Spec.Accept,
		}, log)
	}
	if err != nil {
		return nil, err
	}
	m.verdict, m.report, m.artifact = string(r.Verdict), r, r.Artifact
	m.tell = func(log *Log) { tellPackage(r, log) }
	m.proof = func() (proof.Request, error) {
		log.Printf("the virtual machine runs kernel %s", k.Release)
		req, err := proof.FromPackage(r.Artifact, t, k)
		if err == nil && old != nil {
			err = req.Supersedes(old)
		}
		return req, err
	}
	return m, nil
}

// packageName is the name that a job asks for. Two versions of a package are on
// a machine's disk while one replaces the other.
func packageName(l *api.Lease) string {
	if l.Spec.Name == "" {
		return ""
	}
	return fmt.Sprintf("%s_v%d", l.Spec.Name, l.Version)
}

// packageTarget is a prepared package; one that is missing is prepared first.
func (p *Pipeline) packageTarget(ctx context.Context, name string, log *Log) (*userland.Target, error) {
	t, err := p.packages.Get(name)
	if code.Of(err) == "TS2302" {
		log.Printf("package %s is prepared: its source is built again, which takes minutes the first time", name)
		t, err = p.packages.Add(ctx, name, userland.AddOptions{Jobs: p.opt.Jobs}, log)
	}
	return t, err
}

// buildPackageUpdate builds the live patch of a choice.
func (p *Pipeline) buildPackageUpdate(ctx context.Context, l *api.Lease, t *userland.Target, old *livepatch.Patch, log *Log, b Backend) (*build.Report, []api.LeftFix, error) {
	c, err := choose(ctx, l.Update, l.Spec.Target, b)
	if err != nil {
		return nil, nil, err
	}
	tellChoice(c, log)
	req := cumulative.PackageRequest{
		Target: t, Series: c.Series, Policy: PolicyOf(l.Update.Policy), Verdicts: c.Facts, Version: l.Version,
		Now: time.UnixMilli(l.Update.At), Builder: p.opt.Builder, Jobs: p.opt.Jobs,
	}
	if old != nil {
		req.Previous = &old.Manifest
	}
	r, err := cumulative.BuildPackage(ctx, req, log)
	if err != nil {
		return nil, nil, err
	}
	r.Report.Artifact = r.Artifact
	return r.Report, omitted(c, r.Selection, log), nil
}

func tellPackage(r *build.Report, log *Log) {
	verdict := string(r.Verdict)
	if r.Verdict == build.Reboot {
		verdict = "programs have to be restarted with the fixed package"
	}
	log.Printf("verdict: %s, %d functions in %d files", verdict, len(r.Replaced), len(r.Files))
	for _, q := range r.Refusals {
		log.Problem(q.Problem)
	}
	for _, q := range r.Risks {
		log.Printf("risk: %s", q.Error())
	}
	for _, u := range r.Unbuilt {
		log.Printf("%s: %s %s", u.Path, u.Outcome, u.Why)
	}
}
