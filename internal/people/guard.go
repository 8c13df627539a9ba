// SPDX-License-Identifier: Apache-2.0

package people

import (
	"context"
	"slices"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/store"
)

// stable is a tier that counts as one of the last, by its name: whoever makes a
// tier behind it does not make it any less what most machines are in.
const stable = "stable"

// Guarded reports whether ApprovePromote is of a tier: the one named stable, and
// the last.
func Guarded(tiers []store.Tier, name string) bool {
	return len(tiers) > 0 && (name == tiers[len(tiers)-1].Name ||
		name == stable && slices.ContainsFunc(tiers, func(t store.Tier) bool { return t.Name == name }))
}

// fronted reports whether live patches are published into a tier that is not
// guarded, and reach the guarded ones by promotion alone.
func fronted(tiers []store.Tier) bool { return len(tiers) > 0 && !Guarded(tiers, tiers[0].Name) }

// Alone refuses to bring a live patch, without a second person, into a tier for
// which that takes two: what the server does by itself, and what is published,
// to which nobody could have agreed before.
func Alone(ctx context.Context, r store.Reader, tier string) error {
	tiers, err := r.Tiers(ctx)
	if err != nil || !Guarded(tiers, tier) {
		return err
	}
	needed, err := needsApproval(ctx, r, ApprovePromote)
	if err != nil || !needed {
		return err
	}
	if fronted(tiers) {
		return code.New("TS8222", tier, "promotion to it needs another person here: publish into an earlier tier, and promote")
	}
	return code.New("TS8231", tier, "it is the first tier, and nothing is promoted to it")
}

// KeepGuard refuses, in the transaction that does it, a change of the tiers
// after which one person could do what takes two.
func KeepGuard(ctx context.Context, tx *store.Tx, before, after []store.Tier) error {
	needed, err := needsApproval(ctx, tx.Reader, ApprovePromote)
	if err != nil || !needed {
		return err
	}
	for _, t := range after {
		if Guarded(before, t.Name) && !Guarded(after, t.Name) {
			return code.New("TS8231", t.Name, "it would not be the last any more, and one person could promote to it")
		}
	}
	if fronted(before) && !fronted(after) {
		return code.New("TS8231", after[0].Name, "it would be the first tier, and nothing is promoted to it")
	}
	return nil
}
