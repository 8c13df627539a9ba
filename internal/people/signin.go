// SPDX-License-Identifier: Apache-2.0

package people

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/store"
)

const (
	freeAttempts = 5 // the last of them, and each after it, locks
	firstLock    = 30 * time.Second
	longestLock  = time.Hour
)

// lockFor is how long an attempt locks if it fails: 30 seconds from the fifth
// on, twice as long each time, an hour at most.
func lockFor(attempt int64) time.Duration {
	if attempt < freeAttempts {
		return 0
	}
	return min(firstLock<<min(attempt-freeAttempts, 10), longestLock)
}

// SignedIn is a new session.
type SignedIn struct {
	Secret   string // for the cookie; told once
	Session  api.Session
	User     api.User
	ReturnTo string // path of the console that a sign-in elsewhere began at; "": none
}

// SignIn signs in with a password and, if the user has one, a second factor.
func (s *Service) SignIn(ctx context.Context, in api.SignIn, from From) (SignedIn, error) {
	u, err := s.store.UserByName(ctx, userName(in.Name))
	if errors.Is(err, store.ErrNotFound) {
		// As long as with a user who exists.
		if _, _, err := s.matches(ctx, in.Password, s.nobody); err != nil {
			return SignedIn{}, err
		}
		return SignedIn{}, code.New("TS8207", "", "")
	}
	if err != nil {
		return SignedIn{}, err
	}
	method, err := s.prove(ctx, u, in.Password, in.Code)
	if err != nil {
		return SignedIn{}, err
	}
	if u.Disabled != 0 {
		return SignedIn{}, code.New("TS8209", u.Name, "")
	}
	return s.begin(ctx, u, method, from, nil)
}

// prove asks for the password of a user and, if they have one, their second
// factor, and says how they proved who they are. What it learned is stored
// whatever becomes of the caller.
func (s *Service) prove(ctx context.Context, u store.User, password, factor string) (string, error) {
	attempt, err := s.attempt(ctx, u)
	if err != nil {
		return "", err
	}
	stored := u.Password
	if stored == "" {
		stored = s.nobody
	}
	ok, old, err := s.matches(ctx, password, stored)
	if err != nil {
		return "", errors.Join(err, s.takeBack(ctx, u, attempt))
	}
	if !ok || u.Password == "" {
		return "", s.failed(ctx, u, attempt, "TS8207")
	}
	method := "password"
	if len(u.TOTP) > 0 {
		if factor == "" {
			// Neither right nor wrong. It must not wipe out the attempts at
			// guessing codes either: takeBack takes back this one alone.
			return "", errors.Join(code.New("TS8210", u.Name, ""), s.takeBack(ctx, u, attempt))
		}
		kind, err := s.factor(ctx, u, factor)
		if err != nil {
			if code.Of(err) == "TS8211" {
				return "", s.failed(ctx, u, attempt, "TS8211")
			}
			return "", err
		}
		method += "+" + kind
	}
	hash := ""
	if old {
		if hash, err = s.newHash(ctx, password); err != nil {
			return "", err
		}
	}
	return method, s.store.Update(ctx, func(tx *store.Tx) error {
		if old {
			if err := tx.RehashPassword(ctx, u.ID, u.Password, hash); err != nil {
				return err
			}
		}
		return tx.UnlockUser(ctx, u.ID)
	})
}

// attempt counts an attempt, and locks the user already if it would be one too
// many: of a hundred at once none is free.
func (s *Service) attempt(ctx context.Context, u store.User) (n int64, err error) {
	err = s.store.Update(ctx, func(tx *store.Tx) error {
		if n, err = tx.CountAttempt(ctx, u.ID); err != nil {
			return err
		}
		if d := lockFor(n); d > 0 {
			return tx.LockUser(ctx, u.ID, s.now().Add(d).UnixMilli())
		}
		return nil
	})
	if errors.Is(err, store.ErrLimit) {
		return 0, s.locked(ctx, u.ID)
	}
	return n, err
}

func (s *Service) locked(ctx context.Context, id string) error {
	u, err := s.store.User(ctx, id)
	if err != nil {
		return err
	}
	left := time.UnixMilli(u.LockedUntil).Sub(s.now()).Round(time.Second)
	return code.New("TS8208", u.Name, fmt.Sprintf("%d in a row; again in %s", u.Failures, max(left, time.Second)))
}

