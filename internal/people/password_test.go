// SPDX-License-Identifier: Apache-2.0

package people

import (
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
)

func TestPasswordsThatCannotBeTaken(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		password string
		want     code.Code
	}{
		{goodPassword, ""},
		{"正しい馬の電池とホチキスです", ""},
		{"xKq9!mZ2pLw7", ""},
		{"", "TS8213"},
		{"elevenchars", "TS8213"},
		{"aaaaaaaaaaaaaaaa", "TS8213"},
		{"abababababababab", "TS8213"},
		{"123456789012", "TS8213"},
		{"abcdefghijklmnop", "TS8213"},
		{"password1234", "TS8213"},
		{"Tsugi-Tsugi-1", "TS8213"},
		{"alice in wonderland", "TS8213"},
		{strings.Repeat("ab cd ef ", 40), "TS8213"},
		{"\xff\xfe\xfd valid otherwise", "TS8213"},
	} {
		qt.Check(t, qt.Equals(code.Of(checkPassword(c.password, "alice")), c.want), qt.Commentf("%q", c.password))
	}
}

func TestHashes(t *testing.T) {
	t.Parallel()
	w := local(t)
	a := w.limits.Argon
	h := a.hash("pässword")
	qt.Check(t, qt.Not(qt.Equals(h, a.hash("pässword"))))
	check := func(password, stored string) (ok, old bool) {
		ok, old, err := w.matches(t.Context(), password, stored)
		qt.Assert(t, qt.IsNil(err))
		return ok, old
	}
	ok, old := check("pässword", h)
	qt.Check(t, qt.IsTrue(ok && !old))
	ok, _ = check("pa\u0308ssword", h) // the same characters from another keyboard
	qt.Check(t, qt.IsTrue(ok))
	ok, _ = check("passwort", h)
	qt.Check(t, qt.IsFalse(ok))
	// One that the reference implementation made:
	// echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1 -l 32 -e (65536 KiB)
	ok, old = check("password", "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	qt.Check(t, qt.IsTrue(ok && old))
	qt.Check(t, qt.Equals(DefaultArgon(), Argon{Memory: 19456, Time: 2, Threads: 1}))
}

// TestAnOldHashIsMadeAnew: who signs in gets a hash of the costs of now.
func TestAnOldHashIsMadeAnew(t *testing.T) {
	t.Parallel()
	w := local(t)
	alice, _ := w.person("alice", viewer())
	before, err := w.db.User(w.ctx(), alice.UserID)
	qt.Assert(t, qt.IsNil(err))
	w.limits.Argon.Memory = 128
	_, err = w.signIn("alice", "wrong", "")
	w.refused(err, "TS8207")
	after, _ := w.db.User(w.ctx(), alice.UserID)
	qt.Check(t, qt.Equals(after.Password, before.Password))
	_, err = w.signIn("alice", goodPassword, "")
	qt.Assert(t, qt.IsNil(err))
	after, _ = w.db.User(w.ctx(), alice.UserID)
	qt.Check(t, qt.IsTrue(strings.Contains(after.Password, "m=128,")))
	_, err = w.signIn("alice", goodPassword, "")
	qt.Check(t, qt.IsNil(err))
}

func FuzzParseHash(f *testing.F) {
	f.Add(Argon{Memory: 8, Time: 1, Threads: 1}.hash("x"))
	f.Add("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	f.Add("$argon2id$v=19$m=4294967296,t=1,p=1$c29tZXNhbHQ$AAAA")
	f.Add("$argon2id$v=19$m=+8,t=01,p=1$$")
	f.Fuzz(func(t *testing.T, s string) {
		a, salt, key, err := parseHash(s)
		if err != nil {
			if salt != nil || key != nil || a != (Argon{}) {
				t.Fatal("an error and a value")
			}
			return
		}
		if a.string(salt, key) != s {
			t.Fatalf("%q is read as %q", s, a.string(salt, key))
		}
		if a.Memory > maxMemory || a.Time > maxTime || len(key) > 64 {
			t.Fatal("out of bounds")
		}
	})
}
