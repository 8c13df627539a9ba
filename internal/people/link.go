// SPDX-License-Identifier: Apache-2.0

package people

import (
	"context"
	"errors"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/store"
)

// The purposes of links.
const (
	PurposeWelcome = "welcome" // come in for the first time, or again: set a password
	PurposeSignIn  = "sign-in" // sign in once, as it is
)

// signInLink is how long a link that signs in without anything else is good.
const signInLink = 15 * time.Minute

// linkPath is where the console redeems links. The secret stands behind #, so
// that no log and no Referer header has it.
const linkPath = "/console/link#"

// link makes a link for a user and writes that down.
func (s *Service) link(ctx context.Context, tx *store.Tx, actor string, u store.User, purpose string) (api.LinkMade, error) {
	life := s.limits.Link
	if purpose == PurposeSignIn {
		life = signInLink
	}
	secret := newSecret()
	made, err := tx.CreateLink(ctx, store.Link{
		Hash: hashSecret(secret), Person: u.ID, Purpose: purpose, CreatedBy: actor, Expires: s.now().Add(life).UnixMilli(),
	})
	if err != nil {
		return api.LinkMade{}, err
	}
	out := api.LinkMade{Link: s.url.Scheme + "://" + s.url.Host + linkPath + secret, Purpose: purpose, Expires: made.Expires}
	return out, tx.Audit(ctx, entry(actor, "link.create", u.Name, purpose))
}

// CreateLink makes a link for a user, in the place of those they have.
func (s *Service) CreateLink(ctx context.Context, actor, userID, purpose string) (api.LinkMade, error) {
	if purpose != PurposeWelcome && purpose != PurposeSignIn {
		return api.LinkMade{}, code.New("TS8228", "", "a link is for welcome or for sign-in")
	}
	var out api.LinkMade
	err := s.store.Update(ctx, func(tx *store.Tx) error {
		u, err := tx.User(ctx, userID)
		if err != nil {
			return known(err, "TS8226", userID, "")
		}
		if u.Disabled != 0 {
			return code.New("TS8209", u.Name, "")
		}
		out, err = s.link(ctx, tx, actor, u, purpose)
		return err
	})
	return out, err
}

// linkOf finds a link that can be used, and whose it is.
func (s *Service) linkOf(ctx context.Context, secret string) (store.Link, store.User, error) {
	l, err := s.store.LinkByHash(ctx, hashSecret(secret))
	bad := func(why string) (store.Link, store.User, error) {
		return store.Link{}, store.User{}, code.New("TS8212", "", why)
	}
	switch {
	case errors.Is(err, store.ErrNotFound):
		return bad("this server does not know it, or another took its place")
	case errors.Is(err, store.ErrConflict):
		return bad("it was used")
	case errors.Is(err, store.ErrExpired):
		return bad("its time is over")
	case err != nil:
		return store.Link{}, store.User{}, err
	}
	u, err := s.store.User(ctx, l.Person)
	if err == nil && u.Disabled != 0 {
		return bad("the account is disabled")
	}
	return l, u, err
}

// LookAtLink says what a link is for, to who has it, and leaves it good.
func (s *Service) LookAtLink(ctx context.Context, secret string) (api.LinkShown, error) {
	l, u, err := s.linkOf(ctx, secret)
	if err != nil {
		return api.LinkShown{}, err
	}
	return api.LinkShown{
		Name: u.Name, Purpose: l.Purpose, Password: l.Purpose == PurposeWelcome, TOTP: len(u.TOTP) > 0, Expires: l.Expires,
	}, nil
}

// RedeemLink uses a link up and signs its user in. One for a password sets
// that, and ends all sessions of before. A second factor is asked for all the
// same: who made the link has none of the user's.
func (s *Service) RedeemLink(ctx context.Context, in api.RedeemLink, from From) (SignedIn, error) {
	l, u, err := s.linkOf(ctx, in.Secret)
	if err != nil {
		return SignedIn{}, err
	}
	hash := ""
	if l.Purpose == PurposeWelcome {
		if err := checkPassword(in.Password, u.Name); err != nil {
			return SignedIn{}, err
		}
		if hash, err = s.newHash(ctx, in.Password); err != nil {
			return SignedIn{}, err
		}
	}
	method := "link"
	if len(u.TOTP) > 0 {
		if in.Code == "" {
			return SignedIn{}, code.New("TS8210", u.Name, "")
		}
		attempt, err := s.attempt(ctx, u)
		if err != nil {
			return SignedIn{}, err
		}
		kind, err := s.factor(ctx, u, in.Code)
		if code.Of(err) == "TS8211" {
			return SignedIn{}, s.failed(ctx, u, attempt, "TS8211")
		}
		if err != nil {
			return SignedIn{}, err
		}
		method += "+" + kind
	}
	return s.begin(ctx, u, method, from, func(tx *store.Tx) error {
		if err := tx.UseLink(ctx, hashSecret(in.Secret)); err != nil {
			return known(err, "TS8212", "", "it was used")
		}
		if err := tx.UnlockUser(ctx, u.ID); err != nil {
			return err
		}
		if hash == "" {
			return nil
		}
		if err := tx.SetPassword(ctx, u.ID, hash); err != nil {
			return err
		}
		if _, err := tx.EndSessions(ctx, u.ID, ""); err != nil {
			return err
		}
		return tx.Audit(ctx, entry(u.Name, "user.password", u.Name, "by a link"))
	})
}
