// SPDX-License-Identifier: Apache-2.0

package people

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/store"
)

func TestKeys(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		ctx := w.ctx()
		alice, _ := w.person("alice", admin())
		made, err := w.CreateKey(ctx, alice, api.NewKey{Name: "Laptop", Scopes: []string{"look", "build", "look"}})
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(made.Name, "alice/laptop"))
		qt.Check(t, qt.DeepEquals(made.Scopes, []string{"build", "look"}))
		who, err := w.ByKey(ctx, made.Secret)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(who.Name, "alice/laptop"))
		qt.Check(t, qt.IsFalse(who.Subject.Session))
		qt.Check(t, qt.Equals(who.Subject.Person, alice.UserID))
		qt.Check(t, qt.HasLen(who.Subject.Scopes, 2))
		for _, bad := range []api.NewKey{
			{Name: ""},
			{Name: "a/b"},
			{Name: "laptop"},
			{Name: "x", Scopes: []string{"everything"}},
			{Name: "x", Expires: 1},
			{Name: "x", Expires: w.clock.Now().Add(400 * 24 * time.Hour).UnixMilli()},
		} {
			_, err := w.CreateKey(ctx, alice, bad)
			w.refused(err, "TS8219")
		}
		w.clock.pass(keyLife)
		_, err = w.ByKey(ctx, made.Secret)
		w.refused(err, "TS8201")
		in, err := w.signIn("alice", goodPassword, "")
		qt.Assert(t, qt.IsNil(err))
		alice = w.caller(in.Secret)
		again, err := w.CreateKey(ctx, alice, api.NewKey{Name: "laptop"}) // its time is over: the name is free
		qt.Assert(t, qt.IsNil(err))
		bob, _ := w.person("bob", viewer())
		qt.Check(t, qt.ErrorIs(w.RevokeOwnKey(ctx, bob, again.ID), store.ErrNotFound))
		qt.Assert(t, qt.IsNil(w.RevokeOwnKey(ctx, alice, again.ID)))
		_, err = w.ByKey(ctx, again.Secret)
		w.refused(err, "TS8201")
		_, err = w.ByKey(ctx, "tso_x")
		w.refused(err, "TS8201")
		mine, err := w.OwnKeys(ctx, alice)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(mine, 2))

		// The operators of before.
		old := api.NewCredential(api.OperatorCredential)
		_, err = w.db.CreateOperator(ctx, "ci", store.OperatorReader, api.HashCredential(old))
		qt.Assert(t, qt.IsNil(err))
		who, err = w.ByKey(ctx, old)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(who.Name+" "+who.Role+" "+string(who.Subject.Grants[0].Role), "ci reader viewer"))
		qt.Check(t, qt.Equals(who.UserID, ""))
		_, err = w.CreateUser(ctx, alice, api.NewUser{Name: "ci"})
		w.refused(err, "TS8214")
		// Everybody's, programs' too; but the last way to administer stays.
		all, err := w.Keys(ctx)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(all[len(all)-1].Role, "reader"))
		qt.Assert(t, qt.IsNil(w.RevokeKey(ctx, alice, all[len(all)-1].ID)))
		_, err = w.ByKey(ctx, old)
		w.refused(err, "TS8201")
		last, err := w.db.CreateOperator(ctx, "last", store.OperatorAdmin, []byte("x"))
		qt.Assert(t, qt.IsNil(err))
		none := []api.Grant{}
		_, err = w.ChangeUser(ctx, root(), alice.UserID, api.UserChange{Grants: &none})
		qt.Assert(t, qt.IsNil(err))
		w.refused(w.RevokeKey(ctx, alice, last.ID), "TS8215")
		// An admin who was never here is none to rely on.
		_, err = w.CreateUser(ctx, root(), api.NewUser{Name: "new", Grants: []api.Grant{admin()}})
		qt.Assert(t, qt.IsNil(err))
		w.refused(w.RevokeKey(ctx, alice, last.ID), "TS8215")
	})
}

