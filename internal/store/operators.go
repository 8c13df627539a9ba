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

// CreateKey stores an API key; id and time are made here. ErrConflict if there
// is one of this name that is not revoked.
func (tx *Tx) CreateKey(ctx context.Context, o Operator) (Operator, error) {
	o.Name, o.Created, o.Revoked, o.LastUsed = text(o.Name), tx.now, 0, 0
	var err error
	if o.ID, err = id(); err != nil {
		return Operator{}, err
	}
	tx.changed(KindOperator, o.ID)
	return o, named(tx.s.translate(tx.q.InsertKey(ctx, query.InsertKeyParams{
		ID: o.ID, Name: o.Name, Kind: o.Kind, Hash: o.Hash, Created: o.Created,
		Person: o.Person, Grants: o.Grants, Scopes: o.Scopes, Expires: o.Expires,
	})), "API key %s", o.Name)
}

// KeysOf lists the API keys of a person, revoked ones too, the oldest first.
func (r Reader) KeysOf(ctx context.Context, person string) ([]Operator, error) {
	found, err := r.q.KeysOf(ctx, person)
	all := make([]Operator, len(found))
	for i, row := range found {
		all[i] = Operator(row)
	}
	return all, r.s.translate(err)
}

// RevokeKeyOf ends an API key of a person. ErrNotFound if they have none of
// this id that is not revoked.
func (tx *Tx) RevokeKeyOf(ctx context.Context, person, id string) error {
	tx.changed(KindOperator, id)
	return named(changedOne(tx.q.RevokeKeyOf(ctx, query.RevokeKeyOfParams{ID: id, Person: person, Revoked: tx.now})), "API key %s", id)
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
// ErrRevoked if it is, ErrExpired if its time is over.
func (r Reader) OperatorByHash(ctx context.Context, hash []byte) (Operator, error) {
	row, err := r.q.OperatorByHash(ctx, hash)
	switch {
	case err != nil:
	case row.Revoked != 0:
		err = ErrRevoked
	case row.Expires != 0 && row.Expires <= r.s.now().UnixMilli():
		err = ErrExpired
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
