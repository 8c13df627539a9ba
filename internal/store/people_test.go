// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
)

func inTx(t testing.TB, s *Store, f func(*Tx) error) {
	t.Helper()
	qt.Assert(t, qt.IsNil(s.Update(t.Context(), f)))
}

func newUser(t testing.TB, s *Store, name string) (u User) {
	t.Helper()
	inTx(t, s, func(tx *Tx) (err error) {
		u, err = tx.CreateUser(t.Context(), User{Name: name, Display: "D", Email: "e", Grants: "[]", Settings: "{}", CreatedBy: "by"})
		return err
	})
	return u
}

func TestUsers(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, c *clock) {
		ctx := t.Context()
		u := newUser(t, s, "bob")
		newUser(t, s, "alice")
		got, err := s.UserByName(ctx, "bob")
		qt.Assert(t, qt.IsNil(err))
		want := User{ID: u.ID, Name: "bob", Display: "D", Email: "e", Grants: "[]", Settings: "{}", Created: c.ms(), CreatedBy: "by", TOTP: []byte{}}
		got.TOTP = filled(got.TOTP)
		qt.Check(t, qt.DeepEquals(got, want))
		err = s.Update(ctx, func(tx *Tx) error { _, err := tx.CreateUser(ctx, User{Name: "bob"}); return err })
		qt.Check(t, qt.ErrorIs(err, ErrConflict))
		all, err := s.Users(ctx)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(all[0].Name, "alice"))
		_, err = s.User(ctx, "\x00\xff") // as a passkey's handle, or a path, can be
		qt.Check(t, qt.ErrorIs(err, ErrNotFound))
		_, err = s.UserByName(ctx, "carol")
		qt.Check(t, qt.ErrorIs(err, ErrNotFound))

		u.Grants, u.Disabled, u.Display = `[{"role":"viewer"}]`, c.ms(), "Robert"
		inTx(t, s, func(tx *Tx) error {
			return errors.Join(tx.UpdateUser(ctx, u), tx.SetPassword(ctx, u.ID, "$hash"), tx.SetTOTP(ctx, u.ID, []byte("sealed"), 10), tx.UserSeen(ctx, u.ID))
		})
		got, err = s.User(ctx, u.ID)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(got.Password, "$hash"))
		qt.Check(t, qt.Equals(got.PasswordSet, c.ms()))
		qt.Check(t, qt.Equals(got.Display, "Robert"))
		qt.Check(t, qt.Equals(got.Disabled, c.ms()))
		qt.Check(t, qt.Equals(got.LastSeen, c.ms()))
		// A hash is replaced only by one of the same password.
		inTx(t, s, func(tx *Tx) error {
			return errors.Join(tx.RehashPassword(ctx, u.ID, "$other", "$no"), tx.RehashPassword(ctx, u.ID, "$hash", "$again"))
		})
		got, _ = s.User(ctx, u.ID)
		qt.Check(t, qt.Equals(got.Password, "$again"))
		// A code is good once, and so are those before it.
		for _, use := range []struct {
			step int64
			want error
		}{{10, ErrConflict}, {9, ErrConflict}, {11, nil}, {11, ErrConflict}} {
			err := s.Update(ctx, func(tx *Tx) error { return tx.UseTOTP(ctx, u.ID, use.step) })
			qt.Check(t, qt.ErrorIs(err, use.want))
		}
		qt.Check(t, qt.ErrorIs(s.Update(ctx, func(tx *Tx) error { return tx.UpdateUser(ctx, User{ID: "x"}) }), ErrNotFound))
	})
}

