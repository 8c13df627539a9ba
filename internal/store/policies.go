// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"

	"github.com/tsugi-project/tsugi/internal/store/query"
)

// Policies lists the policies that were saved, by name.
func (r Reader) Policies(ctx context.Context) ([]Policy, error) {
	found, err := r.q.Policies(ctx)
	all := make([]Policy, len(found))
	for i, row := range found {
		all[i] = policy(row)
	}
	return all, r.s.translate(err)
}

// Policy returns a policy.
func (r Reader) Policy(ctx context.Context, name string) (Policy, error) {
	row, err := r.q.Policy(ctx, name)
	return policy(row), named(r.s.translate(err), "policy %s", name)
}

func policy(row query.Policy) Policy {
	return Policy{Name: row.Name, Body: bytesOrNil([]byte(row.Body)), Created: row.Created, Changed: row.Changed, ChangedBy: row.ChangedBy}
}

// SavePolicy stores a policy, a new one or another text of one.
func (tx *Tx) SavePolicy(ctx context.Context, name string, body []byte, by string) error {
	tx.changed(KindPolicy, name)
	return named(tx.q.SavePolicy(ctx, query.SavePolicyParams{Name: name, Body: text(string(body)), Changed: tx.now, ChangedBy: text(by)}), "policy %s", name)
}

// DeletePolicy removes a policy and what it chose. Its lines stay: machines
// remember how far they have come along them.
func (tx *Tx) DeletePolicy(ctx context.Context, name string) error {
	tx.changed(KindPolicy, name)
	if err := changedOne(tx.q.DeletePolicy(ctx, name)); err != nil {
		return named(err, "policy %s", name)
	}
	all, err := tx.q.Choices(ctx)
	if err != nil {
		return err
	}
	for _, c := range all {
		if c.Policy == name {
			if err := tx.q.DeleteChoice(ctx, query.DeleteChoiceParams{Policy: name, Target: c.Target}); err != nil {
				return err
			}
		}
	}
	return nil
}

// PolicyGroups says which groups have a policy of their own.
func (r Reader) PolicyGroups(ctx context.Context) (map[string]string, error) {
	found, err := r.q.PolicyGroups(ctx)
	all := map[string]string{}
	for _, row := range found {
		all[row.MachineGroup] = row.Policy
	}
	return all, r.s.translate(err)
}

// SetPolicyGroup gives a group a policy; "" takes it back.
func (tx *Tx) SetPolicyGroup(ctx context.Context, group, policy string) error {
	tx.changed(KindPolicy, policy)
	if policy == "" {
		_, err := tx.q.DeletePolicyGroup(ctx, group)
		return err
	}
	return tx.q.SavePolicyGroup(ctx, query.SavePolicyGroupParams{MachineGroup: text(group), Policy: policy})
}

// Updates lists what is pushed for a target, in the order of the first push of
// each name; "" is for all targets.
func (r Reader) Updates(ctx context.Context, target string) ([]Update, error) {
	found, err := r.q.Updates(ctx, query.UpdatesParams{AnyTarget: target == "", Target: target})
	all := make([]Update, len(found))
	for i, u := range found {
		all[i] = Update{
			Target: u.Target, Name: u.Name, Extra: u.Extra, Digest: u.Digest, Size: u.Size, Summary: bytesOrNil([]byte(u.Summary)),
			Created: u.Created, CreatedBy: u.CreatedBy,
		}
	}
	return all, r.s.translate(err)
}

// SaveUpdate stores what was pushed, in the place of what was before under
// that name.
func (tx *Tx) SaveUpdate(ctx context.Context, u Update) error {
	tx.changed(KindPolicy, u.Target)
	return named(tx.s.translate(tx.q.SaveUpdate(ctx, query.SaveUpdateParams{
		Target: text(u.Target), Name: u.Name, Extra: u.Extra, Digest: u.Digest, Size: u.Size, Summary: text(string(u.Summary)),
		Created: tx.now, CreatedBy: text(u.CreatedBy),
	})), "update %s of %s", u.Name, u.Target)
}

// DeleteUpdate removes what was pushed.
func (tx *Tx) DeleteUpdate(ctx context.Context, target, name string) error {
	tx.changed(KindPolicy, target)
	return named(changedOne(tx.q.DeleteUpdate(ctx, query.DeleteUpdateParams{Target: target, Name: name})), "update %s of %s", name, target)
}

// Choices lists what each policy chooses for each target.
func (r Reader) Choices(ctx context.Context) ([]Choice, error) {
	found, err := r.q.Choices(ctx)
	all := make([]Choice, len(found))
	for i, c := range found {
		all[i] = Choice{Policy: c.Policy, Target: c.Target, Selection: c.Selection, Body: bytesOrNil([]byte(c.Body)), Changed: c.Changed}
	}
	return all, r.s.translate(err)
}

// SaveChoice stores what a policy chooses for a target.
func (tx *Tx) SaveChoice(ctx context.Context, c Choice) error {
	tx.changed(KindPolicy, c.Policy)
	return named(tx.q.SaveChoice(ctx, query.SaveChoiceParams{
		Policy: c.Policy, Target: text(c.Target), Selection: c.Selection, Body: text(string(c.Body)), Changed: c.Changed,
	}), "choice of policy %s for %s", c.Policy, c.Target)
}

// DeleteChoice removes what a policy chose for a target.
func (tx *Tx) DeleteChoice(ctx context.Context, policy, target string) error {
	tx.changed(KindPolicy, policy)
	return tx.q.DeleteChoice(ctx, query.DeleteChoiceParams{Policy: policy, Target: target})
}

