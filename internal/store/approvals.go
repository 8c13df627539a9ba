// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"

	"github.com/tsugi-project/tsugi/internal/store/query"
)

// The verdicts of approvals.
const (
	ApprovalGiven   = "given"
	ApprovalRefused = "refused"
)

// Approval is what a second person has to agree to.
type Approval struct {
	ID        string
	Action    string // "livepatch.promote"
	Object    string
	Digest    string // of all that is asked for, so that it is that and no more
	Detail    string // for the one who decides
	Asked     int64
	AskedBy   string // id of the person
	Expires   int64
	Decided   int64
	DecidedBy string
	Verdict   string // "", ApprovalGiven or ApprovalRefused
	Used      int64
}

// ApprovalFilter chooses approvals. The newest come first.
type ApprovalFilter struct {
	All    bool   // decided and expired ones too
	Before string // id: the older ones
	Limit  int    // 0: 1,000
}

// AskApproval stores what is asked for; id and time are made here.
func (tx *Tx) AskApproval(ctx context.Context, a Approval) (Approval, error) {
	a = Approval{
		Action: text(a.Action), Object: text(a.Object), Digest: text(a.Digest), Detail: text(a.Detail),
		Asked: tx.now, AskedBy: text(a.AskedBy), Expires: a.Expires,
	}
	var err error
	if a.ID, err = id(); err != nil {
		return Approval{}, err
	}
	tx.changed(KindApproval, a.ID)
	return a, named(tx.s.translate(tx.q.InsertApproval(ctx, query.InsertApprovalParams{
		ID: a.ID, Action: a.Action, Object: a.Object, Digest: a.Digest, Detail: a.Detail, Asked: a.Asked, AskedBy: a.AskedBy, Expires: a.Expires,
	})), "approval")
}

// Approval returns an approval.
func (r Reader) Approval(ctx context.Context, id string) (Approval, error) {
	row, err := r.q.Approval(ctx, id)
	return Approval(row), named(r.s.translate(err), "approval %s", id)
}

// Approvals lists approvals.
func (r Reader) Approvals(ctx context.Context, f ApprovalFilter) ([]Approval, error) {
	found, err := r.q.Approvals(ctx, query.ApprovalsParams{
		Newest: f.Before == "", Before: f.Before, AllOfThem: f.All, Now: r.s.now().UnixMilli(), RowLimit: rows(f.Limit),
	})
	all := make([]Approval, len(found))
	for i, row := range found {
		all[i] = Approval(row)
	}
	return all, r.s.translate(err)
}

// DecideApproval stores a verdict. ErrNotFound if there is nothing of this id
// to decide, or not any more.
func (tx *Tx) DecideApproval(ctx context.Context, id, by, verdict string) error {
	tx.changed(KindApproval, id)
	return named(changedOne(tx.q.DecideApproval(ctx, query.DecideApprovalParams{ID: id, DecidedBy: text(by), Verdict: verdict, Now: tx.now})), "approval %s", id)
}

// UseApproval uses up an approval that was given for exactly this. ErrNotFound
// if there is none, or not any more.
func (tx *Tx) UseApproval(ctx context.Context, a Approval) error {
	tx.changed(KindApproval, a.ID)
	return named(changedOne(tx.q.UseApproval(ctx, query.UseApprovalParams{
		ID: a.ID, Action: text(a.Action), Object: text(a.Object), Digest: text(a.Digest), Now: tx.now,
	})), "approval %s", a.ID)
}
