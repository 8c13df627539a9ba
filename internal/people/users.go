// SPDX-License-Identifier: Apache-2.0

package people

import (
	"context"
	"errors"
	"fmt"
	"net/mail"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/authz"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/store"
)

// user is a user as others see it, but for what count counts.
func user(u store.User) api.User {
	return api.User{
		ID: u.ID, Name: u.Name, Display: u.Display, Email: u.Email, Grants: fromGrants(grantsOf(u.Grants)),
		Created: u.Created, CreatedBy: u.CreatedBy, Disabled: u.Disabled, LockedUntil: u.LockedUntil, LastSeen: u.LastSeen,
		Password: u.Password != "", TOTP: len(u.TOTP) > 0,
	}
}

func (s *Service) count(ctx context.Context, u *api.User) error {
	keys, err := s.store.Passkeys(ctx, u.ID)
	if err != nil {
		return err
	}
	u.Passkeys = len(keys)
	u.RecoveryCodes, err = s.store.RecoveryCodes(ctx, u.ID)
	return err
}

// Users lists all users by name.
func (s *Service) Users(ctx context.Context) ([]api.User, error) {
	rows, err := s.store.Users(ctx)
	all := make([]api.User, len(rows))
	for i, u := range rows {
		all[i] = user(u)
	}
	return all, err
}

// User returns a user by id.
func (s *Service) User(ctx context.Context, id string) (api.User, error) {
	u, err := s.store.User(ctx, id)
	if err != nil {
		return api.User{}, known(err, "TS8226", id, "")
	}
	out := user(u)
	return out, s.count(ctx, &out)
}

// checkName refuses names that could be taken for others: no slash, which
// parts a user from their key, and no colon, which others in the audit log have.
func checkName(name string) error {
	bad := func(why string) error { return code.New("TS8228", name, why) }
	if n := len(name); n == 0 || n > 63 {
		return bad("a name has 1 to 63 characters")
	}
	for i, r := range name {
		letter := r >= 'a' && r <= 'z' || r >= '0' && r <= '9'
		if !letter && (i == 0 || !strings.ContainsRune("._-+@", r)) {
			return bad("a name is of a-z, 0-9 and, not as the first, . _ - + @")
		}
	}
	if name == "server" || name == "local" || name == "machine" {
		return bad("the audit log calls others so")
	}
	return nil
}

func checkDisplay(s string) (string, error) {
	s = strings.TrimSpace(s)
	if !utf8.ValidString(s) || utf8.RuneCountInString(s) > 100 || strings.ContainsFunc(s, unicode.IsControl) {
		return "", code.New("TS8228", "", "a name to show has up to 100 characters, without control characters")
	}
	return s, nil
}

func checkEmail(s string) (string, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return "", nil
	}
	a, err := mail.ParseAddress(s)
	if err != nil || a.Address != s || a.Name != "" || len(s) > 254 || strings.ContainsFunc(s, unicode.IsControl) {
		return "", code.New("TS8228", "", "the e-mail address is none")
	}
	return s, nil
}

// CreateUser makes a user and the link that they come in with.
func (s *Service) CreateUser(ctx context.Context, who Caller, in api.NewUser) (api.UserMade, error) {
	return s.createUser(ctx, who.Name, in, PurposeWelcome, nil)
}

// FirstAdmin makes the first admin of a server and the link that they come in
// with. TS8214 if there is any user.
func (s *Service) FirstAdmin(ctx context.Context, actor, name string) (api.UserMade, error) {
	in := api.NewUser{Name: name, Grants: []api.Grant{{Role: string(authz.Admin)}}}
	return s.createUser(ctx, actor, in, PurposeWelcome, func(tx *store.Tx) error {
		all, err := tx.Users(ctx)
		if err == nil && len(all) > 0 {
			err = code.New("TS8214", all[0].Name, "the server has users already").WithFix("make a link for one of them: tsugi-server user link " + all[0].Name)
		}
		return err
	})
}

func (s *Service) createUser(ctx context.Context, actor string, in api.NewUser, purpose string, before func(*store.Tx) error) (api.UserMade, error) {
	row, err := newUser(actor, in)
	if err != nil {
		return api.UserMade{}, err
	}
	var out api.UserMade
	err = s.store.Update(ctx, func(tx *store.Tx) error {
		if err := tx.LockPeople(ctx); err != nil {
			return err
		}
		if before != nil {
			if err := before(tx); err != nil {
				return err
			}
		}
		u, err := insertUser(ctx, tx, row)
		if err != nil {
			return err
		}
		link, err := s.link(ctx, tx, actor, u, purpose)
		if err != nil {
			return err
		}
		out = api.UserMade{User: user(u), Link: link.Link, Expires: link.Expires}
		return nil
	})
	if err != nil {
		return api.UserMade{}, err
	}
	return out, nil
}

// newUser checks all of a user to be.
func newUser(actor string, in api.NewUser) (store.User, error) {
	row := store.User{Name: userName(in.Name), CreatedBy: actor, Settings: "{}"}
	if err := checkName(row.Name); err != nil {
		return row, err
	}
	var err error
	if row.Display, err = checkDisplay(in.Display); err != nil {
		return row, err
	}
	if row.Email, err = checkEmail(in.Email); err != nil {
		return row, err
	}
	row.Grants, err = grantsText(toGrants(in.Grants))
	return row, err
}

