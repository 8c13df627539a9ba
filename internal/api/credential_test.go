// SPDX-License-Identifier: Apache-2.0

package api

import (
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"pgregory.net/rapid"

	"github.com/tsugi-project/tsugi/internal/code"
)

func TestACredentialIsKnownByItsForm(t *testing.T) {
	t.Parallel()
	for _, kind := range []CredentialKind{MachineCredential, TokenCredential, OperatorCredential, WorkerCredential} {
		c := NewCredential(kind)
		got, ok := CredentialKindOf(c)
		qt.Check(t, qt.IsTrue(ok && got == kind), qt.Commentf("%s", c))
		qt.Check(t, qt.Not(qt.Equals(NewCredential(kind), c)))
		qt.Check(t, qt.HasLen(HashCredential(c), 32))
	}
	c := NewCredential(MachineCredential)
	for _, bad := range []string{"", "tsm_", c[:len(c)-1], c + "a", "tsx_" + c[4:], strings.ToUpper(c), c[4:], " " + c} {
		_, ok := CredentialKindOf(bad)
		qt.Check(t, qt.IsFalse(ok), qt.Commentf("%q", bad))
	}
}

// TestAMistypedCredentialIsCaught: any one character that is another one.
func TestAMistypedCredentialIsCaught(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := []byte(NewCredential(TokenCredential))
		at := rapid.IntRange(4, len(c)-1).Draw(t, "at")
		with := rapid.SampledFrom([]byte("abcdefghijklmnopqrstuvwxyz234567")).Draw(t, "with")
		if c[at] == with {
			return
		}
		c[at] = with
		if _, ok := CredentialKindOf(string(c)); ok {
			t.Fatalf("%s passes", c)
		}
	})
}

func enrollmentOf() Enrollment {
	return Enrollment{
		URL: "https://patches.example.org:8443", Token: NewCredential(TokenCredential),
		CA: strings.Repeat("ab", 32), Root: strings.Repeat("cd", 32),
	}
}

func TestTheEnrolmentWordIsWhole(t *testing.T) {
	t.Parallel()
	e := enrollmentOf()
	got, err := ParseEnrollment(" " + e.String() + "\n")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(got, e))
	public := e
	public.CA = "" // of a certificate that all trust
	got, err = ParseEnrollment(public.String())
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(got, public))

	word := e.String()
	for n := range len(word) {
		_, err := ParseEnrollment(word[:n])
		qt.Assert(t, qt.Equals(code.Of(err), code.Code("TS7602")), qt.Commentf("%d of %d characters", n, len(word)))
	}
	for _, change := range []func(*Enrollment){
		func(e *Enrollment) { e.URL = "ftp://x" },
		func(e *Enrollment) { e.URL = "https://user:secret@host" },
		func(e *Enrollment) { e.URL = "" },
		func(e *Enrollment) { e.Token = NewCredential(OperatorCredential) },
		func(e *Enrollment) { e.Root = "" },
		func(e *Enrollment) { e.Root = strings.Repeat("CD", 32) },
		func(e *Enrollment) { e.CA = "abcd" },
	} {
		bad := enrollmentOf()
		change(&bad)
		_, err := ParseEnrollment(bad.String())
		qt.Check(t, qt.Equals(code.Of(err), code.Code("TS7602")), qt.Commentf("%+v", bad))
	}
}

func FuzzEnrollment(f *testing.F) {
	f.Add(enrollmentOf().String())
	f.Add("tsugi1.")
	f.Add("tsugi1.e30")
	f.Fuzz(func(t *testing.T, s string) {
		e, err := ParseEnrollment(s)
		if (err == nil) == (e == Enrollment{}) {
			t.Fatalf("%+v, %v", e, err)
		}
		if err == nil {
			again, err := ParseEnrollment(e.String())
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.Equals(again, e))
		}
	})
}
