// SPDX-License-Identifier: Apache-2.0

package people

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
)

func TestFromTheFirstLinkToTheLastSession(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		ctx := w.ctx()
		made, err := w.FirstAdmin(ctx, "local:root", "Alice")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(made.Name, "alice"))
		qt.Check(t, qt.IsTrue(strings.HasPrefix(made.Link, "https://patches.example.org:8443/console/link#")))
		_, err = w.FirstAdmin(ctx, "local:root", "mallory")
		w.refused(err, "TS8214")

		secret := secretOf(made.Link)
		shown, err := w.LookAtLink(ctx, secret)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(shown, api.LinkShown{Name: "alice", Purpose: PurposeWelcome, Password: true, Expires: made.Expires}))
		// A password that can't be taken leaves the link good.
		_, err = w.RedeemLink(ctx, api.RedeemLink{Secret: secret, Password: "short"}, here())
		w.refused(err, "TS8213")
		in, err := w.RedeemLink(ctx, api.RedeemLink{Secret: secret, Password: goodPassword}, here())
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(in.Session.Method, "link"))
		qt.Check(t, qt.IsTrue(in.User.Password))
		_, err = w.RedeemLink(ctx, api.RedeemLink{Secret: secret, Password: goodPassword}, here())
		w.refused(err, "TS8212")

		who := w.caller(in.Secret)
		qt.Check(t, qt.Equals(who.Name, "alice"))
		qt.Check(t, qt.Equals(who.Role, "admin"))
		qt.Check(t, qt.IsTrue(who.Subject.Fresh && who.Subject.Session))
		again, err := w.signIn(" ALICE ", goodPassword, "")
		qt.Assert(t, qt.IsNil(err))
		sessions, err := w.OwnSessions(ctx, who)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(sessions, 2))
		current := slices.IndexFunc(sessions, func(e api.Session) bool { return e.Current })
		qt.Check(t, qt.Equals(sessions[current].ID, in.Session.ID))
		account, err := w.Account(ctx, who)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(account.Session.ID, in.Session.ID))
		qt.Check(t, qt.IsTrue(slices.Contains(account.Permissions, "people")))
		// A session that is ended is nobody's with the next request.
		qt.Assert(t, qt.IsNil(w.EndOwnSession(ctx, who, again.Session.ID)))
		_, err = w.BySession(ctx, again.Secret, here())
		w.refused(err, "TS8201")
		qt.Assert(t, qt.IsNil(w.SignOut(ctx, who)))
		_, err = w.BySession(ctx, in.Secret, here())
		w.refused(err, "TS8201")
		_, err = w.BySession(ctx, "", here())
		w.refused(err, "TS8201")

		log := w.audited()
		for i, want := range []string{
			"local:root | user.create | alice | admin",
			"local:root | link.create | alice | welcome",
			"alice | user.password | alice | by a link",
			"alice | session.begin | " + in.Session.ID + " | link from 192.0.2.7",
			"alice | session.begin | " + again.Session.ID + " | password from 192.0.2.7",
			"alice | session.end | " + again.Session.ID + " | ",
			"alice | session.end | " + in.Session.ID + " | ",
		} {
			qt.Check(t, qt.Equals(log[i], want))
		}
	})
}

func TestSessionsEndByThemselves(t *testing.T) {
	t.Parallel()
	w := local(t)
	_, idle := w.person("idle", viewer())
	_, used := w.person("used", viewer())
	qt.Check(t, qt.IsTrue(w.caller(used).Subject.Fresh))
	for range 20 {
		w.clock.pass(8 * time.Hour)
		qt.Check(t, qt.IsFalse(w.caller(used).Subject.Fresh))
	}
	_, err := w.BySession(w.ctx(), idle, here())
	w.refused(err, "TS8201")
	w.clock.pass(8 * time.Hour)
	_, err = w.BySession(w.ctx(), used, here()) // seven days
	w.refused(err, "TS8201")
	qt.Assert(t, qt.IsNil(w.Prune(w.ctx())))
	all, err := w.Sessions(w.ctx(), Caller{})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(all, 0))
}

func TestAPageThatIsLeftOpenKeepsNoSessionAlive(t *testing.T) {
	t.Parallel()
	w := local(t)
	_, secret := w.person("away", viewer())
	alone := here()
	alone.Background = true
	for range 11 {
		w.clock.pass(time.Hour)
		_, err := w.BySession(w.ctx(), secret, alone)
		qt.Assert(t, qt.IsNil(err))
	}
	w.clock.pass(time.Hour)
	_, err := w.BySession(w.ctx(), secret, alone)
	w.refused(err, "TS8201")
}

