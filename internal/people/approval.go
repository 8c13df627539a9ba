// SPDX-License-Identifier: Apache-2.0

package people

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/store"
)

// The actions that can need a second person.
const (
	ApprovePromote = "promote-stable" // to the last tier
	ApproveKeys    = "change-keys"    // root and tier keys
	// approveFewer is that fewer actions need one; it always does.
	approveFewer = "fewer-approvals"
)

// ApprovalActions are all of them. That a rollout goes to all machines at once
// always needs two people, and is approved where the rollout is.
func ApprovalActions() []string { return []string{ApprovePromote, ApproveKeys} }

// SettingApprovals is the setting that says which actions need a second
// person: their names, with commas.
const SettingApprovals = "approvals"

// approvalDoubt is for how long somebody for whom another one made a link is no
// second person for that one: they may be the same.
const approvalDoubt = 7 * 24 * time.Hour

// approvalTime is how long what was asked for can be approved and done.
const approvalTime = 24 * time.Hour

// Wanted is what a second person has to agree to.
type Wanted struct {
	Action  string // one of ApprovalActions
	Object  string
	Detail  string // for the one who decides
	Request any    // all that is asked for: an approval is of exactly that
}

func (w Wanted) digest() (string, error) {
	b, err := json.Marshal(w.Request)
	if err != nil {
		return "", err
	}
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:]), nil
}

// NeedsApproval reports whether an action needs a second person on this server.
func (s *Service) NeedsApproval(ctx context.Context, action string) (bool, error) {
	return needsApproval(ctx, s.store.Reader, action)
}

func needsApproval(ctx context.Context, r store.Reader, action string) (bool, error) {
	set, err := approvalsSet(ctx, r)
	return slices.Contains(set, action) || action == approveFewer, err
}

// ApprovalsSet are the actions that need a second person.
func (s *Service) ApprovalsSet(ctx context.Context) ([]string, error) {
	return approvalsSet(ctx, s.store.Reader)
}

// approvalsSet are the actions that need a second person.
func approvalsSet(ctx context.Context, r store.Reader) ([]string, error) {
	set, err := r.Setting(ctx, SettingApprovals)
	if errors.Is(err, store.ErrNotFound) || set == "" {
		return nil, nil
	}
	return strings.Split(set, ","), err
}

// FewerApprovals is what Ask is to be asked before SetApprovals takes actions
// out of those that need a second person.
func FewerApprovals(actions []string) Wanted {
	actions = slices.Compact(slices.Sorted(slices.Values(actions)))
	return Wanted{
		Action: approveFewer, Object: "server", Detail: "a second person is needed for: " + strings.Join(actions, ", "),
		Request: append([]string{}, actions...),
	}
}

// SetApprovals says which actions need a second person. If fewer shall, two
// persons must want that too: approval is the id of what FewerApprovals asked.
func (s *Service) SetApprovals(ctx context.Context, who Caller, actions []string, approval string) error {
	actions = slices.Compact(slices.Sorted(slices.Values(actions)))
	for _, a := range actions {
		if !slices.Contains(ApprovalActions(), a) {
			return code.New("TS8228", a, "it is none of "+strings.Join(ApprovalActions(), ", "))
		}
	}
	return s.store.Update(ctx, func(tx *store.Tx) error {
		// No tier is made or removed meanwhile.
		if err := tx.LockTUF(ctx); err != nil {
			return err
		}
		if err := tx.LockPeople(ctx); err != nil {
			return err
		}
		set, err := approvalsSet(ctx, tx.Reader)
		if err != nil {
			return err
		}
		if slices.Contains(actions, ApprovePromote) && !slices.Contains(set, ApprovePromote) {
			if tiers, err := tx.Tiers(ctx); err != nil {
				return err
			} else if !fronted(tiers) {
				return code.New("TS8231", tiers[0].Name, "it is the first tier, and nothing is promoted to it")
			}
		}
		if slices.ContainsFunc(set, func(a string) bool { return !slices.Contains(actions, a) }) {
			if err := s.Approved(ctx, tx, who, FewerApprovals(actions), approval); err != nil {
				return err
			}
		}
		if err := tx.SetSetting(ctx, SettingApprovals, strings.Join(actions, ",")); err != nil {
			return err
		}
		return tx.Audit(ctx, entry(who.Name, "approvals.set", "server", strings.Join(actions, ", ")))
	})
}

