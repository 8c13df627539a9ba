// SPDX-License-Identifier: Apache-2.0

package people

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/authz"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/store"
)

const (
	maxKeys  = 50 // of a person, that are not revoked
	keyLife  = 90 * 24 * time.Hour
	keyLives = 366 * 24 * time.Hour // at most
)

// ByKey says whose an API key is: of a person, or of a program, as the
// operators of before. TS8201 if it is nobody's, or not any more.
func (s *Service) ByKey(ctx context.Context, credential string) (Caller, error) {
	refused := func(why string) (Caller, error) { return Caller{}, code.New("TS8201", "", why) }
	kind, ok := api.CredentialKindOf(credential)
	if !ok || kind != api.OperatorCredential && kind != api.WorkerCredential {
		return refused("the credential is none of an operator")
	}
	k, err := s.store.OperatorByHash(ctx, api.HashCredential(credential))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return refused("this server does not know the credential")
	case errors.Is(err, store.ErrRevoked):
		return refused("this credential was revoked")
	case errors.Is(err, store.ErrExpired):
		return refused("the time of this credential is over")
	case err != nil:
		return Caller{}, err
	}
	who := Caller{Name: k.Name, KeyID: k.ID, Role: k.Kind}
	if who.Subject.Scopes, err = scopesOf(k.Scopes); err != nil {
		return Caller{}, fmt.Errorf("key %s: %w", k.ID, err)
	}
	switch {
	case k.Person != "":
		u, err := s.store.User(ctx, k.Person)
		if err != nil {
			return Caller{}, known(err, "TS8201", "", "the account is gone")
		}
		if u.Disabled != 0 {
			return refused("the account is disabled")
		}
		who.UserID, who.Subject.Person, who.Subject.Grants = u.ID, u.ID, grantsOf(u.Grants)
		who.Role = roleText(who.Subject.Grants)
	case k.Grants != "":
		who.Subject.Grants = grantsOf(k.Grants)
		who.Role = roleText(who.Subject.Grants)
	default:
		who.Subject.Grants = authz.OfKind(k.Kind)
	}
	if now := s.now().UnixMilli(); now-k.LastUsed >= touchEvery.Milliseconds() {
		if err := s.store.UseOperator(ctx, k.ID, now); err != nil && ctx.Err() == nil {
			s.log.Warn("last use of a key could not be written down", "key", k.Name, "err", err)
		}
	}
	return who, nil
}

// scopesOf reads scopes as they are stored. Those that can't be read are worth
// nothing, not everything.
func scopesOf(text string) ([]authz.Permission, error) {
	if text == "" {
		return nil, nil
	}
	all := []authz.Permission{}
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return nil, fmt.Errorf("scopes: %w", err)
	}
	return all, nil
}

// CreateKey makes an API key of who asks.
func (s *Service) CreateKey(ctx context.Context, who Caller, in api.NewKey) (api.KeyMade, error) {
	u, err := s.self(ctx, who)
	if err != nil {
		return api.KeyMade{}, err
	}
	bad := func(why string) (api.KeyMade, error) { return api.KeyMade{}, code.New("TS8219", "", why) }
	label := userName(in.Name)
	if len(label) > 36 || checkName(label) != nil {
		return bad("a name is of a-z, 0-9 and, not as the first, . _ - + @, and of 36 characters at most")
	}
	now := s.now()
	switch {
	case in.Expires == 0:
		in.Expires = now.Add(keyLife).UnixMilli()
	case in.Expires <= now.UnixMilli():
		return bad("its end is over already")
	case in.Expires > now.Add(keyLives).UnixMilli():
		return bad("a key is good for a year at most")
	}
	scopes, err := scopesText(in.Scopes)
	if err != nil {
		return api.KeyMade{}, err
	}
	secret := api.NewCredential(api.OperatorCredential)
	var made store.Operator
	err = s.store.Update(ctx, func(tx *store.Tx) error {
		if err := s.held(ctx, tx, who); err != nil {
			return err
		}
		mine, err := tx.KeysOf(ctx, u.ID)
		if err != nil {
			return err
		}
		alive := 0
		for _, k := range mine {
			if k.Revoked == 0 && k.Expires > now.UnixMilli() {
				alive++
			} else if k.Revoked == 0 && k.Name == u.Name+"/"+label { // its time is over: the name is free
				if err := tx.RevokeKeyOf(ctx, u.ID, k.ID); err != nil {
					return err
				}
			}
		}
		if alive >= maxKeys {
			return code.New("TS8219", "", fmt.Sprintf("you have %d, which are the most", alive))
		}
		made, err = tx.CreateKey(ctx, store.Operator{
			Name: u.Name + "/" + label, Kind: store.OperatorKey, Hash: api.HashCredential(secret), Person: u.ID, Scopes: scopes, Expires: in.Expires,
		})
		if errors.Is(err, store.ErrConflict) {
			return code.New("TS8219", "", "you have one of this name")
		}
		if err != nil {
			return err
		}
		return tx.Audit(ctx, entry(who.Name, "key.create", made.Name, scopesWords(in.Scopes)+", until "+time.UnixMilli(in.Expires).UTC().Format(time.DateOnly)))
	})
	if err != nil {
		return api.KeyMade{}, err
	}
	return api.KeyMade{Key: key(made), Secret: secret}, nil
}

