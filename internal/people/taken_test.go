// SPDX-License-Identifier: Apache-2.0

package people

import (
	"encoding/base32"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/store"
)

func TestWhatIsTakenIsGoneAtOnce(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		ctx := w.ctx()
		alice, _ := w.person("alice", admin())
		bob, session := w.person("bob", api.Grant{Role: "operator", Groups: []string{"web"}})
		key, err := w.CreateKey(ctx, bob, api.NewKey{Name: "laptop"})
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(bob.Role, "operator of web"))
		grants := []api.Grant{viewer()}
		u, err := w.ChangeUser(ctx, alice, bob.UserID, api.UserChange{Grants: &grants})
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(u.Grants, grants))
		qt.Check(t, qt.Equals(w.caller(session).Role, "viewer"))
		by, err := w.ByKey(ctx, key.Secret)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(by.Role, "viewer"))
		off, on := true, false
		_, err = w.ChangeUser(ctx, alice, bob.UserID, api.UserChange{Disabled: &off})
		qt.Assert(t, qt.IsNil(err))
		_, err = w.BySession(ctx, session, here())
		w.refused(err, "TS8201")
		_, err = w.ByKey(ctx, key.Secret)
		w.refused(err, "TS8201")
		_, err = w.signIn("bob", goodPassword, "")
		w.refused(err, "TS8209")
		_, err = w.signIn("bob", "wrong", "") // who does not know the password learns nothing
		w.refused(err, "TS8207")
		_, err = w.ChangeUser(ctx, alice, bob.UserID, api.UserChange{Disabled: &on})
		qt.Assert(t, qt.IsNil(err))
		_, err = w.signIn("bob", goodPassword, "")
		qt.Assert(t, qt.IsNil(err))

		// Somebody must be left who can give roles.
		_, err = w.ChangeUser(ctx, alice, alice.UserID, api.UserChange{Grants: &grants})
		w.refused(err, "TS8215")
		_, err = w.ChangeUser(ctx, alice, alice.UserID, api.UserChange{Disabled: &off})
		w.refused(err, "TS8215")
		_, err = w.db.CreateOperator(ctx, "old", store.OperatorAdmin, []byte("x"))
		qt.Assert(t, qt.IsNil(err))
		_, err = w.ChangeUser(ctx, alice, alice.UserID, api.UserChange{Grants: &grants})
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsTrue(slices.Contains(w.audited(), "alice | user.change | bob | roles: viewer, before: operator of web")))
	})
}

func TestTwoAdminsCannotDemoteEachOther(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		alice, _ := w.person("alice", admin())
		bob, _ := w.person("bob", admin())
		var wg sync.WaitGroup
		var done atomic.Int64
		for _, pair := range [][2]Caller{{alice, bob}, {bob, alice}} {
			wg.Go(func() {
				_, err := w.ChangeUser(w.ctx(), pair[0], pair[1].UserID, api.UserChange{Grants: &[]api.Grant{}})
				if err == nil {
					done.Add(1)
				} else if code.Of(err) != "TS8215" {
					t.Errorf("change: %v", err)
				}
			})
		}
		wg.Wait()
		qt.Check(t, qt.Equals(done.Load(), 1))
	})
}

func TestResetTakesEverything(t *testing.T) {
	t.Parallel()
	w, p := abroad(t, nil)
	alice, session := w.person("alice", viewer())
	w.second(alice)
	_, err := w.elsewhere(p, &alice)
	qt.Assert(t, qt.IsNil(err))
	key, err := w.CreateKey(w.ctx(), alice, api.NewKey{Name: "k"})
	qt.Assert(t, qt.IsNil(err))
	l, err := w.ResetFactors(w.ctx(), root(), alice.UserID)
	qt.Assert(t, qt.IsNil(err))
	_, err = w.BySession(w.ctx(), session, here())
	w.refused(err, "TS8201")
	_, err = w.ByKey(w.ctx(), key.Secret)
	w.refused(err, "TS8201")
	_, err = w.signIn("alice", goodPassword, "")
	w.refused(err, "TS8207")
	_, err = w.elsewhere(p, nil)
	w.refused(err, "TS8217")
	_, err = w.RedeemLink(w.ctx(), api.RedeemLink{Secret: secretOf(l.Link), Password: goodPassword}, here())
	qt.Assert(t, qt.IsNil(err))
	_, err = w.ResetFactors(w.ctx(), root(), "x")
	w.refused(err, "TS8226")
}