func grantsText(all []authz.Grant) (string, error) {
	if err := authz.CheckGrants(all); err != nil {
		return "", err
	}
	if all == nil {
		all = []authz.Grant{}
	}
	return jsonText(all)
}

// insertUser stores a user whose name neither a user nor a key has, so that
// the audit log means one by a name.
func insertUser(ctx context.Context, tx *store.Tx, row store.User) (store.User, error) {
	keys, err := tx.Operators(ctx)
	if err != nil {
		return store.User{}, err
	}
	for _, k := range keys {
		if k.Name == row.Name && k.Revoked == 0 {
			return store.User{}, code.New("TS8214", row.Name, "an operator's token has this name")
		}
	}
	u, err := tx.CreateUser(ctx, row)
	if errors.Is(err, store.ErrConflict) {
		return store.User{}, code.New("TS8214", row.Name, "")
	}
	if err != nil {
		return store.User{}, err
	}
	return u, tx.Audit(ctx, entry(row.CreatedBy, "user.create", u.Name, roleText(grantsOf(u.Grants))))
}

// FreeName refuses a name that a user has, for a program's key: the audit log
// means one by a name.
func (s *Service) FreeName(ctx context.Context, tx *store.Tx, name string) error {
	if err := tx.LockPeople(ctx); err != nil {
		return err
	}
	owner, _, _ := strings.Cut(name, "/") // as in the name of a user's key
	_, err := tx.UserByName(ctx, userName(owner))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err == nil {
		err = code.New("TS8214", name, "a user has this name")
	}
	return err
}

// ChangeUser changes what is decided about a user. Who loses something loses
// it with their next request.
func (s *Service) ChangeUser(ctx context.Context, who Caller, id string, in api.UserChange) (api.User, error) {
	var out api.User
	err := s.store.Update(ctx, func(tx *store.Tx) error {
		if err := tx.LockPeople(ctx); err != nil {
			return err
		}
		u, err := tx.User(ctx, id)
		if err != nil {
			return known(err, "TS8226", id, "")
		}
		changed, err := s.change(&u, in)
		if err != nil || len(changed) == 0 {
			out = user(u)
			return err
		}
		if err := tx.UpdateUser(ctx, u); err != nil {
			return err
		}
		if u.Disabled != 0 {
			if _, err := tx.EndSessions(ctx, u.ID, ""); err != nil {
				return err
			}
			if err := tx.DeleteLinks(ctx, u.ID); err != nil {
				return err
			}
		}
		if err := someAdmin(ctx, tx); err != nil {
			return err
		}
		out = user(u)
		return tx.Audit(ctx, entry(who.Name, "user.change", u.Name, strings.Join(changed, "; ")))
	})
	if err != nil {
		return api.User{}, err
	}
	return out, s.count(ctx, &out)
}

// change applies a change and says in words what it was.
func (s *Service) change(u *store.User, in api.UserChange) ([]string, error) {
	var said []string
	set := func(field *string, to, what string) {
		if *field != to {
			*field = to
			said = append(said, what+": "+to)
		}
	}
	if in.Display != nil {
		v, err := checkDisplay(*in.Display)
		if err != nil {
			return nil, err
		}
		set(&u.Display, v, "name")
	}
	if in.Email != nil {
		v, err := checkEmail(*in.Email)
		if err != nil {
			return nil, err
		}
		set(&u.Email, v, "e-mail")
	}
	if in.Grants != nil {
		text, err := grantsText(toGrants(*in.Grants))
		if err != nil {
			return nil, err
		}
		if text != u.Grants {
			said = append(said, fmt.Sprintf("roles: %s, before: %s", roleText(grantsOf(text)), roleText(grantsOf(u.Grants))))
			u.Grants = text
		}
	}
	if in.Disabled != nil && *in.Disabled != (u.Disabled != 0) {
		u.Disabled = 0
		said = append(said, "enabled")
		if *in.Disabled {
			u.Disabled = s.now().UnixMilli()
			said[len(said)-1] = "disabled"
		}
	}
	return said, nil
}

// someAdmin refuses what leaves nobody who could administer the server: no
// user with the role who was ever here, and no program's key with it.
func someAdmin(ctx context.Context, tx *store.Tx) error {
	all, err := tx.Users(ctx)
	if err != nil {
		return err
	}
	for _, u := range all {
		if u.Disabled == 0 && u.LastSeen != 0 && authz.IsAdmin(grantsOf(u.Grants)) {
			return nil
		}
	}
	keys, err := tx.Operators(ctx)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if k.Revoked == 0 && k.Person == "" && k.Expires == 0 && (k.Kind == store.OperatorAdmin || authz.IsAdmin(grantsOf(k.Grants))) {
			return nil
		}
	}
	return code.New("TS8215", "", "")
}

// Unlock forgets the wrong attempts to sign in as a user.
func (s *Service) Unlock(ctx context.Context, who Caller, id string) error {
	return s.store.Update(ctx, func(tx *store.Tx) error {
		u, err := tx.User(ctx, id)
		if err != nil {
			return known(err, "TS8226", id, "")
		}
		if err := tx.UnlockUser(ctx, id); err != nil {
			return err
		}
		return tx.Audit(ctx, entry(who.Name, "user.unlock", u.Name, ""))
	})
}