func scopesText(names []string) (string, error) {
	if len(names) == 0 {
		return "", nil
	}
	all := make([]authz.Permission, len(names))
	for i, n := range names {
		all[i] = authz.Permission(n)
	}
	if err := authz.CheckScopes(all); err != nil {
		return "", err
	}
	slices.Sort(all)
	return jsonText(slices.Compact(all))
}

func scopesWords(names []string) string {
	if len(names) == 0 {
		return "all that its owner may"
	}
	return strings.Join(names, ", ")
}

func key(k store.Operator) api.Key {
	out := api.Key{
		ID: k.ID, Name: k.Name, User: k.Person, Created: k.Created, Expires: k.Expires, Revoked: k.Revoked, LastUsed: k.LastUsed,
	}
	if k.Kind != store.OperatorKey {
		out.Role = k.Kind
	}
	if scopes, err := scopesOf(k.Scopes); err == nil {
		for _, p := range scopes {
			out.Scopes = append(out.Scopes, string(p))
		}
	}
	return out
}

// OwnKeys lists the API keys of who asks, the oldest first.
func (s *Service) OwnKeys(ctx context.Context, who Caller) ([]api.Key, error) {
	u, err := s.self(ctx, who)
	if err != nil {
		return nil, err
	}
	rows, err := s.store.KeysOf(ctx, u.ID)
	return keys(rows), err
}

// Keys lists everybody's API keys, those of programs too, the oldest first.
func (s *Service) Keys(ctx context.Context) ([]api.Key, error) {
	rows, err := s.store.Operators(ctx)
	return keys(rows), err
}

func keys(rows []store.Operator) []api.Key {
	all := make([]api.Key, len(rows))
	for i, k := range rows {
		all[i] = key(k)
	}
	return all
}

// RevokeOwnKey ends an API key of who asks.
func (s *Service) RevokeOwnKey(ctx context.Context, who Caller, id string) error {
	u, err := s.self(ctx, who)
	if err != nil {
		return err
	}
	return s.store.Update(ctx, func(tx *store.Tx) error {
		if err := tx.RevokeKeyOf(ctx, u.ID, id); err != nil {
			return err
		}
		return tx.Audit(ctx, entry(who.Name, "key.revoke", id, ""))
	})
}

// RevokeKey ends anybody's API key, unless nobody could administer the server
// without it.
func (s *Service) RevokeKey(ctx context.Context, who Caller, id string) error {
	return s.store.Update(ctx, func(tx *store.Tx) error {
		if err := tx.LockPeople(ctx); err != nil {
			return err
		}
		if err := tx.RevokeOperator(ctx, id); err != nil {
			return err
		}
		if err := someAdmin(ctx, tx); err != nil {
			return err
		}
		return tx.Audit(ctx, entry(who.Name, "key.revoke", id, ""))
	})
}

// revokeKeys ends all keys of a user.
func (s *Service) revokeKeys(ctx context.Context, tx *store.Tx, userID string) error {
	mine, err := tx.KeysOf(ctx, userID)
	if err != nil {
		return err
	}
	for _, k := range mine {
		if k.Revoked == 0 {
			if err := tx.RevokeKeyOf(ctx, userID, k.ID); err != nil {
				return err
			}
		}
	}
	return nil
}
