// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/testenv/need"
)

func ask(s string) func() ([]byte, error) { return func() ([]byte, error) { return []byte(s), nil } }

func key(t testing.TB) *Key {
	k, err := GenerateKey()
	qt.Assert(t, qt.IsNil(err))
	return k
}

func TestAKeyFileComesBackLockedOrNot(t *testing.T) {
	k := key(t)
	plain, err := k.PEM(nil)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsFalse(Locked(plain)))
	locked, err := k.pem([]byte("open sesame"), 4) // a factor that costs no time
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(Locked(locked)))
	qt.Check(t, qt.IsFalse(bytes.Contains(locked, []byte("PRIVATE"))))
	for name, file := range map[string][]byte{"plain": plain, "locked": locked} {
		got, err := ParseKey(file, ask("open sesame"))
		qt.Assert(t, qt.IsNil(err), qt.Commentf(name))
		qt.Check(t, qt.Equals(got.ID(), k.ID()))
		qt.Check(t, qt.IsTrue(k.Public().Verify([]byte("m"), got.Sign([]byte("m")))))
	}
	public, err := ParsePublicKey(k.Public().PEM())
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(public.ID(), k.ID()))
}

func TestAKeyIsNeverPrinted(t *testing.T) {
	k := key(t)
	id, err := NewIdentity()
	qt.Assert(t, qt.IsNil(err))
	_, content, err := Seal([]byte("x"))
	qt.Assert(t, qt.IsNil(err))
	for _, v := range []any{k, id, content, &content, struct{ K any }{content}} {
		for _, verb := range []string{"%v", "%s", "%q"} {
			s := fmt.Sprintf(verb, v)
			qt.Check(t, qt.IsFalse(bytes.Contains([]byte(s), []byte("SECRET"))), qt.Commentf("%T %s: %s", v, verb, s))
		}
	}
	qt.Check(t, qt.Equals(content.LogValue().String(), "[redacted content key]"))
	_, err = content.MarshalJSON()
	qt.Check(t, qt.IsNotNil(err))
}

func TestWhatIsNoKeyIsToldApart(t *testing.T) {
	k := key(t)
	locked, err := k.pem([]byte("right"), 4)
	qt.Assert(t, qt.IsNil(err))
	plain, err := k.PEM(nil)
	qt.Assert(t, qt.IsNil(err))
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	qt.Assert(t, qt.IsNil(err))
	der, err := x509.MarshalPKCS8PrivateKey(curve)
	qt.Assert(t, qt.IsNil(err))
	for name, c := range map[string]struct {
		file []byte
		pass func() ([]byte, error)
		want code.Code
	}{
		"nothing":             {nil, nil, "TS7102"},
		"text":                {[]byte("hello"), nil, "TS7102"},
		"a public key":        {k.Public().PEM(), nil, "TS7102"},
		"a certificate":       {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE"}), nil, "TS7102"},
		"another kind of key": {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil, "TS7102"},
		"two keys":            {append(bytes.Clone(plain), plain...), nil, "TS7102"},
		"nobody to ask":       {locked, nil, "TS7103"},
		"a wrong passphrase":  {locked, ask("wrong"), "TS7103"},
		"no passphrase":       {locked, ask(""), "TS7103"},
		"a damaged lock":      {bytes.Replace(locked, []byte("\n"), []byte("\nA"), 2), ask("right"), "TS7102"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseKey(c.file, c.pass)
			qt.Assert(t, qt.Equals(code.Of(err), c.want), qt.Commentf("%v", err))
			qt.Check(t, qt.IsNil(got))
		})
	}
	stop := errors.New("stopped")
	_, err = ParseKey(locked, func() ([]byte, error) { return nil, stop })
	qt.Check(t, qt.ErrorIs(err, stop))
}

func TestAFileCannotMakeItsReaderWorkForHours(t *testing.T) {
	k := key(t)
	locked, err := k.pem([]byte("x"), 4)
	qt.Assert(t, qt.IsNil(err))
	// The work factor stands in the clear in age's header.
	raw := decodeArmor(t, locked)
	heavy := bytes.Replace(raw, []byte(" 4\n"), []byte(" 30\n"), 1)
	qt.Assert(t, qt.IsFalse(bytes.Equal(raw, heavy)))
	_, err = ParseKey(encodeArmor(t, heavy), ask("x"))
	qt.Assert(t, qt.Equals(code.Of(err), "TS7102"), qt.Commentf("%v", err))
}

func decodeArmor(t *testing.T, b []byte) []byte {
	block, _ := pem.Decode(b)
	qt.Assert(t, qt.IsNotNil(block))
	return block.Bytes
}

func encodeArmor(t *testing.T, b []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemAge, Bytes: b})
}

func TestTheIDOfAKeyIsTUFs(t *testing.T) {
	k := key(t)
	m, err := metadata.KeyFromPublicKey(k.Public().Bytes())
	qt.Assert(t, qt.IsNil(err))
	id, err := m.ID()
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(k.ID(), id))
}

func TestOpenSSLReadsTheKeyFiles(t *testing.T) {
	openssl := need.Program(t, "openssl")
	k := key(t)
	dir := t.TempDir()
	private, message, sig := filepath.Join(dir, "k.pem"), filepath.Join(dir, "m"), filepath.Join(dir, "s")
	b, err := k.PEM(nil)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(os.WriteFile(private, b, 0o600)))
	qt.Assert(t, qt.IsNil(os.WriteFile(message, []byte("signed elsewhere"), 0o600)))
	out, err := exec.CommandContext(t.Context(), openssl, "pkeyutl", "-sign", "-rawin", "-inkey", private, "-in", message, "-out", sig).CombinedOutput()
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", out))
	s, err := os.ReadFile(sig)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(k.Public().Verify([]byte("signed elsewhere"), s)))
	out, err = exec.CommandContext(t.Context(), openssl, "pkey", "-in", private, "-pubout").Output()
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(string(out), string(k.Public().PEM())))
}

func FuzzParseKey(f *testing.F) {
	k := key(f)
	plain, _ := k.PEM(nil)
	f.Add(plain)
	f.Add(k.Public().PEM())
	locked, _ := k.pem([]byte("x"), 2)
	f.Add(locked)
	f.Fuzz(func(t *testing.T, b []byte) {
		if Locked(b) {
			return // a mutated work factor is allowed to cost seconds
		}
		k, err := ParseKey(b, ask("x"))
		if (err == nil) != (k != nil) || err != nil && code.Of(err) == "" {
			t.Fatalf("%v, %v", k, err)
		}
		p, err := ParsePublicKey(b)
		if err == nil && p.PEM() == nil || err != nil && code.Of(err) == "" {
			t.Fatalf("%v", err)
		}
	})
}