// TestWhatIsTakenWhileOneSignsIn: who proved who they are with a password that
// is taken from them before their session begins gets none.
func TestWhatIsTakenWhileOneSignsIn(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		alice, _ := w.person("alice", viewer())
		w.person("root", admin())
		proven := func() store.User {
			u, err := w.db.User(w.ctx(), alice.UserID)
			qt.Assert(t, qt.IsNil(err))
			return u
		}
		begin := func(u store.User) error { _, err := w.begin(w.ctx(), u, "password", here(), nil); return err }
		u := proven()
		qt.Check(t, qt.IsNil(begin(u)))
		w.second(alice)
		w.refused(begin(u), "TS8227")
		u = proven()
		w.clock.pass(time.Second)
		_, err := w.ResetFactors(w.ctx(), root(), u.ID)
		qt.Assert(t, qt.IsNil(err))
		w.refused(begin(u), "TS8227")
		u = proven()
		off := true
		_, err = w.ChangeUser(w.ctx(), root(), u.ID, api.UserChange{Disabled: &off})
		qt.Assert(t, qt.IsNil(err))
		w.refused(begin(u), "TS8209")
	})
}

// TestWhatAnEndedSessionLeaves: a request that was let in just before the
// account was taken back from whoever had it leaves nothing to come in with.
func TestWhatAnEndedSessionLeaves(t *testing.T) {
	t.Parallel()
	w, p := abroad(t, nil)
	alice, _ := w.person("alice", viewer())
	begun, err := w.BeginOIDC(w.ctx(), &alice, "corp", "")
	qt.Assert(t, qt.IsNil(err))
	factor, err := w.BeginTOTP(w.ctx(), alice)
	qt.Assert(t, qt.IsNil(err))
	secret, err := base32.StdEncoding.DecodeString(factor.Secret)
	qt.Assert(t, qt.IsNil(err))
	d := newDevice(t)
	passkey, err := w.BeginPasskey(w.ctx(), alice)
	qt.Assert(t, qt.IsNil(err))
	_, err = w.ResetFactors(w.ctx(), root(), alice.UserID)
	qt.Assert(t, qt.IsNil(err))

	_, err = w.CreateKey(w.ctx(), alice, api.NewKey{Name: "k"})
	w.refused(err, "TS8201")
	w.refused(w.ChangePassword(w.ctx(), alice, api.ChangePassword{Password: "another horse battery"}), "TS8201")
	_, err = w.ConfirmTOTP(w.ctx(), alice, api.ConfirmTOTP{Ceremony: factor.Ceremony, Code: w.code(secret)})
	w.refused(err, "TS8201")
	_, err = w.FinishPasskey(w.ctx(), alice, d.create(passkey))
	w.refused(err, "TS8201")
	_, err = w.FinishOIDC(w.ctx(), p.browser(begun), here())
	w.refused(err, "TS8201")
}

// TestNobodyFillsWhatStrangersBegin: what people who are signed in begin takes no
// room from those who want to sign in.
func TestNobodyFillsWhatStrangersBegin(t *testing.T) {
	t.Parallel()
	w := local(t)
	alice, _ := w.person("alice", viewer())
	bob, _ := w.person("bob", viewer())
	for range 50 {
		_, err := w.BeginTOTP(w.ctx(), alice)
		qt.Assert(t, qt.IsNil(err))
	}
	_, err := w.BeginTOTP(w.ctx(), alice)
	w.refused(err, "TS8208")
	_, err = w.BeginTOTP(w.ctx(), bob)
	qt.Check(t, qt.IsNil(err))
	_, err = w.BeginPasskeySignIn(w.ctx())
	qt.Check(t, qt.IsNil(err))
}
