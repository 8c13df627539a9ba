// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/people"
	"github.com/tsugi-project/tsugi/internal/publish"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// TestTwoPersons: what the server is told to need a second person for happens
// with one, once, and exactly so.
func TestTwoPersons(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ann, bob, carol := s.person("anna", api.Grant{Role: "admin"}), s.person("bob", api.Grant{Role: "release-manager"}), s.person("carol", api.Grant{Role: "author"})
	id := s.publishVersion(1).ID
	promote := func(b *browser, tier, approval string, status int, c string) {
		t.Helper()
		path := "/v1/livepatches/" + id + "/promote?approval=" + approval
		if c == "" {
			b.do("POST", path, api.Promote{Tier: tier}, status, nil)
		} else {
			b.refused("POST", path, api.Promote{Tier: tier}, status, c)
		}
	}
	var set api.ApprovalActions
	ann.do("PUT", "/v1/approvals/actions", api.ApprovalActions{Actions: []string{"promote-stable", "change-keys"}}, 200, &set)
	qt.Check(t, qt.DeepEquals(set.Actions, []string{"change-keys", "promote-stable"}))
	bob.refused("PUT", "/v1/approvals/actions", api.ApprovalActions{}, 403, "TS8202")

	promote(bob, "beta", "", 200, "")
	promote(bob, "stable", "", 409, "TS8222")
	ann.refused("POST", "/v1/tiers/edge/key", nil, 409, "TS8222")

	// A program can't be one of two, nor ask.
	root := s.browser()
	root.header.Set("Authorization", "Bearer "+s.secret)
	promote(root, "stable", "", 409, "TS8222")
	root.refused("POST", "/v1/approvals", api.AskApproval{Action: "promote-stable", Object: id, Tier: "stable"}, 403, "TS8205")

	var asked api.Approval
	bob.refused("POST", "/v1/approvals", api.AskApproval{Action: "promote-stable", Object: id}, 422, "TS8230") // candidate needs nobody
	bob.refused("POST", "/v1/approvals", api.AskApproval{Action: "promote-stable", Object: "none", Tier: "stable"}, 404, "TS7605")
	bob.refused("POST", "/v1/approvals", api.AskApproval{Action: "change-keys", Object: "edge"}, 403, "TS8202")
	carol.refused("POST", "/v1/approvals", api.AskApproval{Action: "promote-stable", Object: id, Tier: "stable"}, 403, "TS8202")
	bob.do("POST", "/v1/approvals", api.AskApproval{Action: "promote-stable", Object: id, Tier: "stable", Why: "it is quiet since Monday"}, 201, &asked)
	qt.Check(t, qt.Equals(asked.Detail, "to tier stable: it is quiet since Monday"))
	promote(bob, "stable", asked.ID, 409, "TS8222") // nobody gave it yet
	bob.refused("POST", "/v1/approvals/"+asked.ID+"/give", nil, 403, "TS8223")
	carol.refused("POST", "/v1/approvals/"+asked.ID+"/give", nil, 403, "TS8202")
	ann.do("POST", "/v1/approvals/"+asked.ID+"/give", nil, 200, nil)
	promote(ann, "stable", asked.ID, 409, "TS8222") // bob asked for it
	promote(bob, "stable", asked.ID, 200, "")
	var p api.LivePatch
	bob.do("GET", "/v1/livepatches/"+id, nil, 200, &p)
	qt.Check(t, qt.DeepEquals(p.Tiers, []string{"edge", "beta", "stable"}))

	// Once used it is worth nothing, and another live patch needs another.
	id = s.publishVersion(2).ID
	promote(bob, "stable", asked.ID, 409, "TS8222")

	// Whoever takes the rule away needs a second person, too: who has that right.
	ann.refused("PUT", "/v1/approvals/actions", api.ApprovalActions{Actions: []string{}}, 409, "TS8222")
	ann.do("POST", "/v1/approvals", api.AskApproval{Action: "fewer-approvals", Actions: []string{"change-keys"}}, 201, &asked)
	bob.refused("POST", "/v1/approvals/"+asked.ID+"/give", nil, 403, "TS8202")

	// A new tier behind it does not make stable any less.
	ann.do("POST", "/v1/tiers", api.NewTier{Name: "moon", After: "stable"}, 201, nil)
	promote(bob, "stable", "", 409, "TS8222")
	promote(bob, "moon", "", 409, "TS8222")
}

// TestPublishingPastTheFirstTierIsPromotion: who may publish can't choose
// where it ends.
func TestPublishingPastTheFirstTierIsPromotion(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	carol := s.person("carol", api.Grant{Role: "author"})
	ann := s.person("anna", api.Grant{Role: "admin"})
	status := func(b *browser, tier string, version int, want int) {
		t.Helper()
		kind, body := form(t, map[string][]byte{"artifact": artifact(t, version)})
		res, text := b.raw("POST", "/v1/livepatches?tier="+tier, kind, body)
		qt.Check(t, qt.Equals(res.StatusCode, want), qt.Commentf("%s: %s", tier, text))
	}
	status(carol, "edge", 1, 201)
	status(carol, "beta", 2, 403)
	status(carol, "stable", 2, 403)
	status(ann, "stable", 2, 201)
	ann.do("PUT", "/v1/approvals/actions", api.ApprovalActions{Actions: []string{"promote-stable"}}, 200, nil)
	status(ann, "stable", 3, 409)
	status(ann, "beta", 3, 201)
}