func (s *Service) takeBack(ctx context.Context, u store.User, attempt int64) error {
	return s.store.Update(ctx, func(tx *store.Tx) error { return tx.TakeBackAttempt(ctx, u.ID, attempt) })
}

// failed says that an attempt failed, and writes down that a user was locked.
func (s *Service) failed(ctx context.Context, u store.User, attempt int64, c code.Code) error {
	d := lockFor(attempt)
	if d == 0 {
		return code.New(c, "", "")
	}
	s.log.Warn("user locked after wrong attempts", "user", u.Name, "attempts", attempt, "for", d)
	if err := s.store.Audit(ctx, entry("server", "user.lock", u.Name, fmt.Sprintf("%d wrong attempts, for %s", attempt, d))); err != nil {
		return err
	}
	return code.New(c, "", fmt.Sprintf("no more attempts for %s", d))
}

// begin makes a session for a user as they were when they proved who they are:
// what was taken from them meanwhile, a password or a second factor that another
// one may know, must not end in a session that outlives it. more, which may be
// nil, is done with it or not at all.
func (s *Service) begin(ctx context.Context, u store.User, method string, from From, more func(*store.Tx) error) (SignedIn, error) {
	out := SignedIn{Secret: newSecret()}
	err := s.store.Update(ctx, func(tx *store.Tx) error {
		if err := tx.LockPeople(ctx); err != nil {
			return err
		}
		present, err := tx.User(ctx, u.ID)
		if err != nil {
			return known(err, "TS8207", "", "")
		}
		switch {
		case present.Disabled != 0:
			return code.New("TS8209", u.Name, "")
		case present.PasswordSet != u.PasswordSet || !bytes.Equal(present.TOTP, u.TOTP):
			return code.New("TS8227", u.Name, "the account was changed meanwhile")
		}
		if more != nil {
			if err := more(tx); err != nil {
				return err
			}
		}
		now := s.now()
		made, err := tx.CreateSession(ctx, store.Session{
			Hash: hashSecret(out.Secret), Person: u.ID, Method: method, Address: from.Address.String(), Agent: from.agent(),
			Proven: now.UnixMilli(), Expires: now.Add(s.limits.Life).UnixMilli(),
		})
		if err != nil {
			return err
		}
		if err := tx.UserSeen(ctx, u.ID); err != nil {
			return err
		}
		out.Session = s.session(made, made.ID)
		fresh, err := tx.User(ctx, u.ID)
		if err != nil {
			return err
		}
		out.User = user(fresh)
		return tx.Audit(ctx, entry(u.Name, "session.begin", made.ID, method+" from "+from.Address.String()))
	})
	if err != nil {
		return SignedIn{}, err
	}
	return out, nil
}

// Confirm lets a session be fresh again: its user proves once more who they are.
func (s *Service) Confirm(ctx context.Context, who Caller, in api.ConfirmIdentity) error {
	u, err := s.self(ctx, who)
	if err != nil {
		return err
	}
	if _, err := s.prove(ctx, u, in.Password, in.Code); err != nil {
		return err
	}
	return s.store.Update(ctx, func(tx *store.Tx) error { return tx.ProveSession(ctx, who.Session) })
}

// self is the user that a caller is: of a session, as the table of permissions
// asks for.
func (s *Service) self(ctx context.Context, who Caller) (store.User, error) {
	if who.UserID == "" || who.Session == "" {
		return store.User{}, code.New("TS8205", "", "")
	}
	u, err := s.store.User(ctx, who.UserID)
	return u, known(err, "TS8201", "", "the account is gone")
}

// held refuses what somebody does to their own account in a session that was
// ended since it was asked for (TS8201): it must not outlive the session, as a
// key or a passkey would that another one made while the account was taken back
// from them. It keeps others from ending it until the transaction is over.
func (s *Service) held(ctx context.Context, tx *store.Tx, who Caller) error {
	if err := tx.LockPeople(ctx); err != nil {
		return err
	}
	there, err := tx.HasSession(ctx, who.UserID, who.Session)
	if err == nil && !there {
		err = code.New("TS8201", "", "the session was ended")
	}
	return err
}

// userName is a name as it is stored.
func userName(s string) string { return strings.ToLower(strings.TrimSpace(s)) }
