// SPDX-License-Identifier: Apache-2.0

package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/builder"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/cumulative"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/series"
	"github.com/tsugi-project/tsugi/internal/store"
)

// spec is what a job's row says of it.
type spec struct {
	api.NewJob
	Update *api.JobUpdate `json:"update,omitempty"`
}

// PolicyOf is a policy as package selection knows it.
func PolicyOf(p api.Policy) selection.Policy {
	out := selection.Policy{
		Name: p.Name, Description: p.Description, MinSeverity: series.Severity(p.MinSeverity), Scope: selection.Scope(p.Scope),
		SwapUnused: p.SwapUnused, Extra: p.Extra,
	}
	for _, x := range p.Exclusions {
		e := selection.Exclusion{CVE: x.CVE, Fix: x.Fix, Reason: x.Reason, Owner: x.Owner}
		if x.Expires != 0 {
			e.Expires = time.UnixMilli(x.Expires).UTC()
		}
		out.Exclusions = append(out.Exclusions, e)
	}
	return out
}

// PolicyWire is a policy as it travels.
func PolicyWire(p selection.Policy) api.Policy {
	out := api.Policy{
		Name: p.Name, Description: p.Description, MinSeverity: string(p.MinSeverity), Scope: string(p.Scope),
		SwapUnused: p.SwapUnused, Extra: p.Extra,
	}
	for _, x := range p.Exclusions {
		out.Exclusions = append(out.Exclusions, ExclusionWire(x))
	}
	return out
}

// ExclusionWire is an exclusion as it travels.
func ExclusionWire(x selection.Exclusion) api.Exclusion {
	e := api.Exclusion{CVE: x.CVE, Fix: x.Fix, Reason: x.Reason, Owner: x.Owner}
	if !x.Expires.IsZero() {
		e.Expires = x.Expires.UnixMilli()
	}
	return e
}

// LeftWire is a fix that is not taken, as it travels.
func LeftWire(l selection.Left) api.LeftFix {
	out := api.LeftFix{ID: l.ID, Kind: string(l.Kind), Code: string(l.Code), Why: l.Why, By: l.By, Needs: l.Needs}
	if f := l.Fix; f != nil {
		out.Title, out.CVEs, out.Severity, out.Exploited = f.Title, f.CVEs, string(f.Severity), f.Exploited
	}
	return out
}

// SubmitUpdate queues the build of a choice of pushed fixes, unless one is
// queued or running, or the last one ended without a live patch and neither
// was anything pushed nor the choice made anew since. It says whether it did.
func (q *Queue) SubmitUpdate(ctx context.Context, target, title string, u api.JobUpdate, pushed int64) (bool, error) {
	b, err := json.Marshal(spec{api.NewJob{Target: target, Prove: true, Publish: true}, &u})
	if err != nil {
		return false, err
	}
	made := false
	err = q.opt.Store.Update(ctx, func(tx *store.Tx) error {
		made = false
		last, err := tx.JobOf(ctx, target, u.Selection)
		switch {
		case errors.Is(err, store.ErrNotFound):
		case err != nil:
			return err
		case !ended(last.State):
			return nil
		case (last.State != store.JobDone || last.Verdict != string(builder.Live)) && last.Created >= max(pushed, u.At):
			return nil
		}
		// Another server may have seen to it since the caller looked.
		needed := false
		for _, p := range u.Policies {
			end, err := tx.EndOfLine(ctx, p, target)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
			needed = needed || end.Selection != u.Selection
		}
		if !needed {
			return nil
		}
		made = true
		_, err = tx.CreateJob(ctx, store.Job{
			Kind: kindBuild, Target: target, Title: title, Spec: b, CreatedBy: "server", MaxAttempts: q.opt.Attempts, Selection: u.Selection,
		})
		return err
	})
	if errors.Is(err, store.ErrConflict) { // another server was quicker
		return false, nil
	}
	if made && err == nil {
		q.Wake()
	}
	return made && err == nil, err
}

