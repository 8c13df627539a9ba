// SPDX-License-Identifier: Apache-2.0

package server

import (
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
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