func TestFreshnessIsProvenAgain(t *testing.T) {
	t.Parallel()
	w := local(t)
	alice, secret := w.person("alice", admin())
	bob, _ := w.person("bob", viewer())
	w.clock.pass(11 * time.Minute)
	alice = w.caller(secret)
	qt.Check(t, qt.IsFalse(alice.Subject.Fresh))
	w.refused(w.Confirm(w.ctx(), alice, api.ConfirmIdentity{Password: "wrong"}), "TS8207")
	qt.Check(t, qt.IsFalse(w.caller(secret).Subject.Fresh))
	qt.Assert(t, qt.IsNil(w.Confirm(w.ctx(), alice, api.ConfirmIdentity{Password: goodPassword})))
	qt.Check(t, qt.IsTrue(w.caller(secret).Subject.Fresh))
	// A key is no session: nothing of one's own account can be changed with it.
	key := Caller{UserID: bob.UserID, KeyID: "k", Name: "bob/k"}
	w.refused(w.Confirm(w.ctx(), key, api.ConfirmIdentity{Password: goodPassword}), "TS8205")
	w.refused(w.ChangePassword(w.ctx(), key, api.ChangePassword{Password: goodPassword}), "TS8205")
	_, err := w.CreateKey(w.ctx(), key, api.NewKey{Name: "more"})
	w.refused(err, "TS8205")
}

func TestLinks(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		ctx := w.ctx()
		alice, session := w.person("alice", viewer())
		// A new password by a link ends what was signed in with the old one.
		l, err := w.CreateLink(ctx, "root", alice.UserID, PurposeWelcome)
		qt.Assert(t, qt.IsNil(err))
		secret, _ := w.second(alice)
		shown, err := w.LookAtLink(ctx, secretOf(l.Link))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsTrue(shown.TOTP))
		redeem := func(l api.LinkMade, password, factor string) (SignedIn, error) {
			return w.RedeemLink(ctx, api.RedeemLink{Secret: secretOf(l.Link), Password: password, Code: factor}, here())
		}
		// Who made the link is not who has the second factor.
		_, err = redeem(l, "another good password", "")
		w.refused(err, "TS8210")
		_, err = redeem(l, "another good password", "000000")
		w.refused(err, "TS8211")
		w.clock.pass(30 * time.Second)
		in, err := redeem(l, "another good password", w.code(secret))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(in.Session.Method, "link+totp"))
		_, err = w.BySession(ctx, session, here())
		w.refused(err, "TS8201")
		_, err = w.signIn("alice", goodPassword, "000000")
		w.refused(err, "TS8207")

		// A link to sign in leaves everything as it is, for a short time.
		bob, session := w.person("bob", viewer())
		l, err = w.CreateLink(ctx, "root", bob.UserID, PurposeSignIn)
		qt.Assert(t, qt.IsNil(err))
		w.clock.pass(signInLink)
		_, err = redeem(l, "", "")
		w.refused(err, "TS8212")
		first, err := w.CreateLink(ctx, "root", bob.UserID, PurposeSignIn)
		qt.Assert(t, qt.IsNil(err))
		l, err = w.CreateLink(ctx, "root", bob.UserID, PurposeSignIn)
		qt.Assert(t, qt.IsNil(err))
		_, err = redeem(first, "", "") // another took its place
		w.refused(err, "TS8212")
		// Of many who use it at once one comes in.
		var wg sync.WaitGroup
		var came atomic.Int64
		for range 8 {
			wg.Go(func() {
				if _, err := redeem(l, "", ""); err == nil {
					came.Add(1)
				} else if code.Of(err) != "TS8212" {
					t.Errorf("link: %v", err)
				}
			})
		}
		wg.Wait()
		qt.Check(t, qt.Equals(came.Load(), 1))
		w.caller(session) // still there
		// Nobody who is disabled comes in with one, or gets one.
		l, err = w.CreateLink(ctx, "root", bob.UserID, PurposeSignIn)
		qt.Assert(t, qt.IsNil(err))
		off := true
		_, err = w.ChangeUser(ctx, root(), bob.UserID, api.UserChange{Disabled: &off})
		w.refused(err, "TS8215") // nobody is an admin
		w.person("carol", admin())
		_, err = w.ChangeUser(ctx, root(), bob.UserID, api.UserChange{Disabled: &off})
		qt.Assert(t, qt.IsNil(err))
		_, err = redeem(l, "", "")
		w.refused(err, "TS8212")
		_, err = w.CreateLink(ctx, "root", bob.UserID, PurposeSignIn)
		w.refused(err, "TS8209")
		_, err = w.CreateLink(ctx, "root", "x", PurposeSignIn)
		w.refused(err, "TS8226")
		_, err = w.CreateLink(ctx, "root", alice.UserID, "other")
		w.refused(err, "TS8228")
	})
}