// ChoosersOf are the policies that choose a selection for a target, ordered.
func (r Reader) ChoosersOf(ctx context.Context, target, selection string) ([]string, error) {
	all, err := r.q.ChoosersOf(ctx, query.ChoosersOfParams{Target: target, Selection: selection})
	return all, r.s.translate(err)
}

// Rebuilds says how often choices of targets were asked to be built again, by
// target and selection.
func (r Reader) Rebuilds(ctx context.Context) (map[[2]string]int, error) {
	found, err := r.q.Rebuilds(ctx)
	all := map[[2]string]int{}
	for _, row := range found {
		all[[2]string{row.Target, row.Selection}] = int(row.Times)
	}
	return all, r.s.translate(err)
}

// AddRebuild asks for a choice to be built once more, and says how often that
// was asked by now.
func (tx *Tx) AddRebuild(ctx context.Context, target, selection string) (int, error) {
	tx.changed(KindPolicy, target)
	n, err := tx.q.AddRebuild(ctx, query.AddRebuildParams{Target: text(target), Selection: selection})
	return int(n), named(tx.s.translate(err), "rebuild of selection %s", selection)
}

// AddToLine lets the machines of a policy have a live patch, and says whether
// they could not before.
func (tx *Tx) AddToLine(ctx context.Context, livePatch, policy string) (bool, error) {
	n, err := tx.q.AddToLine(ctx, query.AddToLineParams{Livepatch: livePatch, Policy: policy, Added: tx.now})
	if n > 0 {
		tx.changed(KindLivePatch, livePatch)
	}
	return n > 0, named(tx.s.translate(err), "live patch %s for policy %s", livePatch, policy)
}

// EndOfLine is the newest live patch that a policy's machines of a target may
// have; ErrNotFound if there is none.
func (r Reader) EndOfLine(ctx context.Context, policy, target string) (LineEnd, error) {
	row, err := r.q.EndOfLine(ctx, query.EndOfLineParams{Policy: policy, Target: target})
	return LineEnd{ID: row.ID, Version: int(row.Version), Selection: row.Selection}, named(r.s.translate(err), "line of policy %s for %s", policy, target)
}

// LineOf lists the live patches of a policy's line for a target, the newest
// first, blocked ones too.
func (r Reader) LineOf(ctx context.Context, policy, target string) ([]LinePatch, error) {
	found, err := r.q.LineOf(ctx, query.LineOfParams{Policy: policy, Target: target})
	var all []LinePatch
	for _, row := range found {
		if len(all) == 0 || all[len(all)-1].ID != row.ID {
			all = append(all, LinePatch{LineEnd: LineEnd{ID: row.ID, Version: int(row.Version), Selection: row.Selection, Blocked: row.Blocked != 0}})
		}
		if row.Tier != "" {
			last := &all[len(all)-1]
			last.Tiers = append(last.Tiers, row.Tier)
		}
	}
	return all, named(r.s.translate(err), "line of policy %s for %s", policy, target)
}

// NewestOf is the newest live patch of a selection; ErrNotFound if there is
// none.
func (r Reader) NewestOf(ctx context.Context, target, selection string) (LineEnd, error) {
	row, err := r.q.NewestOfSelection(ctx, query.NewestOfSelectionParams{Target: target, Selection: selection})
	end := LineEnd{ID: row.ID, Version: int(row.Version), Selection: selection, Blocked: row.Blocked != 0}
	return end, named(r.s.translate(err), "live patch of selection %s", selection)
}

// NewestFor lists the ids of so many live patches of a target, the newest first.
func (r Reader) NewestFor(ctx context.Context, target string, limit int) ([]string, error) {
	all, err := r.q.NewestOfTarget(ctx, query.NewestOfTargetParams{Target: target, RowLimit: rows(limit)})
	return all, r.s.translate(err)
}

// PoliciesIn are the policies that have anything in a tier for a kernel,
// ordered.
func (r Reader) PoliciesIn(ctx context.Context, tier, buildID string) ([]string, error) {
	all, err := r.q.PoliciesIn(ctx, query.PoliciesInParams{Tier: tier, BuildID: buildID})
	return all, r.s.translate(err)
}

// DrawVersion draws the next version of a target: one more than the last that
// was drawn or published.
func (tx *Tx) DrawVersion(ctx context.Context, target string) (int, error) {
	least, err := tx.NextVersion(ctx, target)
	if err != nil {
		return 0, err
	}
	n, err := tx.q.DrawVersion(ctx, query.DrawVersionParams{Target: text(target), Least: int64(least)})
	return int(n), tx.s.translate(err)
}

// SetJobVersion notes the version that a job's live patch is to have.
func (tx *Tx) SetJobVersion(ctx context.Context, id, worker string, version int) error {
	n, err := tx.q.SetJobVersion(ctx, query.SetJobVersionParams{ID: id, Worker: worker, Version: int64(version)})
	if err == nil && n == 0 {
		err = ErrLost
	}
	return named(err, "job %s", id)
}

// JobOf is the newest job of a selection; ErrNotFound if there is none.
func (r Reader) JobOf(ctx context.Context, target, selection string) (Job, error) {
	row, err := r.q.JobOfSelection(ctx, query.JobOfSelectionParams{Target: target, Selection: selection})
	return job(row), named(r.s.translate(err), "job of selection %s", selection)
}
