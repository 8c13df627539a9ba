// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/people"
	"github.com/tsugi-project/tsugi/internal/publish"
	"github.com/tsugi-project/tsugi/internal/store"
)

// What two persons agree to is said here, once for who asks and once for who
// does it: an approval is of exactly that.

type promotesTo struct {
	Tier string `json:"tier"`
}

func wantedPromotion(id, tier string) people.Wanted {
	return people.Wanted{Action: people.ApprovePromote, Object: id, Detail: "to tier " + tier, Request: promotesTo{Tier: tier}}
}

func wantedTierKey(tier string) people.Wanted {
	return people.Wanted{Action: people.ApproveKeys, Object: "tier:" + tier, Detail: "a new key for tier " + tier}
}

func wantedRoot(digest string) people.Wanted {
	return people.Wanted{Action: people.ApproveKeys, Object: "root", Detail: "the root with the SHA-256 " + digest, Request: digest}
}

func sha256Hex(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// promotionCheck asks for an approval where a live patch goes to the last tier.
func (s *Server) promotionCheck(who operator, id, approval string) publish.Check {
	return func(ctx context.Context, tx *store.Tx, tier string) error {
		tiers, err := tx.Tiers(ctx)
		if err != nil || !people.Guarded(tiers, tier) {
			return err
		}
		return s.people.Approved(ctx, tx, who.caller, wantedPromotion(id, tier), approval)
	}
}

// approvalCheck asks for an approval of what is known beforehand.
func (s *Server) approvalCheck(who operator, w people.Wanted, approval string) publish.Check {
	return func(ctx context.Context, tx *store.Tx, _ string) error {
		return s.people.Approved(ctx, tx, who.caller, w, approval)
	}
}

// mayPublishInto refuses to publish past the first tier, which "" is, who may
// not promote; and into the last one where that needs a second person.
func (s *Server) mayPublishInto(ctx context.Context, r store.Reader, who operator, tier string) error {
	tiers, err := r.Tiers(ctx)
	if err != nil || len(tiers) == 0 {
		return err
	}
	tier = cmp.Or(tier, tiers[0].Name)
	if tiers[0].Name != tier {
		if _, err := s.table.Decide(who.caller.Subject, "promote-livepatch"); err != nil {
			return err
		}
	}
	return people.Alone(ctx, r, tier)
}

// approvable is the operation that somebody who approves an action could do
// themselves: a second person has the right as well as the first.
func approvable(action string) string {
	switch action {
	case people.ApprovePromote:
		return "promote-livepatch"
	case people.ApproveKeys:
		return "rotate-tier-key"
	}
	return "set-approvals"
}

// couldDo refuses who has no role, for the whole fleet, that an operation needs.
func (s *Server) couldDo(who operator, id string) error {
	line, ok := s.table.Operation(id)
	for _, g := range who.caller.Subject.Grants {
		if ok && g.Role.Has(line.Needs) && len(g.Groups) == 0 {
			return nil
		}
	}
	return refuse("TS8202", id, fmt.Sprintf("it needs the permission %s", line.Needs))
}

// askApproval asks for a second person.
func (s *Server) askApproval(ctx context.Context, who operator, in api.AskApproval) (api.Approval, error) {
	if err := s.couldDo(who, approvable(in.Action)); err != nil {
		return api.Approval{}, err
	}
	w, err := s.wanted(ctx, in)
	if err != nil {
		return api.Approval{}, err
	}
	if in.Why != "" {
		w.Detail += ": " + in.Why
	}
	return s.people.Ask(ctx, who.caller, w)
}

func (s *Server) wanted(ctx context.Context, in api.AskApproval) (people.Wanted, error) {
	bad := func(why string) (people.Wanted, error) { return people.Wanted{}, refuse("TS8230", in.Action, why) }
	if in.Object == "" && in.Action != "fewer-approvals" {
		return bad("what it is of is not said")
	}
	switch in.Action {
	case people.ApprovePromote:
		p, err := s.store.LivePatch(ctx, in.Object)
		if err != nil {
			return people.Wanted{}, missing(err, "live patch", in.Object)
		}
		tier, err := s.nextTier(ctx, p, in.Tier)
		if err != nil {
			return people.Wanted{}, err
		}
		tiers, err := s.store.Tiers(ctx)
		if err == nil && !people.Guarded(tiers, tier) {
			return bad("tier " + tier + " is not the last: it needs nobody")
		}
		return wantedPromotion(p.ID, tier), err
	case people.ApproveKeys:
		if in.Object == "root" {
			if in.Digest == "" {
				return bad("the SHA-256 of the new root is not said")
			}
			return wantedRoot(in.Digest), nil
		}
		return wantedTierKey(in.Object), nil
	}
	return people.FewerApprovals(in.Actions), nil
}

// nextTier is the tier that a promotion goes to.
func (s *Server) nextTier(ctx context.Context, p store.LivePatch, tier string) (string, error) {
	tiers, err := s.store.Tiers(ctx)
	if err != nil {
		return "", err
	}
	next := ""
	for i, t := range tiers {
		if t.Name == tier {
			return tier, nil
		}
		if slices.Contains(p.Tiers, t.Name) && i+1 < len(tiers) {
			next = tiers[i+1].Name
		}
	}
	if tier != "" || next == "" {
		return "", refuse("TS7605", "", fmt.Sprintf("no tier %q to promote to", tier))
	}
	return next, nil
}

// giveApproval agrees, as the second person, who could do it themselves.
func (s *Server) giveApproval(ctx context.Context, who operator, id string) (api.Approval, error) {
	a, err := s.people.Approval(ctx, id)
	if err != nil {
		return a, missing(err, "approval", id)
	}
	if err := s.couldDo(who, approvable(a.Action)); err != nil {
		return api.Approval{}, err
	}
	return s.people.Decide(ctx, who.caller, id, true)
}