func TestAttemptsAreCountedBeforeTheyAreMade(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, c *clock) {
		ctx := t.Context()
		u := newUser(t, s, "bob")
		attempt := func() (n int64, err error) {
			err = s.Update(ctx, func(tx *Tx) error {
				n, err = tx.CountAttempt(ctx, u.ID)
				if err == nil && n >= 5 {
					return tx.LockUser(ctx, u.ID, c.in(time.Minute))
				}
				return err
			})
			return n, err
		}
		// Of many at once only five get through.
		var wg sync.WaitGroup
		var passed, locked atomic.Int64
		for range 16 {
			wg.Go(func() {
				switch _, err := attempt(); {
				case err == nil:
					passed.Add(1)
				case errors.Is(err, ErrLimit):
					locked.Add(1)
				default:
					t.Errorf("attempt: %v", err)
				}
			})
		}
		wg.Wait()
		qt.Check(t, qt.Equals(passed.Load(), 5))
		qt.Check(t, qt.Equals(locked.Load(), 11))
		c.pass(time.Minute)
		n, err := attempt()
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(n, 6))
		// What was taken back does not count, unless another one came after it.
		c.pass(time.Minute)
		inTx(t, s, func(tx *Tx) error {
			return errors.Join(tx.TakeBackAttempt(ctx, u.ID, 5), tx.TakeBackAttempt(ctx, u.ID, 6), tx.TakeBackAttempt(ctx, u.ID, 6))
		})
		n, err = attempt()
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(n, 6))
		inTx(t, s, func(tx *Tx) error { return tx.UnlockUser(ctx, u.ID) })
		n, err = attempt()
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(n, 1))
		err = s.Update(ctx, func(tx *Tx) error { _, err := tx.CountAttempt(ctx, "x"); return err })
		qt.Check(t, qt.ErrorIs(err, ErrNotFound))
	})
}

func TestSessionsLinksAndCeremonies(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, c *clock) {
		ctx := t.Context()
		alice, bob := newUser(t, s, "alice"), newUser(t, s, "bob")
		open := func(person, secret string, expires int64) (e Session) {
			inTx(t, s, func(tx *Tx) (err error) {
				e, err = tx.CreateSession(ctx, Session{Hash: digest(secret), Person: person, Method: "password", Address: "::1", Agent: "a\x00b", Proven: c.ms(), Expires: expires})
				return err
			})
			return e
		}
		a1 := open(alice.ID, "a1", c.in(time.Hour))
		a2 := open(alice.ID, "a2", c.in(2*time.Hour))
		b := open(bob.ID, "b", c.in(2*time.Hour))
		got, err := s.SessionByHash(ctx, digest("a1"))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(got, a1))
		_, err = s.SessionByHash(ctx, digest("x"))
		qt.Check(t, qt.ErrorIs(err, ErrNotFound))
		ids := func(f SessionFilter) (ids []string) {
			all, err := s.Sessions(ctx, f)
			qt.Assert(t, qt.IsNil(err))
			for _, e := range all {
				ids = append(ids, e.ID)
			}
			return ids
		}
		c.pass(time.Minute)
		inTx(t, s, func(tx *Tx) error {
			return errors.Join(tx.UseSession(ctx, a2.ID, "::2"), tx.ProveSession(ctx, a2.ID))
		})
		qt.Check(t, qt.DeepEquals(ids(SessionFilter{Person: alice.ID}), []string{a2.ID, a1.ID}))
		qt.Check(t, qt.HasLen(ids(SessionFilter{}), 3))
		qt.Check(t, qt.DeepEquals(ids(SessionFilter{UsedAfter: c.ms() - 1}), []string{a2.ID}))
		// Nobody ends what is another's.
		qt.Check(t, qt.ErrorIs(s.Update(ctx, func(tx *Tx) error { return tx.EndSession(ctx, alice.ID, b.ID) }), ErrNotFound))
		inTx(t, s, func(tx *Tx) error { return tx.EndSession(ctx, "", b.ID) })
		inTx(t, s, func(tx *Tx) error { _, err := tx.EndSessions(ctx, alice.ID, a2.ID); return err })
		qt.Check(t, qt.DeepEquals(ids(SessionFilter{}), []string{a2.ID}))

		link := func(secret string) {
			inTx(t, s, func(tx *Tx) error {
				_, err := tx.CreateLink(ctx, Link{Hash: digest(secret), Person: alice.ID, Purpose: "welcome", Expires: c.in(time.Hour)})
				return err
			})
		}
		link("first")
		link("second") // ends the first
		_, err = s.LinkByHash(ctx, digest("first"))
		qt.Check(t, qt.ErrorIs(err, ErrNotFound))
		l, err := s.LinkByHash(ctx, digest("second"))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(l.Purpose, "welcome"))
		use := func(secret string) error {
			return s.Update(ctx, func(tx *Tx) error { return tx.UseLink(ctx, digest(secret)) })
		}
		qt.Check(t, qt.IsNil(use("second")))
		qt.Check(t, qt.ErrorIs(use("second"), ErrNotFound))
		_, err = s.LinkByHash(ctx, digest("second"))
		qt.Check(t, qt.ErrorIs(err, ErrConflict))
		by := func(who string, since int64) int {
			n, err := s.LinksBy(ctx, alice.ID, who, since)
			qt.Assert(t, qt.IsNil(err))
			return n
		}
		inTx(t, s, func(tx *Tx) error {
			_, err := tx.CreateLink(ctx, Link{Hash: digest("k"), Person: alice.ID, Purpose: "welcome", CreatedBy: "a_b/laptop", Expires: c.in(time.Hour)})
			return errors.Join(err, tx.UseLink(ctx, digest("k")))
		})
		qt.Check(t, qt.DeepEquals([]int{by("a_b", 0), by("a_b", c.ms()), by("a_", 0), by("axb", 0), by("bob", 0)}, []int{1, 0, 0, 0, 0}))
		link("third")
		c.pass(time.Hour)
		qt.Check(t, qt.ErrorIs(use("third"), ErrNotFound))
		_, err = s.LinkByHash(ctx, digest("third"))
		qt.Check(t, qt.ErrorIs(err, ErrExpired))

		begin := func(id string) {
			inTx(t, s, func(tx *Tx) error {
				return tx.BeginCeremony(ctx, Ceremony{ID: id, Kind: "passkey", Person: alice.ID, Body: "{}", Expires: c.in(time.Minute)})
			})
		}
		end := func(id, kind string) error {
			return s.Update(ctx, func(tx *Tx) error { _, err := tx.EndCeremony(ctx, id, kind); return err })
		}
		begin("one")
		qt.Check(t, qt.ErrorIs(end("one", "oidc"), ErrNotFound))
		qt.Check(t, qt.IsNil(end("one", "passkey")))
		qt.Check(t, qt.ErrorIs(end("one", "passkey"), ErrNotFound))
		begin("two")
		c.pass(time.Minute)
		qt.Check(t, qt.ErrorIs(end("two", "passkey"), ErrExpired))

		c.pass(24 * time.Hour)
		n, err := s.PrunePeople(ctx, 0, c.ms())
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(n, 5)) // a session, three links, a ceremony whose end was refused
	})
}

