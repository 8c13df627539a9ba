// SPDX-License-Identifier: Apache-2.0

package people

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
)

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