// DropUnwanted cancels what waits to be built for a choice that nobody makes
// any more.
func (q *Queue) DropUnwanted(ctx context.Context) error {
	waiting, err := q.opt.Store.Jobs(ctx, store.JobFilter{State: store.JobQueued})
	if err != nil {
		return err
	}
	for _, j := range waiting {
		if j.Selection == "" {
			continue
		}
		err := q.opt.Store.Update(ctx, func(tx *store.Tx) error {
			if of, err := tx.ChoosersOf(ctx, j.Target, j.Selection); err != nil || len(of) > 0 {
				return err
			}
			if now, err := tx.Job(ctx, j.ID); err != nil || now.State != store.JobQueued {
				return err
			}
			if err := tx.CancelJob(ctx, j.ID); err != nil {
				return err
			}
			return tx.Audit(ctx, store.AuditEntry{Actor: "server", Action: "job.cancel", Object: j.ID, Detail: "nobody chooses this any more"})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Series is what is pushed under a digest, for a worker.
func (q *Queue) Series(ctx context.Context, digest string) ([]byte, error) {
	if !cacheKey(digest) || q.opt.Series == nil {
		return nil, code.New("TS7904", digest, "")
	}
	return q.opt.Series(ctx, digest)
}

// choose fetches what is pushed and makes the choice again. A worker that
// comes to another one than the server must not build it.
func choose(ctx context.Context, u *api.JobUpdate, target string, b Backend) (*selection.Chosen, error) {
	var sources []selection.Source
	for _, digest := range u.Series {
		text, err := b.Series(ctx, digest)
		if err != nil {
			return nil, fmt.Errorf("pushed fixes %.12s: %w", digest, err)
		}
		p, s, facts, err := selection.ReadPushed(text)
		if err != nil {
			return nil, err
		}
		if p.Target != target {
			return nil, code.New("TS7901", digest, "it is for "+p.Target)
		}
		sources = append(sources, selection.Source{Series: s, Facts: facts})
	}
	c, err := selection.From(sources, PolicyOf(u.Policy), time.UnixMilli(u.At))
	if err != nil {
		return nil, err
	}
	if key := selection.Key(c.Selection.Sharing(), u.Again); key != u.Selection {
		return nil, code.New("TS7907", target, fmt.Sprintf("%.12s and not %.12s", key, u.Selection))
	}
	return c, nil
}

// omitted is what of a choice a build left out, which the log tells.
func omitted(c *selection.Chosen, built *selection.Selection, log *Log) []api.LeftFix {
	var out []api.LeftFix
	for _, l := range built.Left {
		if slices.ContainsFunc(c.Selection.Fixes, func(f *series.Fix) bool { return f.ID == l.ID }) {
			out = append(out, LeftWire(l))
			log.Printf("left out: %s %s: %s", l.ID, l.Kind, l.Why)
		}
	}
	return out
}

func tellChoice(c *selection.Chosen, log *Log) {
	log.Printf("%d of %d fixes, as policy %s chooses them", len(c.Selection.Fixes), len(c.Series.Fixes), c.Selection.Policy)
}

// buildUpdate builds the live patch of a choice.
func (p *Pipeline) buildUpdate(ctx context.Context, l *api.Lease, t *kernel.Target, old *livepatch.Patch, log *Log, b Backend) (*builder.Report, []api.LeftFix, error) {
	c, err := choose(ctx, l.Update, l.Spec.Target, b)
	if err != nil {
		return nil, nil, err
	}
	tellChoice(c, log)
	req := cumulative.Request{
		Target: t, Series: c.Series, Policy: PolicyOf(l.Update.Policy), Verdicts: c.Facts, Version: l.Version, Now: time.UnixMilli(l.Update.At),
		Builder: p.opt.Builder, Jobs: p.opt.Jobs, Shared: shared{b}, Replacements: true,
	}
	if old != nil {
		req.Previous = &old.Manifest
	}
	if len(p.key) > 0 {
		if req.Sign, err = builder.Signer(t, p.key...); err != nil {
			return nil, nil, err
		}
	}
	r, err := cumulative.Build(ctx, req, log)
	if err != nil {
		return nil, nil, err
	}
	r.Report.Artifact = r.Artifact
	return r.Report, omitted(c, r.Selection, log), nil
}