func TestPasskeysIdentitiesAndRecoveryCodes(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, c *clock) {
		ctx := t.Context()
		alice, bob := newUser(t, s, "alice"), newUser(t, s, "bob")
		inTx(t, s, func(tx *Tx) error {
			return errors.Join(
				tx.AddPasskey(ctx, Passkey{ID: "k", Person: alice.ID, Name: "phone", Body: "{}"}),
				tx.AddIdentity(ctx, Identity{Issuer: "i", Subject: "1", Person: alice.ID}),
				tx.SetRecoveryCodes(ctx, alice.ID, [][]byte{digest("1"), digest("2")}))
		})
		qt.Check(t, qt.ErrorIs(s.Update(ctx, func(tx *Tx) error { return tx.AddPasskey(ctx, Passkey{ID: "k", Person: bob.ID}) }), ErrConflict))
		qt.Check(t, qt.ErrorIs(s.Update(ctx, func(tx *Tx) error { return tx.AddIdentity(ctx, Identity{Issuer: "i", Subject: "1", Person: bob.ID}) }), ErrConflict))
		qt.Check(t, qt.ErrorIs(s.Update(ctx, func(tx *Tx) error { return tx.DeletePasskey(ctx, bob.ID, "k") }), ErrNotFound))
		qt.Check(t, qt.ErrorIs(s.Update(ctx, func(tx *Tx) error { return tx.UsePasskey(ctx, Passkey{ID: "k", Person: bob.ID, Body: "x"}) }), ErrNotFound))
		inTx(t, s, func(tx *Tx) error { return tx.UsePasskey(ctx, Passkey{ID: "k", Person: alice.ID, Body: `{"n":1}`}) })
		keys, err := s.Passkeys(ctx, alice.ID)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(keys, []Passkey{{ID: "k", Person: alice.ID, Name: "phone", Body: `{"n":1}`, Created: c.ms(), LastUsed: c.ms()}}))
		i, err := s.Identity(ctx, "i", "1")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(i.Person, alice.ID))
		_, err = s.Identity(ctx, "i", "2")
		qt.Check(t, qt.ErrorIs(err, ErrNotFound))
		code := func(person, c string) error {
			return s.Update(ctx, func(tx *Tx) error { return tx.UseRecoveryCode(ctx, person, digest(c)) })
		}
		qt.Check(t, qt.ErrorIs(code(bob.ID, "1"), ErrNotFound))
		qt.Check(t, qt.IsNil(code(alice.ID, "1")))
		qt.Check(t, qt.ErrorIs(code(alice.ID, "1"), ErrNotFound))
		n, err := s.RecoveryCodes(ctx, alice.ID)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(n, 1))
		inTx(t, s, func(tx *Tx) error { _, err := tx.DeletePasskeys(ctx, alice.ID); return err })
		keys, _ = s.Passkeys(ctx, alice.ID)
		qt.Check(t, qt.HasLen(keys, 0))
	})
}

