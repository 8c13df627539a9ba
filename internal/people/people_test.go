// SPDX-License-Identifier: Apache-2.0

package people

import (
	"encoding/base32"
	"fmt"
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
	"github.com/tsugi-project/tsugi/internal/store"
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

func TestWrongPasswordsLock(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.person("alice", viewer())
		wrong := func(name string) error { _, err := w.signIn(name, "wrong", ""); return err }
		w.refused(wrong("nobody"), "TS8207")
		for range freeAttempts {
			w.refused(wrong("alice"), "TS8207")
		}
		_, err := w.signIn("alice", goodPassword, "")
		w.refused(err, "TS8208") // the right one too
		qt.Check(t, qt.ErrorMatches(err, ".*again in 30s"))
		for _, lock := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute} {
			w.clock.pass(lock - time.Second)
			w.refused(wrong("alice"), "TS8208")
			w.clock.pass(time.Second)
			w.refused(wrong("alice"), "TS8207")
		}
		w.clock.pass(8 * time.Minute)
		_, err = w.signIn("alice", goodPassword, "")
		qt.Assert(t, qt.IsNil(err))
		w.refused(wrong("alice"), "TS8207")
		_, err = w.signIn("alice", goodPassword, "") // counted anew
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsTrue(slices.Contains(w.audited(), "server | user.lock | alice | 5 wrong attempts, for 30s")))
		qt.Check(t, qt.Equals(lockFor(1_000_000), time.Hour))
		// An admin can lift it.
		for range freeAttempts {
			w.refused(wrong("alice"), "TS8207")
		}
		w.refused(wrong("alice"), "TS8208")
		u, err := w.db.UserByName(w.ctx(), "alice")
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNil(w.Unlock(w.ctx(), root(), u.ID)))
		_, err = w.signIn("alice", goodPassword, "")
		qt.Assert(t, qt.IsNil(err))
	})
}

func TestManyGuessesAtOnceAreNoWayRound(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.person("alice", viewer())
		var wg sync.WaitGroup
		var tried atomic.Int64
		for i := range 24 {
			wg.Go(func() {
				_, err := w.signIn("alice", fmt.Sprintf("guess number %d", i), "")
				switch code.Of(err) {
				case "TS8207":
					tried.Add(1)
				case "TS8208":
				default:
					t.Errorf("guess: %v", err)
				}
			})
		}
		wg.Wait()
		qt.Check(t, qt.Equals(tried.Load(), freeAttempts))
	})
}

func TestTheSecondFactor(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		alice, _ := w.person("alice", viewer())
		secret, codes := w.second(alice)
		_, err := w.BeginTOTP(w.ctx(), alice)
		w.refused(err, "TS8225")
		// The code that confirmed it is used; the next one is good once.
		_, err = w.signIn("alice", goodPassword, w.code(secret))
		w.refused(err, "TS8211")
		w.clock.pass(30 * time.Second)
		_, err = w.signIn("alice", goodPassword, "")
		w.refused(err, "TS8210")
		now := w.code(secret)
		in, err := w.signIn("alice", goodPassword, now[:3]+" "+now[3:])
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(in.Session.Method, "password+totp"))
		_, err = w.signIn("alice", goodPassword, now)
		w.refused(err, "TS8211")
		// A clock that is a little off.
		w.clock.pass(5 * time.Minute)
		step := w.clock.Now().Unix() / totpStep
		_, err = w.signIn("alice", goodPassword, totp(secret, step+2))
		w.refused(err, "TS8211")
		_, err = w.signIn("alice", goodPassword, totp(secret, step+1))
		qt.Assert(t, qt.IsNil(err))
		_, err = w.signIn("alice", goodPassword, totp(secret, step)) // before the one that was used
		w.refused(err, "TS8211")
		// Recovery codes: each once, however they are typed.
		qt.Check(t, qt.HasLen(codes, recoveryNum))
		_, err = w.signIn("alice", goodPassword, strings.ToUpper(strings.ReplaceAll(codes[0], "-", "")))
		qt.Assert(t, qt.IsNil(err))
		_, err = w.signIn("alice", goodPassword, codes[0])
		w.refused(err, "TS8211")
		u, err := w.User(w.ctx(), alice.UserID)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(u.RecoveryCodes, recoveryNum-1))
		qt.Check(t, qt.IsTrue(u.TOTP))
		// A wrong password says nothing of the code.
		_, err = w.signIn("alice", "wrong", codes[1])
		w.refused(err, "TS8207")
		_, err = w.signIn("alice", goodPassword, codes[1])
		qt.Assert(t, qt.IsNil(err))

		qt.Assert(t, qt.IsNil(w.RemoveTOTP(w.ctx(), alice)))
		w.refused(w.RemoveTOTP(w.ctx(), alice), "TS8225")
		_, err = w.signIn("alice", goodPassword, "")
		qt.Assert(t, qt.IsNil(err))
	})
}

// TestWhoHasThePasswordCannotGuessCodes: asking without a code, which is no
// wrong attempt, must not wipe out the wrong ones.
func TestWhoHasThePasswordCannotGuessCodes(t *testing.T) {
	t.Parallel()
	w := local(t)
	alice, _ := w.person("alice", viewer())
	w.second(alice)
	guesses := 0
	for range 100 {
		_, err := w.signIn("alice", goodPassword, "")
		if code.Of(err) == "TS8208" {
			break
		}
		w.refused(err, "TS8210")
		_, err = w.signIn("alice", goodPassword, "000000")
		w.refused(err, "TS8211")
		guesses++
	}
	qt.Check(t, qt.Equals(guesses, freeAttempts))
	// Asking without a code as the fifth attempt locks nobody out.
	bob, _ := w.person("bob", viewer())
	secret, _ := w.second(bob)
	for range freeAttempts - 1 {
		_, err := w.signIn("bob", "wrong", "")
		w.refused(err, "TS8207")
	}
	_, err := w.signIn("bob", goodPassword, "")
	w.refused(err, "TS8210")
	w.clock.pass(30 * time.Second)
	_, err = w.signIn("bob", goodPassword, w.code(secret))
	qt.Check(t, qt.IsNil(err))
}

// The vectors of RFC 6238, appendix B, cut to six digits.
func TestCodesAreThoseOfTheRFC(t *testing.T) {
	t.Parallel()
	secret := []byte("12345678901234567890")
	for at, want := range map[int64]string{
		59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037", 20000000000: "353130",
	} {
		qt.Check(t, qt.Equals(totp(secret, at/totpStep), want))
	}
	qt.Check(t, qt.Equals(typed("１２３ ４５６"), "123456"))
}

func TestAFactorIsSealedForItsUserAlone(t *testing.T) {
	t.Parallel()
	w := local(t)
	sealed := w.close("alice", []byte("secret"))
	qt.Check(t, qt.IsFalse(strings.Contains(string(sealed), "secret")))
	got, err := w.open("alice", sealed)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(string(got), "secret"))
	_, err = w.open("bob", sealed)
	qt.Check(t, qt.IsNotNil(err))
	other := local(t, func(o *Options) { o.Key = make([]byte, 32) })
	_, err = other.open("alice", sealed)
	qt.Check(t, qt.ErrorMatches(err, ".*another key.*"))
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