// Ask asks for an approval. Only a person can: two are what it takes.
func (s *Service) Ask(ctx context.Context, who Caller, w Wanted) (api.Approval, error) {
	if who.UserID == "" {
		return api.Approval{}, code.New("TS8205", w.Action, "a program's key can't ask for an approval")
	}
	digest, err := w.digest()
	if err != nil {
		return api.Approval{}, err
	}
	var made store.Approval
	err = s.store.Update(ctx, func(tx *store.Tx) (err error) {
		made, err = tx.AskApproval(ctx, store.Approval{
			Action: w.Action, Object: w.Object, Digest: digest, Detail: w.Detail, AskedBy: who.UserID, Expires: s.now().Add(approvalTime).UnixMilli(),
		})
		if err != nil {
			return err
		}
		return tx.Audit(ctx, entry(who.Name, "approval.ask", made.ID, w.Action+" "+w.Object))
	})
	if err != nil {
		return api.Approval{}, err
	}
	return s.approval(ctx, made)
}

// Decide gives or refuses an approval. TS8223 for who asked for it.
func (s *Service) Decide(ctx context.Context, who Caller, id string, give bool) (api.Approval, error) {
	if who.UserID == "" {
		return api.Approval{}, code.New("TS8205", id, "a program is no second person")
	}
	verdict := store.ApprovalRefused
	if give {
		verdict = store.ApprovalGiven
	}
	var a store.Approval
	err := s.store.Update(ctx, func(tx *store.Tx) (err error) {
		if a, err = tx.Approval(ctx, id); err != nil {
			return err
		}
		if give && a.AskedBy == who.UserID { // whoever asked may take it back
			return code.New("TS8223", id, "you asked for it")
		}
		if give {
			if err := s.another(ctx, tx, a, who); err != nil {
				return err
			}
		}
		if err := tx.DecideApproval(ctx, id, who.UserID, verdict); err != nil {
			return known(err, "TS8222", id, "it was decided, or its time is over")
		}
		if a, err = tx.Approval(ctx, id); err != nil {
			return err
		}
		return tx.Audit(ctx, entry(who.Name, "approval."+verdict, id, a.Action+" "+a.Object))
	})
	if err != nil {
		return api.Approval{}, err
	}
	return s.approval(ctx, a)
}

// another refuses who may be the same person as who asked: an admin could make
// a user, or a link for one, and agree with themselves, or have that one ask.
func (s *Service) another(ctx context.Context, tx *store.Tx, a store.Approval, who Caller) error {
	asker, err := tx.User(ctx, a.AskedBy)
	if err != nil {
		return known(err, "TS8222", a.ID, "who asked for it is gone")
	}
	return s.Another(ctx, tx, who, a.ID, []string{asker.Name})
}

// madeLink is TS8223 if somebody, by their name, made a link to a person's
// account so lately that the two may be the same.
func (s *Service) madeLink(ctx context.Context, tx *store.Tx, object, person, by, why string) error {
	n, err := tx.LinksBy(ctx, person, by, s.now().Add(-approvalDoubt).UnixMilli())
	if err == nil && n > 0 {
		err = code.New("TS8223", object, why)
	}
	return err
}