// TestNoTierLetsOnePersonThrough: tiers can't be such that what takes two
// people is done by publishing, or not asked for any more.
func TestNoTierLetsOnePersonThrough(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ann := s.person("anna", api.Grant{Role: "admin"})
	drop := func(names ...string) {
		t.Helper()
		for _, name := range names {
			ann.do("DELETE", "/v1/tiers/"+name, nil, 204, nil)
		}
	}
	add := func(name, after string, status int) {
		t.Helper()
		if status == 201 {
			ann.do("POST", "/v1/tiers", api.NewTier{Name: name, After: after}, status, nil)
		} else {
			ann.refused("POST", "/v1/tiers", api.NewTier{Name: name, After: after}, status, "TS8231")
		}
	}
	two := api.ApprovalActions{Actions: []string{"promote-stable"}}
	drop("beta", "candidate", "stable")
	ann.refused("PUT", "/v1/approvals/actions", two, 409, "TS8231") // edge is all there is
	add("stable", "", 201)                                          // before edge
	ann.refused("PUT", "/v1/approvals/actions", two, 409, "TS8231")
	drop("stable")
	add("prod", "edge", 201)
	ann.do("PUT", "/v1/approvals/actions", two, 200, nil)
	ann.do("PUT", "/v1/approvals/actions", two, 200, nil)
	add("later", "prod", 409) // prod would not be the last any more
	add("stable", "", 409)    // it would be the first, and two people's by its name
	ann.refused("DELETE", "/v1/tiers/edge", nil, 409, "TS8231")
	ann.refused("DELETE", "/v1/tiers/prod", nil, 409, "TS8231")
	add("beta", "edge", 201)
	drop("edge")
	add("stable", "prod", 409) // the same as later

	// A server that was set so before it knew better publishes nothing there, by
	// whoever's hand.
	qt.Assert(t, qt.IsNil(s.pub.DeleteTier(t.Context(), "beta", "an older program")))
	root := s.browser()
	root.header.Set("Authorization", "Bearer "+s.secret)
	for _, b := range []*browser{ann, root} {
		for _, query := range []string{"", "?tier=prod"} {
			kind, body := form(t, map[string][]byte{"artifact": artifact(t, 1)})
			res, text := b.raw("POST", "/v1/livepatches"+query, kind, body)
			qt.Check(t, qt.Equals(res.StatusCode, 409))
			qt.Check(t, qt.StringContains(string(text), "TS8231"))
		}
	}
	alone := func(ctx context.Context, tx *store.Tx, tier string) error { return people.Alone(ctx, tx.Reader, tier) }
	_, err := s.pub.Publish(t.Context(), publish.PublishRequest{Artifact: artifact(t, 1), Actor: "job 1", Checks: []publish.Check{alone}})
	qt.Check(t, qt.Equals(code.Of(err), "TS8231"))
	_, err = s.db.LivePatch(t.Context(), trust.PatchID(target, 1))
	qt.Check(t, qt.ErrorIs(err, store.ErrNotFound))
}

// TestTheLadderIsNoSecondPerson: neither to the last tier, nor to stable where
// another is behind it; and a rollout brings in what two agreed to.
func TestTheLadderIsNoSecondPerson(t *testing.T) {
	t.Parallel()
	s := calm(t, "")
	ann, bob := s.person("anna", api.Grant{Role: "admin"}), s.person("bob", api.Grant{Role: "release-manager"})
	ann.do("PUT", "/v1/approvals/actions", api.ApprovalActions{Actions: []string{"promote-stable"}}, 200, nil)
	ann.do("POST", "/v1/tiers", api.NewTier{Name: "moon", After: "stable"}, 201, nil)
	p := s.publishVersion(1)
	_, err := s.admin.SetRolloutSettings(t.Context(), api.RolloutSettings{Ladder: api.RolloutLadder{Rungs: []api.RolloutRung{
		{From: "edge", To: "stable", Auto: true, Soak: "1h"},
	}}})
	qt.Assert(t, qt.IsNil(err))
	s.shift.Add(int64(3 * time.Hour))
	s.look()
	qt.Check(t, qt.DeepEquals(s.livePatchOf(p.ID).Tiers, []string{"edge"}))
	on, err := s.admin.Promotions(t.Context())
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(on.Items, 1))
	qt.Check(t, qt.StringContains(on.Items[0].Why, "two people"))

	begin := api.NewRollout{LivePatch: p.ID, Tier: "stable"}
	bob.refused("POST", "/v1/rollouts", begin, 409, "TS8222")
	var asked api.Approval
	bob.do("POST", "/v1/approvals", api.AskApproval{Action: "promote-stable", Object: p.ID, Tier: "stable"}, 201, &asked)
	ann.do("POST", "/v1/approvals/"+asked.ID+"/give", nil, 200, nil)
	ann.refused("POST", "/v1/rollouts?approval="+asked.ID, begin, 409, "TS8222") // bob asked for it
	bob.do("POST", "/v1/rollouts?approval="+asked.ID, begin, 201, nil)
	qt.Check(t, qt.DeepEquals(s.livePatchOf(p.ID).Tiers, []string{"edge", "stable"}))
	qt.Check(t, qt.HasLen(s.rollouts.list(), 1)) // what was refused left nothing
}