func TestApprovals(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		ctx := w.ctx()
		alice, _ := w.person("alice", api.Grant{Role: "release-manager"})
		bob, _ := w.person("bob", admin())
		want := Wanted{Action: ApprovePromote, Object: "p-v3", Detail: "to stable", Request: map[string]string{"tier": "stable"}}
		do := func(who Caller, w2 Wanted, id string) error {
			return w.db.Update(ctx, func(tx *store.Tx) error { return w.Approved(ctx, tx, who, w2, id) })
		}
		qt.Check(t, qt.IsNil(do(alice, want, ""))) // nothing needs one yet
		w.refused(w.SetApprovals(ctx, bob, []string{"everything"}, ""), "TS8228")
		qt.Assert(t, qt.IsNil(w.SetApprovals(ctx, bob, []string{ApprovePromote, ApproveKeys}, "")))
		needs, err := w.NeedsApproval(ctx, ApprovePromote)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsTrue(needs))
		w.refused(do(alice, want, ""), "TS8222")
		w.refused(do(alice, want, "x"), "TS8222")
		a, err := w.Ask(ctx, alice, want)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(a.AskedBy, "alice"))
		w.refused(do(alice, want, a.ID), "TS8222")
		_, err = w.Decide(ctx, alice, a.ID, true)
		w.refused(err, "TS8223")
		// With a key of theirs they are still the same person, and a program is none.
		key, err := w.CreateKey(ctx, alice, api.NewKey{Name: "k"})
		qt.Assert(t, qt.IsNil(err))
		byKey, err := w.ByKey(ctx, key.Secret)
		qt.Assert(t, qt.IsNil(err))
		_, err = w.Decide(ctx, byKey, a.ID, true)
		w.refused(err, "TS8223")
		_, err = w.Decide(ctx, root(), a.ID, true)
		w.refused(err, "TS8205")
		_, err = w.Ask(ctx, root(), want)
		w.refused(err, "TS8205")
		a, err = w.Decide(ctx, bob, a.ID, true)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(a.DecidedBy+" "+a.Verdict, "bob given"))
		_, err = w.Decide(ctx, bob, a.ID, false)
		w.refused(err, "TS8222")
		// It is of exactly that, for who asked, once.
		other := want
		other.Request = map[string]string{"tier": "beta"}
		w.refused(do(alice, other, a.ID), "TS8222")
		w.refused(do(bob, want, a.ID), "TS8222")
		var wg sync.WaitGroup
		var done atomic.Int64
		for range 6 {
			wg.Go(func() {
				if do(alice, want, a.ID) == nil {
					done.Add(1)
				}
			})
		}
		wg.Wait()
		qt.Check(t, qt.Equals(done.Load(), 1))
		// Whoever asked may take it back.
		b, err := w.Ask(ctx, alice, want)
		qt.Assert(t, qt.IsNil(err))
		b, err = w.Decide(ctx, alice, b.ID, false)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(b.AskedBy+" "+b.DecidedBy, "alice alice"))
		// In time.
		c, err := w.Ask(ctx, alice, want)
		qt.Assert(t, qt.IsNil(err))
		_, err = w.Decide(ctx, bob, c.ID, true)
		qt.Assert(t, qt.IsNil(err))
		w.clock.pass(approvalTime)
		w.refused(do(alice, want, c.ID), "TS8222")
		waiting, err := w.Approvals(ctx, store.ApprovalFilter{})
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(waiting, 0))
		// That fewer need one needs one.
		alice, bob = w.again("alice"), w.again("bob")
		w.refused(w.SetApprovals(ctx, bob, nil, ""), "TS8222")
		qt.Check(t, qt.IsNil(w.SetApprovals(ctx, bob, ApprovalActions(), "")))
		fewer := []string{ApproveKeys}
		f, err := w.Ask(ctx, bob, FewerApprovals(fewer))
		qt.Assert(t, qt.IsNil(err))
		_, err = w.Decide(ctx, alice, f.ID, true)
		qt.Assert(t, qt.IsNil(err))
		w.refused(w.SetApprovals(ctx, bob, nil, f.ID), "TS8222")
		qt.Check(t, qt.IsNil(w.SetApprovals(ctx, bob, fewer, f.ID)))
		// Whom one lets in is no second person for a week.
		puppet, err := w.CreateUser(ctx, bob, api.NewUser{Name: "puppet", Grants: []api.Grant{admin()}})
		qt.Assert(t, qt.IsNil(err))
		in, err := w.RedeemLink(ctx, api.RedeemLink{Secret: secretOf(puppet.Link), Password: goodPassword}, here())
		qt.Assert(t, qt.IsNil(err))
		f, err = w.Ask(ctx, bob, FewerApprovals(nil))
		qt.Assert(t, qt.IsNil(err))
		_, err = w.Decide(ctx, w.caller(in.Secret), f.ID, true)
		w.refused(err, "TS8223")
		_, err = w.Decide(ctx, w.caller(in.Secret), f.ID, false)
		qt.Check(t, qt.IsNil(err))
		f, err = w.Ask(ctx, w.caller(in.Secret), FewerApprovals(nil))
		qt.Assert(t, qt.IsNil(err))
		_, err = w.Decide(ctx, bob, f.ID, true)
		w.refused(err, "TS8223")
		w.clock.pass(approvalDoubt)
		f, err = w.Ask(ctx, bob, FewerApprovals(nil))
		qt.Assert(t, qt.IsNil(err))
		_, err = w.Decide(ctx, w.again("puppet"), f.ID, true)
		qt.Check(t, qt.IsNil(err))
		got, err := w.Approval(ctx, c.ID)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(got.Object, "p-v3"))
	})
}
