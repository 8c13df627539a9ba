// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"

	"github.com/tsugi-project/tsugi/internal/store/query"
)

// CreateOperator stores who may use the operators' API. ErrConflict if there
// is one of this name that is not revoked.
func (tx *Tx) CreateOperator(ctx context.Context, name, kind string, hash []byte) (Operator, error) {
	o := Operator{Name: text(name), Kind: kind, Hash: hash, Created: tx.now}
	var err error
	if o.ID, err = id(); err != nil {
		return Operator{}, err
	}
	tx.changed(KindOperator, o.ID)
	return o, named(tx.s.translate(tx.q.InsertOperator(ctx, query.InsertOperatorParams{
		ID: o.ID, Name: o.Name, Kind: o.Kind, Hash: o.Hash, Created: o.Created,
	})), "operator %s", name)
}

// CreateOperator stores who may use the operators' API: see Tx.
func (s *Store) CreateOperator(ctx context.Context, name, kind string, hash []byte) (o Operator, err error) {
	err = s.Update(ctx, func(tx *Tx) error {
		o, err = tx.CreateOperator(ctx, name, kind, hash)
		return err
	})
	return o, err
}

// OperatorByHash returns the operator with the SHA-256 of a credential;
// ErrRevoked if it is.
func (r Reader) OperatorByHash(ctx context.Context, hash []byte) (Operator, error) {
	row, err := r.q.OperatorByHash(ctx, hash)
	if err == nil && row.Revoked != 0 {
		err = ErrRevoked
	}
	return Operator(row), named(r.s.translate(err), "operator of this credential")
}

// Operators lists all operators, the oldest first.
func (r Reader) Operators(ctx context.Context) ([]Operator, error) {
	found, err := r.q.Operators(ctx)
	all := make([]Operator, len(found))
	for i, row := range found {
		all[i] = Operator(row)
	}
	return all, r.s.translate(err)
}

// RevokeOperator ends an operator. ErrNotFound if there is none that is not
// revoked.
func (tx *Tx) RevokeOperator(ctx context.Context, id string) error {
	tx.changed(KindOperator, id)
	return named(changedOne(tx.q.RevokeOperator(ctx, query.RevokeOperatorParams{ID: id, Revoked: tx.now})), "operator %s", id)
}

// RevokeOperator ends an operator: see Tx.
func (s *Store) RevokeOperator(ctx context.Context, id string) error {
	return s.Update(ctx, func(tx *Tx) error { return tx.RevokeOperator(ctx, id) })
}

// UseOperator stores when an operator was last heard of.
func (s *Store) UseOperator(ctx context.Context, id string, when int64) error {
	return s.Update(ctx, func(tx *Tx) error {
		return tx.q.UseOperator(ctx, query.UseOperatorParams{ID: id, LastUsed: when})
	})
}

// Setting returns a setting; ErrNotFound if it is not set.
func (r Reader) Setting(ctx context.Context, key string) (string, error) {
	v, err := r.q.Setting(ctx, key)
	return v, named(r.s.translate(err), "setting %s", key)
}

// Settings returns all settings.
func (r Reader) Settings(ctx context.Context) (map[string]string, error) {
	found, err := r.q.Settings(ctx)
	all := map[string]string{}
	for _, row := range found {
		all[row.Key] = row.Value
	}
	return all, r.s.translate(err)
}

// SetSetting stores a setting.
func (tx *Tx) SetSetting(ctx context.Context, key, value string) error {
	tx.changed(KindSetting, key)
	return tx.q.SaveSetting(ctx, query.SaveSettingParams{Key: key, Value: text(value), Changed: tx.now})
}

// SetSetting stores a setting.
func (s *Store) SetSetting(ctx context.Context, key, value string) error {
	return s.Update(ctx, func(tx *Tx) error { return tx.SetSetting(ctx, key, value) })
}

// Audit writes down a decision; id and time are made here. Inside Update it is
// written with what it is about, or neither is.
func (tx *Tx) Audit(ctx context.Context, e AuditEntry) error {
	id, err := id()
	if err != nil {
		return err
	}
	return tx.q.InsertAudit(ctx, query.InsertAuditParams{
		ID: id, Time: tx.now, Actor: text(e.Actor), Action: text(e.Action), Object: text(e.Object), Detail: text(e.Detail),
	})
}

// Audit writes down a decision: see Tx.
func (s *Store) Audit(ctx context.Context, e AuditEntry) error {
	return s.Update(ctx, func(tx *Tx) error { return tx.Audit(ctx, e) })
}

// AuditEntries lists decisions, the newest first.
func (r Reader) AuditEntries(ctx context.Context, f AuditFilter) ([]AuditEntry, error) {
	found, err := r.q.AuditEntries(ctx, query.AuditEntriesParams{
		Newest: f.Before == "", Before: f.Before, AnyActor: f.Actor == "", Actor: f.Actor, AnyAction: f.Action == "", Action: f.Action,
		AnyObject: f.Object == "", Object: f.Object, RowLimit: rows(f.Limit),
	})
	all := make([]AuditEntry, len(found))
	for i, row := range found {
		all[i] = AuditEntry(row)
	}
	return all, r.s.translate(err)
}
