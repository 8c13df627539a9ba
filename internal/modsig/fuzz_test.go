// SPDX-License-Identifier: Apache-2.0

package modsig

import (
	"bytes"
	"testing"
)

func FuzzParse(f *testing.F) {
	for _, kind := range []string{"rsa", "p256"} {
		key := newKey(f, kind)
		for _, keyID := range []bool{false, true} {
			signed, err := key.Sign([]byte("\x7fELF small"), Options{KeyID: keyID})
			if err != nil {
				f.Fatal(err)
			}
			f.Add(signed)
		}
	}
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		content, der, err := Split(b)
		if err != nil {
			if content != nil || der != nil {
				t.Fatal("an error and a value")
			}
			return
		}
		if der == nil {
			if !bytes.Equal(content, b) {
				t.Fatal("an unsigned module changed")
			}
			der = b // then the whole input is tried as a message
		} else if !bytes.Equal(Append(content, der), b) {
			t.Fatal("Split and Append are not each other's inverse")
		}
		sig, err := Parse(der)
		if (err == nil) != (sig != nil) {
			t.Fatalf("signature %v and error %v", sig, err)
		}
		if sig == nil {
			return
		}
		again, err := sig.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		back, err := Parse(again)
		if err != nil || !bytes.Equal(back.Value, sig.Value) || back.Hash != sig.Hash || back.ECDSA != sig.ECDSA {
			t.Fatalf("what Bytes writes is read as something else: %v", err)
		}
		sig.Issuer()
	})
}

func FuzzParseKey(f *testing.F) {
	key, cert := newKey(f, "p256").pem(f)
	f.Add(append(bytes.Clone(key), cert...), []byte(nil))
	f.Add(key, cert)
	f.Fuzz(func(t *testing.T, a, b []byte) {
		k, err := ParseKey(a, b)
		if (err == nil) != (k != nil) {
			t.Fatalf("key %v and error %v", k, err)
		}
	})
}
