// SPDX-License-Identifier: Apache-2.0

package people

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/authz"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/store"
)

// touchEvery is how precisely it is known when a session was last used.
const touchEvery = time.Minute

// Cookie is that of a new session. It is Lax, not Strict, for whoever follows a
// link to the console is signed in there; what changes something must be kept
// from other origins by the server (http.CrossOriginProtection).
func (s *Service) Cookie(secret string) *http.Cookie {
	return &http.Cookie{
		Name: api.SessionCookie, Value: secret, Path: "/", MaxAge: int(s.limits.Life / time.Second),
		Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
}

// NoCookie takes the cookie back.
func NoCookie() *http.Cookie {
	return &http.Cookie{Name: api.SessionCookie, Path: "/", MaxAge: -1, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
}

// SecretOf is the secret of a request's session; "" if it has none.
func SecretOf(r *http.Request) string {
	c, err := r.Cookie(api.SessionCookie)
	if err != nil || len(c.Value) > 100 {
		return ""
	}
	return c.Value
}

// BySession says whose session a secret is of. TS8201 if nobody's, or not any
// more.
func (s *Service) BySession(ctx context.Context, secret string, from From) (Caller, error) {
	over := func(why string) (Caller, error) { return Caller{}, code.New("TS8201", "", why) }
	if secret == "" {
		return over("")
	}
	e, err := s.store.SessionByHash(ctx, hashSecret(secret))
	if errors.Is(err, store.ErrNotFound) {
		return over("the session was ended")
	}
	if err != nil {
		return Caller{}, err
	}
	now := s.now()
	switch {
	case e.Expires <= now.UnixMilli():
		return over("the time of the session is over")
	case e.LastUsed <= now.Add(-s.limits.Idle).UnixMilli():
		return over("the session was not used for a long time")
	}
	u, err := s.store.User(ctx, e.Person)
	if err != nil {
		return Caller{}, known(err, "TS8201", "", "the account is gone")
	}
	if u.Disabled != 0 {
		return Caller{}, code.New("TS8201", "", "the account is disabled")
	}
	if !from.Background && now.UnixMilli()-e.LastUsed >= touchEvery.Milliseconds() {
		err := s.store.Update(ctx, func(tx *store.Tx) error {
			if err := tx.UseSession(ctx, e.ID, from.Address.String()); err != nil {
				return err
			}
			return tx.UserSeen(ctx, u.ID)
		})
		if err != nil && ctx.Err() == nil {
			s.log.Warn("last use of a session could not be written down", "user", u.Name, "err", err)
		}
	}
	grants := grantsOf(u.Grants)
	return Caller{
		Subject: authz.Subject{Person: u.ID, Session: true, Fresh: s.fresh(e), Grants: grants},
		Name:    u.Name, Role: roleText(grants), UserID: u.ID, Session: e.ID,
	}, nil
}

func (s *Service) fresh(e store.Session) bool {
	return s.now().Sub(time.UnixMilli(e.Proven)) < s.limits.Fresh
}

func roleText(all []authz.Grant) string {
	var words []string
	for _, g := range all {
		words = append(words, g.String())
	}
	return strings.Join(words, "; ")
}

// SignOut ends the session of who asks.
func (s *Service) SignOut(ctx context.Context, who Caller) error {
	return s.EndOwnSession(ctx, who, who.Session)
}

// OwnSessions lists the sessions of who asks, the last used first.
func (s *Service) OwnSessions(ctx context.Context, who Caller) ([]api.Session, error) {
	u, err := s.self(ctx, who)
	if err != nil {
		return nil, err
	}
	return s.sessions(ctx, who, u.ID)
}

// Sessions lists everybody's sessions, the last used first.
func (s *Service) Sessions(ctx context.Context, who Caller) ([]api.Session, error) {
	return s.sessions(ctx, who, "")
}

func (s *Service) sessions(ctx context.Context, who Caller, person string) ([]api.Session, error) {
	rows, err := s.store.Sessions(ctx, store.SessionFilter{Person: person, UsedAfter: s.now().Add(-s.limits.Idle).UnixMilli()})
	all := make([]api.Session, len(rows))
	for i, e := range rows {
		all[i] = s.session(e, who.Session)
	}
	return all, err
}

// EndOwnSession ends a session of who asks. TS8201 is what its next request
// gets.
func (s *Service) EndOwnSession(ctx context.Context, who Caller, id string) error {
	u, err := s.self(ctx, who)
	if err != nil {
		return err
	}
	return s.endSession(ctx, who, u.ID, id)
}

// EndSession ends anybody's session.
func (s *Service) EndSession(ctx context.Context, who Caller, id string) error {
	return s.endSession(ctx, who, "", id)
}

func (s *Service) endSession(ctx context.Context, who Caller, person, id string) error {
	return s.store.Update(ctx, func(tx *store.Tx) error {
		if err := tx.EndSession(ctx, person, id); err != nil {
			return err
		}
		return tx.Audit(ctx, entry(who.Name, "session.end", id, ""))
	})
}

func (s *Service) session(e store.Session, current string) api.Session {
	ends := min(e.Expires, time.UnixMilli(e.LastUsed).Add(s.limits.Idle).UnixMilli())
	return api.Session{
		ID: e.ID, User: e.Person, Method: e.Method, Address: e.Address, Agent: e.Agent,
		Created: e.Created, LastUsed: e.LastUsed, Expires: ends, Current: e.ID == current,
	}
}

// Account is who is signed in.
func (s *Service) Account(ctx context.Context, who Caller) (api.Account, error) {
	u, err := s.self(ctx, who)
	if err != nil {
		return api.Account{}, err
	}
	a := api.Account{User: user(u), Permissions: permissions(grantsOf(u.Grants)), Fresh: who.Subject.Fresh}
	if err := s.count(ctx, &a.User); err != nil {
		return api.Account{}, err
	}
	sessions, err := s.sessions(ctx, who, u.ID)
	if err != nil {
		return api.Account{}, err
	}
	for _, e := range sessions {
		if e.Current {
			a.Session = e
		}
	}
	found, err := s.store.Identities(ctx, u.ID)
	if err != nil {
		return api.Account{}, err
	}
	for _, i := range found {
		a.Identities = append(a.Identities, api.Identity{Issuer: i.Issuer, Subject: i.Subject, Created: i.Created})
	}
	if u.Settings != "" {
		if err := json.Unmarshal([]byte(u.Settings), &a.Settings); err != nil {
			s.log.Warn("settings of a user can't be read", "user", u.Name, "err", err)
		}
	}
	return a, nil
}

// permissions are those that any of the grants has.
func permissions(all []authz.Grant) []string {
	names := []string{}
	for _, p := range authz.Permissions() {
		for _, g := range all {
			if g.Role.Has(p) {
				names = append(names, string(p))
				break
			}
		}
	}
	return names
}

// ChangeAccount changes what somebody decides about their own account.
func (s *Service) ChangeAccount(ctx context.Context, who Caller, in api.AccountChange) error {
	if _, err := s.self(ctx, who); err != nil {
		return err
	}
	return s.store.Update(ctx, func(tx *store.Tx) error {
		// Roles that are taken meanwhile must not be written back.
		if err := tx.LockPeople(ctx); err != nil {
			return err
		}
		u, err := tx.User(ctx, who.UserID)
		if err != nil {
			return err
		}
		if in.Display != nil {
			if u.Display, err = checkDisplay(*in.Display); err != nil {
				return err
			}
		}
		if in.Settings != nil {
			if u.Settings, err = jsonText(in.Settings); err != nil {
				return err
			}
		}
		return tx.UpdateUser(ctx, u)
	})
}

// ChangePassword sets the password of who asks, and ends their other sessions.
func (s *Service) ChangePassword(ctx context.Context, who Caller, in api.ChangePassword) error {
	u, err := s.self(ctx, who)
	if err != nil {
		return err
	}
	if err := checkPassword(in.Password, u.Name); err != nil {
		return err
	}
	hash, err := s.newHash(ctx, in.Password)
	if err != nil {
		return err
	}
	return s.store.Update(ctx, func(tx *store.Tx) error {
		if err := s.held(ctx, tx, who); err != nil {
			return err
		}
		if err := tx.SetPassword(ctx, u.ID, hash); err != nil {
			return err
		}
		if err := tx.DeleteLinks(ctx, u.ID); err != nil {
			return err
		}
		if _, err := tx.EndSessions(ctx, u.ID, who.Session); err != nil {
			return err
		}
		return tx.Audit(ctx, entry(who.Name, "user.password", u.Name, "other sessions were ended"))
	})
}
