// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"context"
	"fmt"
	"strconv"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/people"
	"github.com/tsugi-project/tsugi/internal/store"
)

type newToken struct{ Body api.NewToken }

type newTier struct{ Body api.NewTier }

type tierInput struct {
	Name string `path:"name" maxLength:"64"`
}

type tierKeyInput struct {
	Name string `path:"name" maxLength:"64"`
	ApprovalQuery
}

type settingsChange struct{ Body api.SettingsChange }

func (s *Server) fleetOperations(o *operations) {
	answer(o, op{id: "list-tokens", method: "GET", path: "/v1/tokens", summary: "Enrolment tokens, without their secrets", may: look, scoped: true},
		func(ctx context.Context, who operator, _ *none) (api.List[api.Token], error) {
			return s.seenTokens(ctx, who)
		})
	answer(o, op{id: "create-token", method: "POST", path: "/v1/tokens", summary: "Make an enrolment token; its secret is told once", may: change, status: 201, scoped: true},
		func(ctx context.Context, who operator, in *newToken) (api.TokenMade, error) {
			return s.createToken(ctx, who, in.Body)
		})
	quiet(o, op{id: "revoke-token", method: "DELETE", path: "/v1/tokens/{id}", summary: "Revoke a token; machines that came with it stay enrolled", may: change, scoped: true},
		func(ctx context.Context, who operator, in *byID) error { return s.revokeToken(ctx, who, in.ID) })

	answer(o, op{id: "list-tiers", method: "GET", path: "/v1/tiers", summary: "Tiers in order", may: look, scoped: true},
		func(ctx context.Context, who operator, _ *none) (api.List[api.Tier], error) {
			return s.seenTiers(ctx, who)
		})
	answer(o, op{id: "create-tier", method: "POST", path: "/v1/tiers", summary: "Make a tier, with a key of its own", may: change, status: 201},
		func(ctx context.Context, who operator, in *newTier) (api.Tier, error) {
			return s.createTier(ctx, who, in.Body)
		})
	quiet(o, op{id: "delete-tier", method: "DELETE", path: "/v1/tiers/{name}", summary: "Remove a tier that nothing is in", may: change},
		func(ctx context.Context, who operator, in *tierInput) error {
			return s.publish.DeleteTier(ctx, in.Name, who.name, people.KeepGuard)
		})

	answer(o, op{id: "rotate-tier-key", method: "POST", path: "/v1/tiers/{name}/key", summary: "Give a tier a new key; everything of the tier is signed anew", may: change},
		func(ctx context.Context, who operator, in *tierKeyInput) (api.Trust, error) {
			if err := s.publish.RotateTierKey(ctx, in.Name, who.name, s.approvalCheck(who, wantedTierKey(in.Name), in.Approval)); err != nil {
				return api.Trust{}, err
			}
			return s.trust(ctx)
		})

	answer(o, op{id: "get-settings", method: "GET", path: "/v1/settings", summary: "What is decided for the whole fleet", may: look},
		func(ctx context.Context, _ operator, _ *none) (api.Settings, error) { return s.settings(ctx) })
	answer(o, op{id: "change-settings", method: "PATCH", path: "/v1/settings", summary: "Change settings", may: change},
		func(ctx context.Context, who operator, in *settingsChange) (api.Settings, error) {
			return s.changeSettings(ctx, who, in.Body)
		})
}

func tokenOf(t store.Token) api.Token {
	return api.Token{
		ID: t.ID, Name: t.Name, Tier: t.Tier, Group: t.Group, Limit: t.Limit, Uses: t.Uses,
		Created: t.Created, Expires: t.Expires, Revoked: t.Revoked, LastUsed: t.LastUsed,
	}
}

func (s *Server) tokens(ctx context.Context) (api.List[api.Token], error) {
	rows, err := s.store.Tokens(ctx)
	items := make([]api.Token, len(rows))
	for i, t := range rows {
		items[i] = tokenOf(t)
	}
	return api.List[api.Token]{Items: items}, err
}