func TestNamesAndAddresses(t *testing.T) {
	t.Parallel()
	w := local(t)
	for _, in := range []api.NewUser{
		{Name: ""},
		{Name: "a b"},
		{Name: "a/b"},
		{Name: "machine:x"},
		{Name: "server"},
		{Name: ".a"},
		{Name: "ä"},
		{Name: strings.Repeat("a", 64)},
		{Name: "a", Email: "x"},
		{Name: "a", Email: "A <a@example.org>"},
		{Name: "a", Email: "a@b.c\r\nBcc: d@e.f"},
		{Name: "a", Display: "x\x00"},
		{Name: "a", Display: strings.Repeat("x", 101)},
	} {
		_, err := w.CreateUser(w.ctx(), root(), in)
		w.refused(err, "TS8228")
	}
	_, err := w.CreateUser(w.ctx(), root(), api.NewUser{Name: "a", Grants: []api.Grant{{Role: "worker"}}})
	w.refused(err, "TS8224")
	made, err := w.CreateUser(w.ctx(), root(), api.NewUser{Name: "a", Display: "田中 倫", Email: "a@example.org"})
	qt.Assert(t, qt.IsNil(err))
	_, err = w.CreateUser(w.ctx(), root(), api.NewUser{Name: "A"})
	w.refused(err, "TS8214")
	email := "b@example.org"
	u, err := w.ChangeUser(w.ctx(), root(), made.ID, api.UserChange{Email: &email})
	w.refused(err, "TS8215")
	w.person("admin", admin())
	u, err = w.ChangeUser(w.ctx(), root(), made.ID, api.UserChange{Email: &email})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(u.Email+" "+u.Display, "b@example.org 田中 倫"))
	_, err = w.ChangeUser(w.ctx(), root(), "x", api.UserChange{})
	w.refused(err, "TS8226")
	_, err = w.User(w.ctx(), "x")
	w.refused(err, "TS8226")
	all, err := w.Users(w.ctx())
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(all, 2))
}

func TestOnesOwnAccount(t *testing.T) {
	t.Parallel()
	w := local(t)
	alice, _ := w.person("alice", viewer())
	second, err := w.signIn("alice", goodPassword, "")
	qt.Assert(t, qt.IsNil(err))
	name := " Alice "
	qt.Assert(t, qt.IsNil(w.ChangeAccount(w.ctx(), alice, api.AccountChange{Display: &name, Settings: &api.AccountSettings{Language: "ja", Theme: "dark"}})))
	a, err := w.Account(w.ctx(), alice)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(a.Display, "Alice"))
	qt.Check(t, qt.Equals(a.Settings.Language, "ja"))
	qt.Check(t, qt.DeepEquals(a.Permissions, []string{"own", "look"}))
	w.refused(w.ChangePassword(w.ctx(), alice, api.ChangePassword{Password: "alice alice alice"}), "TS8213")
	qt.Assert(t, qt.IsNil(w.ChangePassword(w.ctx(), alice, api.ChangePassword{Password: "another good password"})))
	_, err = w.BySession(w.ctx(), second.Secret, here())
	w.refused(err, "TS8201")
	_, err = w.Account(w.ctx(), alice)
	qt.Check(t, qt.IsNil(err))
	_, err = w.signIn("alice", "another good password", "")
	qt.Check(t, qt.IsNil(err))
}

func TestCookies(t *testing.T) {
	t.Parallel()
	w := local(t)
	c := w.Cookie("secret")
	qt.Check(t, qt.Equals(c.String(), "__Host-tsugi=secret; Path=/; Max-Age=604800; HttpOnly; Secure; SameSite=Lax"))
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	qt.Check(t, qt.Equals(SecretOf(r), ""))
	r.AddCookie(c)
	qt.Check(t, qt.Equals(SecretOf(r), "secret"))
	qt.Check(t, qt.Equals(NoCookie().String(), "__Host-tsugi=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Lax"))
	_, err := w.BySession(t.Context(), strings.Repeat("x", 5000), From{Address: netip.Addr{}})
	w.refused(err, "TS8201")
}

func TestBadOptions(t *testing.T) {
	t.Parallel()
	w := local(t)
	key, _ := DeriveKey([]byte("x"))
	for _, o := range []Options{
		{Store: w.db, Key: []byte("short"), URL: "https://x"},
		{Store: w.db, Key: key, URL: ""},
		{Store: w.db, Key: key, URL: "https://x", Providers: []Provider{{ID: "A", Issuer: "https://i", ClientID: "c"}}},
		{Store: w.db, Key: key, URL: "https://x", Providers: []Provider{{ID: "a", Issuer: "http://i", ClientID: "c"}}},
		{Store: w.db, Key: key, URL: "https://x", Providers: []Provider{{ID: "a", Issuer: "https://i"}}},
		{Store: w.db, Key: key, URL: "https://x", Providers: []Provider{{ID: "a", Issuer: "https://i", ClientID: "c", Create: true}}},
	} {
		_, err := New(o)
		qt.Check(t, qt.IsNotNil(err))
	}
}
