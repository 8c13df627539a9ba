// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/go-quicktest/qt"
	"pgregory.net/rapid"

	"github.com/tsugi-project/tsugi/internal/code"
)

func identity(t testing.TB) Identity {
	id, err := NewIdentity()
	qt.Assert(t, qt.IsNil(err))
	return id
}

func TestWhatIsSealedOpensForWhomItIsWrapped(t *testing.T) {
	id := identity(t)
	rapid.Check(t, func(t *rapid.T) {
		plain := rapid.SliceOfN(rapid.Byte(), 0, 200000).Draw(t, "plain")
		cipher, key, err := Seal(plain)
		if err != nil {
			t.Fatal(err)
		}
		wrapped, err := Wrap(key, id.Recipient())
		if err != nil {
			t.Fatal(err)
		}
		got, err := Unwrap(wrapped, id)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Open(cipher, got, int64(len(plain)))
		if err != nil || !bytes.Equal(back, plain) {
			t.Fatal(err)
		}
		if len(plain) > 0 {
			if _, err := Open(cipher, got, int64(len(plain))-1); code.Of(err) != "TS7106" {
				t.Fatalf("more than announced: %v", err)
			}
		}
	})
}

func TestWhoHasTheFilesAndIsNotEntitledReadsNothing(t *testing.T) {
	plain := bytes.Repeat([]byte("a live patch that nobody else reads"), 50)
	cipher, key, err := Seal(plain)
	qt.Assert(t, qt.IsNil(err))
	mine, theirs := identity(t), identity(t)
	wrapped, err := Wrap(key, theirs.Recipient())
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsFalse(bytes.Contains(cipher, plain[:20])))
	_, err = Unwrap(wrapped, mine)
	qt.Check(t, qt.Equals(code.Of(err), "TS7105"))
	_, other, err := Seal(plain)
	qt.Assert(t, qt.IsNil(err))
	_, err = Open(cipher, other, 1<<20)
	qt.Check(t, qt.Equals(code.Of(err), "TS7106"))
	_, err = Open(cipher, ContentKey{}, 1<<20)
	qt.Check(t, qt.Equals(code.Of(err), "TS7106"))
	_, err = Unwrap(wrapped, Identity{})
	qt.Check(t, qt.Equals(code.Of(err), "TS7105"))
}

func TestAWrappedKeyStaysSmall(t *testing.T) {
	_, key, err := Seal(nil)
	qt.Assert(t, qt.IsNil(err))
	id := identity(t)
	wrapped, err := Wrap(key, id.Recipient())
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(len(wrapped) < 3000), qt.Commentf("%d", len(wrapped)))
	qt.Check(t, qt.IsTrue(len(id.Recipient()) < 2100), qt.Commentf("%d", len(id.Recipient())))
}

func TestIdentitiesAndRecipientsAreCheckedWhereTheyComeIn(t *testing.T) {
	id := identity(t)
	back, err := ParseIdentity(" " + id.Secret() + "\n")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(back.Recipient(), id.Recipient()))
	qt.Check(t, qt.IsNil(CheckRecipient(id.Recipient())))
	old, err := age.GenerateX25519Identity()
	qt.Assert(t, qt.IsNil(err))
	for _, bad := range []string{"", "x", old.String(), id.Recipient(), strings.ToLower(id.Secret()), id.Secret()[:40], strings.Repeat("A", 5000)} {
		_, err := ParseIdentity(bad)
		qt.Check(t, qt.Equals(code.Of(err), "TS7104"))
	}
	for _, bad := range []string{"", "x", old.Recipient().String(), id.Secret(), id.Recipient()[:100], strings.Repeat("a", 5000)} {
		qt.Check(t, qt.Equals(code.Of(CheckRecipient(bad)), "TS7104"))
		_, err := Wrap(ContentKey{}, bad)
		qt.Check(t, qt.Equals(code.Of(err), "TS7104"))
	}
	sealed, err := SealBytes([]byte("secret"), id.Recipient())
	qt.Assert(t, qt.IsNil(err))
	plain, err := OpenBytes(sealed, id)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(string(plain), "secret"))
	_, err = OpenBytes(sealed, identity(t))
	qt.Check(t, qt.Equals(code.Of(err), "TS7105"))
}

func FuzzUnwrap(f *testing.F) {
	id := identity(f)
	cipher, key, err := Seal([]byte("plain"))
	qt.Assert(f, qt.IsNil(err))
	wrapped, err := Wrap(key, id.Recipient())
	qt.Assert(f, qt.IsNil(err))
	raw, err := base64.StdEncoding.DecodeString(wrapped)
	qt.Assert(f, qt.IsNil(err))
	f.Add(raw)
	f.Add(raw[:100])
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := Unwrap(base64.StdEncoding.EncodeToString(b), id)
		if (err == nil) != (k.id != nil) || err != nil && code.Of(err) != "TS7105" {
			t.Fatalf("%v", err)
		}
		if err == nil {
			if plain, err := Open(cipher, k, 100); err != nil || string(plain) != "plain" {
				t.Fatal("another key came out")
			}
		}
	})
}

func FuzzOpen(f *testing.F) {
	cipher, key, err := Seal([]byte("plain"))
	qt.Assert(f, qt.IsNil(err))
	f.Add(cipher)
	f.Add(cipher[:len(cipher)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		plain, err := Open(b, key, 100)
		if err == nil && string(plain) != "plain" || err != nil && (plain != nil || code.Of(err) != "TS7106") {
			t.Fatalf("%q, %v", plain, err)
		}
	})
}