// Another refuses who may be the same person as one of others, who asked for
// object or agreed to it: as Decide does, where several agree and each of them
// may have made a link to the account of another. It refuses programs as well.
func (s *Service) Another(ctx context.Context, tx *store.Tx, who Caller, object string, others []string) error {
	if who.UserID == "" {
		return code.New("TS8205", object, "a program is no second person")
	}
	me, err := tx.User(ctx, who.UserID)
	if err != nil {
		return err
	}
	for _, other := range others {
		if other == me.Name {
			continue
		}
		if err := s.madeLink(ctx, tx, object, me.ID, other, other+", who asked for it or approved it, made a link to your account within a week"); err != nil {
			return err
		}
		u, err := tx.UserByName(ctx, other)
		if errors.Is(err, store.ErrNotFound) {
			continue // a program, or the server itself
		}
		if err == nil {
			err = s.madeLink(ctx, tx, object, u.ID, me.Name, "you made a link to the account of "+other+", who asked for it or approved it, within a week")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Approved lets what needs an approval be done, in the transaction that does
// it: it uses the approval up. Without one, where one is needed, it is TS8222.
func (s *Service) Approved(ctx context.Context, tx *store.Tx, who Caller, w Wanted, id string) error {
	if needed, err := needsApproval(ctx, tx.Reader, w.Action); err != nil || !needed {
		return err
	}
	if id == "" {
		return code.New("TS8222", w.Object, "this needs the approval of another person: "+w.Action)
	}
	digest, err := w.digest()
	if err != nil {
		return err
	}
	a, err := tx.Approval(ctx, id)
	if err != nil {
		return known(err, "TS8222", id, "there is no such approval")
	}
	if a.AskedBy != who.UserID {
		return code.New("TS8222", id, "another person asked for it")
	}
	if err := tx.UseApproval(ctx, store.Approval{ID: id, Action: w.Action, Object: w.Object, Digest: digest}); err != nil {
		return known(err, "TS8222", id, unusable(a, w, digest, s.now()))
	}
	return tx.Audit(ctx, entry(who.Name, "approval.use", id, w.Action+" "+w.Object))
}

func unusable(a store.Approval, w Wanted, digest string, now time.Time) string {
	switch {
	case a.Verdict == "":
		return "nobody approved it yet"
	case a.Verdict != store.ApprovalGiven:
		return "it was refused"
	case a.Used != 0:
		return "it was used"
	case a.Expires <= now.UnixMilli():
		return "its time is over"
	case a.Action != w.Action || a.Object != w.Object || a.Digest != digest:
		return fmt.Sprintf("it is of something else: %s %s", a.Action, a.Object)
	}
	return ""
}

// Approvals lists approvals, the newest first.
func (s *Service) Approvals(ctx context.Context, f store.ApprovalFilter) ([]api.Approval, error) {
	rows, err := s.store.Approvals(ctx, f)
	if err != nil {
		return nil, err
	}
	all := make([]api.Approval, len(rows))
	for i, a := range rows {
		if all[i], err = s.approval(ctx, a); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Approval returns an approval.
func (s *Service) Approval(ctx context.Context, id string) (api.Approval, error) {
	a, err := s.store.Approval(ctx, id)
	if err != nil {
		return api.Approval{}, err
	}
	return s.approval(ctx, a)
}

// approval is one with names in the place of ids.
func (s *Service) approval(ctx context.Context, a store.Approval) (api.Approval, error) {
	out := api.Approval{
		ID: a.ID, Action: a.Action, Object: a.Object, Detail: a.Detail, Asked: a.Asked, Expires: a.Expires, Decided: a.Decided, Verdict: a.Verdict, Used: a.Used,
	}
	var err error
	if out.AskedBy, err = s.nameOf(ctx, a.AskedBy); err == nil {
		out.DecidedBy, err = s.nameOf(ctx, a.DecidedBy)
	}
	return out, err
}

// nameOf is the name of a user; "" of nobody.
func (s *Service) nameOf(ctx context.Context, id string) (string, error) {
	if id == "" {
		return "", nil
	}
	u, err := s.store.User(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return "", nil
	}
	return u.Name, err
}