func TestKeysAndApprovals(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, c *clock) {
		ctx := t.Context()
		alice, bob := newUser(t, s, "alice"), newUser(t, s, "bob")
		var key Operator
		inTx(t, s, func(tx *Tx) (err error) {
			key, err = tx.CreateKey(ctx, Operator{Name: "alice/laptop", Kind: OperatorKey, Hash: digest("k"), Person: alice.ID, Scopes: `["look"]`, Expires: c.in(time.Hour)})
			return err
		})
		got, err := s.OperatorByHash(ctx, digest("k"))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(got, key))
		mine, err := s.KeysOf(ctx, alice.ID)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(mine, []Operator{key}))
		qt.Check(t, qt.ErrorIs(s.Update(ctx, func(tx *Tx) error { return tx.RevokeKeyOf(ctx, bob.ID, key.ID) }), ErrNotFound))
		c.pass(time.Hour)
		_, err = s.OperatorByHash(ctx, digest("k"))
		qt.Check(t, qt.ErrorIs(err, ErrExpired))
		inTx(t, s, func(tx *Tx) error { return tx.RevokeKeyOf(ctx, alice.ID, key.ID) })
		_, err = s.OperatorByHash(ctx, digest("k"))
		qt.Check(t, qt.ErrorIs(err, ErrRevoked))

		ask := func() (a Approval) {
			inTx(t, s, func(tx *Tx) (err error) {
				a, err = tx.AskApproval(ctx, Approval{Action: "promote", Object: "p", Digest: "d", AskedBy: alice.ID, Expires: c.in(time.Hour)})
				return err
			})
			return a
		}
		decide := func(id, verdict string) error {
			return s.Update(ctx, func(tx *Tx) error { return tx.DecideApproval(ctx, id, bob.ID, verdict) })
		}
		use := func(a Approval) error { return s.Update(ctx, func(tx *Tx) error { return tx.UseApproval(ctx, a) }) }
		a, refused, late := ask(), ask(), ask()
		qt.Check(t, qt.ErrorIs(use(a), ErrNotFound))
		qt.Check(t, qt.IsNil(decide(a.ID, ApprovalGiven)))
		qt.Check(t, qt.ErrorIs(decide(a.ID, ApprovalRefused), ErrNotFound))
		other := a
		other.Digest = "of something else"
		qt.Check(t, qt.ErrorIs(use(other), ErrNotFound))
		qt.Check(t, qt.IsNil(use(a)))
		qt.Check(t, qt.ErrorIs(use(a), ErrNotFound))
		qt.Check(t, qt.IsNil(decide(refused.ID, ApprovalRefused)))
		qt.Check(t, qt.ErrorIs(use(refused), ErrNotFound))
		waiting, err := s.Approvals(ctx, ApprovalFilter{})
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(waiting, []Approval{late}))
		c.pass(time.Hour)
		qt.Check(t, qt.ErrorIs(decide(late.ID, ApprovalGiven), ErrNotFound))
		waiting, _ = s.Approvals(ctx, ApprovalFilter{})
		qt.Check(t, qt.HasLen(waiting, 0))
		all, err := s.Approvals(ctx, ApprovalFilter{All: true})
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(all, 3))
		got1, err := s.Approval(ctx, a.ID)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(got1.DecidedBy, bob.ID))
	})
}
