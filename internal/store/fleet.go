// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"

	"github.com/tsugi-project/tsugi/internal/store/query"
)

// CreateToken stores a token. Its id and time are made here; "" for the tier
// is the last one.
func (tx *Tx) CreateToken(ctx context.Context, t Token) (Token, error) {
	if err := tx.fleet(ctx); err != nil {
		return Token{}, err
	}
	tiers, err := tx.q.Tiers(ctx)
	if err != nil {
		return Token{}, err
	}
	found := false
	for _, row := range tiers {
		if t.Tier == "" && row.Position == int64(len(tiers)) {
			t.Tier = row.Name
		}
		found = found || row.Name == t.Tier
	}
	if !found {
		return Token{}, named(ErrNotFound, "tier %s", t.Tier)
	}
	if t.ID, err = id(); err != nil {
		return Token{}, err
	}
	t.Name, t.Group, t.Created = text(t.Name), text(t.Group), tx.now
	t.Uses, t.Revoked, t.LastUsed = 0, 0, 0
	tx.changed(KindToken, t.ID)
	return t, tx.q.InsertToken(ctx, query.InsertTokenParams{
		ID: t.ID, Name: t.Name, Hash: t.Hash, Tier: t.Tier, MachineGroup: t.Group, MachineLimit: int64(t.Limit),
		Created: t.Created, Expires: t.Expires,
	})
}

// CreateToken stores a token: see Tx.
func (s *Store) CreateToken(ctx context.Context, t Token) (made Token, err error) {
	err = s.Update(ctx, func(tx *Tx) error {
		made, err = tx.CreateToken(ctx, t)
		return err
	})
	return made, err
}

// Tokens lists all tokens, the oldest first.
func (r Reader) Tokens(ctx context.Context) ([]Token, error) {
	found, err := r.q.Tokens(ctx)
	all := make([]Token, len(found))
	for i, row := range found {
		all[i] = token(row)
	}
	return all, r.s.translate(err)
}

// Token returns a token, whatever its state.
func (r Reader) Token(ctx context.Context, id string) (Token, error) {
	row, err := r.q.TokenByID(ctx, id)
	return token(row), named(r.s.translate(err), "token %s", id)
}

// TokenByHash returns the token with the SHA-256 of a secret, whatever its
// state.
func (r Reader) TokenByHash(ctx context.Context, hash []byte) (Token, error) {
	row, err := r.q.TokenByHash(ctx, hash)
	return token(row), named(r.s.translate(err), "token of this secret")
}

// RevokeToken ends a token; machines that came with it stay. ErrNotFound if
// there is none that is not revoked.
func (tx *Tx) RevokeToken(ctx context.Context, id string) error {
	tx.changed(KindToken, id)
	return named(changedOne(tx.q.RevokeToken(ctx, query.RevokeTokenParams{ID: id, Revoked: tx.now})), "token %s", id)
}

// RevokeToken ends a token: see Tx.
func (s *Store) RevokeToken(ctx context.Context, id string) error {
	return s.Update(ctx, func(tx *Tx) error { return tx.RevokeToken(ctx, id) })
}

func token(t query.Token) Token {
	return Token{
		ID: t.ID, Name: t.Name, Hash: t.Hash, Tier: t.Tier, Group: t.MachineGroup, Limit: int(t.MachineLimit),
		Uses: int(t.Uses), Created: t.Created, Expires: t.Expires, Revoked: t.Revoked, LastUsed: t.LastUsed,
	}
}

// Tiers lists the tiers by rank. A new database has edge, beta, candidate and
// stable.
func (r Reader) Tiers(ctx context.Context) ([]Tier, error) {
	found, err := r.q.Tiers(ctx)
	all := make([]Tier, len(found))
	for i, row := range found {
		all[i] = Tier{
			Name: row.Name, Rank: int(row.Position), Machines: int(row.Machines), Patches: int(row.Patches), Created: row.Created,
		}
	}
	return all, r.s.translate(err)
}

// CreateTier makes a tier at a rank; those from there on move up by one. 0, or
// a rank after the last, makes it the last one. ErrConflict if there is one of
// this name.
func (tx *Tx) CreateTier(ctx context.Context, name string, rank int) error {
	if err := tx.fleet(ctx); err != nil {
		return err
	}
	tiers, err := tx.q.Tiers(ctx)
	if err != nil {
		return err
	}
	if rank < 1 || rank > len(tiers)+1 {
		rank = len(tiers) + 1
	}
	if err := tx.q.MoveTiersUp(ctx, int64(rank)); err != nil {
		return err
	}
	tx.changed(KindTier, name)
	return named(tx.s.translate(tx.q.InsertTier(ctx, query.InsertTierParams{Name: name, Position: int64(rank), Created: tx.now})), "tier %s", name)
}

// CreateTier makes a tier at a rank: see Tx.
func (s *Store) CreateTier(ctx context.Context, name string, rank int) error {
	return s.Update(ctx, func(tx *Tx) error { return tx.CreateTier(ctx, name, rank) })
}

// DeleteTier removes a tier that nothing is in: no enrolled machine, no live
// patch and no token that is not revoked (ErrConflict). Its bookkeeping of
// indexes goes with it.
func (tx *Tx) DeleteTier(ctx context.Context, name string) error {
	if err := tx.fleet(ctx); err != nil {
		return err
	}
	tiers, err := tx.q.Tiers(ctx)
	if err != nil {
		return err
	}
	for _, t := range tiers {
		if t.Name != name {
			continue
		}
		if t.Machines > 0 || t.Patches > 0 || t.Tokens > 0 || len(tiers) == 1 {
			return fmt.Errorf("tier %s has %d machines, %d live patches, %d tokens: %w", name, t.Machines, t.Patches, t.Tokens, ErrConflict)
		}
		if err := tx.q.DeleteIndexes(ctx, name); err != nil {
			return err
		}
		if err := changedOne(tx.q.DeleteTier(ctx, name)); err != nil {
			return err
		}
		tx.changed(KindTier, name)
		return tx.q.MoveTiersDown(ctx, t.Position)
	}
	return named(ErrNotFound, "tier %s", name)
}

// DeleteTier removes a tier that nothing is in: see Tx.
func (s *Store) DeleteTier(ctx context.Context, name string) error {
	return s.Update(ctx, func(tx *Tx) error { return tx.DeleteTier(ctx, name) })
}