func (s *Server) createToken(ctx context.Context, who operator, in api.NewToken) (api.TokenMade, error) {
	if expired(in.Expires, s.now()) {
		return api.TokenMade{}, refuse("TS7601", "body.expires", "this time is over")
	}
	if err := who.reaches(in.Group); err != nil {
		return api.TokenMade{}, err
	}
	root, err := s.publish.RootDigest(ctx)
	if err != nil {
		return api.TokenMade{}, err
	}
	enroll := api.Enrollment{URL: s.opts.URL, Token: api.NewCredential(api.TokenCredential), Root: root}
	if len(s.opts.CA) > 0 {
		if enroll.CA, err = client.CADigest(s.opts.CA); err != nil {
			return api.TokenMade{}, err
		}
	}
	var t store.Token
	err = s.store.Update(ctx, func(tx *store.Tx) error {
		t, err = tx.CreateToken(ctx, store.Token{
			Name: in.Name, Hash: api.HashCredential(enroll.Token), Tier: in.Tier, Group: in.Group, Limit: in.Limit, Expires: in.Expires,
		})
		if err != nil {
			return missing(err, "tier", in.Tier)
		}
		return tx.Audit(ctx, store.AuditEntry{
			Actor: who.name, Action: "token.create", Object: t.ID, Detail: fmt.Sprintf("%s, tier %s, group %s, limit %d", t.Name, t.Tier, cmp.Or(t.Group, "none"), t.Limit),
		})
	})
	if err != nil {
		return api.TokenMade{}, err
	}
	return api.TokenMade{Token: tokenOf(t), Secret: enroll.Token, Enroll: enroll.String()}, nil
}

func (s *Server) revokeToken(ctx context.Context, who operator, id string) error {
	return missing(s.store.Update(ctx, func(tx *store.Tx) error {
		if err := who.seesToken(ctx, tx, id); err != nil {
			return err
		}
		if err := tx.RevokeToken(ctx, id); err != nil {
			return err
		}
		return tx.Audit(ctx, store.AuditEntry{Actor: who.name, Action: "token.revoke", Object: id})
	}), "token that is not revoked", id)
}

func (s *Server) tiers(ctx context.Context) (api.List[api.Tier], error) {
	rows, err := s.store.Tiers(ctx)
	items := make([]api.Tier, len(rows))
	for i, t := range rows {
		items[i] = api.Tier{Name: t.Name, Rank: t.Rank, Machines: t.Machines, Patches: t.Patches}
	}
	return api.List[api.Tier]{Items: items}, err
}

func (s *Server) createTier(ctx context.Context, who operator, in api.NewTier) (api.Tier, error) {
	have, err := s.tiers(ctx)
	if err != nil {
		return api.Tier{}, err
	}
	rank := 1
	for _, t := range have.Items {
		if t.Name == in.After {
			rank = t.Rank + 1
		}
	}
	if in.After != "" && rank == 1 {
		return api.Tier{}, refuse("TS7605", "", fmt.Sprintf("no tier %q", in.After))
	}
	if err := s.publish.AddTier(ctx, in.Name, rank, who.name, people.KeepGuard); err != nil {
		return api.Tier{}, err
	}
	return api.Tier{Name: in.Name, Rank: rank}, nil
}

func (s *Server) settings(ctx context.Context) (api.Settings, error) {
	limit, _, err := s.store.PlanMachines(ctx) // 0 when there is none
	return api.Settings{PlanMachines: limit, Interval: s.interval.Load()}, err
}

func (s *Server) changeSettings(ctx context.Context, who operator, in api.SettingsChange) (api.Settings, error) {
	if in.PlanMachines == nil && in.Interval == nil {
		return api.Settings{}, refuse("TS7601", "body", "nothing is to be changed")
	}
	err := s.store.Update(ctx, func(tx *store.Tx) error {
		set := func(key, value string) error {
			if err := tx.SetSetting(ctx, key, value); err != nil {
				return err
			}
			return tx.Audit(ctx, store.AuditEntry{Actor: who.name, Action: "setting.change", Object: key, Detail: value})
		}
		if n := in.PlanMachines; n != nil {
			value := strconv.Itoa(*n)
			if *n == 0 {
				value = store.PlanUnlimited
			}
			if err := set(store.SettingPlanMachines, value); err != nil {
				return err
			}
		}
		if in.Interval != nil {
			return set(settingInterval, strconv.FormatInt(*in.Interval, 10))
		}
		return nil
	})
	if err == nil {
		err = s.catchUp(ctx)
	}
	if err != nil {
		return api.Settings{}, err
	}
	return s.settings(ctx)
}
