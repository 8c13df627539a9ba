// SPDX-License-Identifier: Apache-2.0

package people

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/authz"
)

// device is an authenticator and the browser before it, after the text of Web
// Authentication: it does as it is told by its fields, wrong things too.
type device struct {
	t        testing.TB
	origin   string
	rpID     string
	key      *ecdsa.PrivateKey
	id       []byte
	user     []byte // handle, set by create
	count    uint32
	counts   bool
	verified bool // the person showed a finger or typed a PIN
}

func newDevice(t testing.TB) *device {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	qt.Assert(t, qt.IsNil(err))
	id := make([]byte, 16)
	rand.Read(id) //nolint:errcheck // never fails
	return &device{t: t, origin: "https://patches.example.org:8443", rpID: "patches.example.org", key: key, id: id, verified: true}
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// cborBytes is a byte string (RFC 8949, major type 2).
func cborBytes(b []byte) []byte {
	switch {
	case len(b) < 24:
		return append([]byte{0x40 | byte(len(b))}, b...)
	case len(b) < 256:
		return append([]byte{0x58, byte(len(b))}, b...)
	}
	return append(binary.BigEndian.AppendUint16([]byte{0x59}, uint16(len(b))), b...)
}

func cborText(s string) []byte { return append([]byte{0x60 | byte(len(s))}, s...) }

// coseKey is the public key (RFC 9053, section 7.1.1): EC2, ES256, P-256.
func (d *device) coseKey() []byte {
	point, err := d.key.PublicKey.Bytes() // 4, x, y
	qt.Assert(d.t, qt.IsNil(err))
	out := []byte{0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21}
	out = append(out, cborBytes(point[1:33])...)
	out = append(out, 0x22)
	return append(out, cborBytes(point[33:])...)
}

// authData is section 6.1: whose, flags, counter, and for a new one its key.
func (d *device) authData(attested bool) []byte {
	h := sha256.Sum256([]byte(d.rpID))
	flags := byte(0x01)
	if d.verified {
		flags |= 0x04
	}
	if attested {
		flags |= 0x40
	}
	if d.counts {
		d.count++
	}
	out := append(h[:], flags)
	out = binary.BigEndian.AppendUint32(out, d.count)
	if attested {
		out = append(out, make([]byte, 16)...)
		out = binary.BigEndian.AppendUint16(out, uint16(len(d.id)))
		out = append(out, d.id...)
		out = append(out, d.coseKey()...)
	}
	return out
}

func (d *device) clientData(kind, challenge string) []byte {
	b, err := json.Marshal(map[string]any{"type": kind, "challenge": challenge, "origin": d.origin, "crossOrigin": false})
	qt.Assert(d.t, qt.IsNil(err))
	return b
}

// options reads what the server tells the browser, as JSON.
func options(t testing.TB, v any) (challenge string, user []byte) {
	t.Helper()
	raw, err := json.Marshal(v)
	qt.Assert(t, qt.IsNil(err))
	var o struct {
		Challenge string `json:"challenge"`
		User      struct {
			ID string `json:"id"`
		} `json:"user"`
		UserVerification string `json:"userVerification"`
	}
	qt.Assert(t, qt.IsNil(json.Unmarshal(raw, &o)))
	user, err = base64.RawURLEncoding.DecodeString(o.User.ID)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Not(qt.Equals(o.Challenge, ""))) // browsers read no "publicKey" around it
	return o.Challenge, user
}

// create is navigator.credentials.create.
func (d *device) create(begun api.PasskeyBegun) api.FinishPasskey {
	challenge, user := options(d.t, begun.Options)
	d.user = user
	object := []byte{0xa3}
	object = append(object, cborText("fmt")...)
	object = append(object, cborText("none")...)
	object = append(object, cborText("attStmt")...)
	object = append(object, 0xa0)
	object = append(object, cborText("authData")...)
	object = append(object, cborBytes(d.authData(true))...)
	return api.FinishPasskey{Ceremony: begun.Ceremony, Name: "phone", Credential: map[string]any{
		"id": b64(d.id), "rawId": b64(d.id), "type": "public-key",
		"response": map[string]any{"clientDataJSON": b64(d.clientData("webauthn.create", challenge)), "attestationObject": b64(object)},
	}}
}

// get is navigator.credentials.get.
func (d *device) get(begun api.PasskeyBegun) api.FinishPasskey {
	challenge, _ := options(d.t, begun.Options)
	data := d.authData(false)
	client := d.clientData("webauthn.get", challenge)
	h := sha256.Sum256(client)
	signed := sha256.Sum256(append(bytes.Clone(data), h[:]...))
	sig, err := ecdsa.SignASN1(rand.Reader, d.key, signed[:])
	qt.Assert(d.t, qt.IsNil(err))
	return api.FinishPasskey{Ceremony: begun.Ceremony, Credential: map[string]any{
		"id": b64(d.id), "rawId": b64(d.id), "type": "public-key",
		"response": map[string]any{
			"clientDataJSON": b64(client), "authenticatorData": b64(data), "signature": b64(sig), "userHandle": b64(d.user),
		},
	}}
}

func (w *world) register(who Caller, d *device) (api.Passkey, error) {
	w.t.Helper()
	begun, err := w.BeginPasskey(w.ctx(), who)
	qt.Assert(w.t, qt.IsNil(err))
	return w.FinishPasskey(w.ctx(), who, d.create(begun))
}

func (w *world) byPasskey(d *device) (SignedIn, error) {
	w.t.Helper()
	begun, err := w.BeginPasskeySignIn(w.ctx())
	qt.Assert(w.t, qt.IsNil(err))
	return w.FinishPasskeySignIn(w.ctx(), d.get(begun), here())
}

func TestPasskeys(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		ctx := w.ctx()
		alice, secret := w.person("alice", viewer())
		d := newDevice(t)
		key, err := w.register(alice, d)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(key.Name, "phone"))
		qt.Check(t, qt.Equals(string(d.user), alice.UserID))
		// It stands for both factors, also where there is another, and is not
		// locked out by who guesses passwords.
		w.second(alice)
		for range freeAttempts {
			_, err := w.signIn("alice", "wrong", "")
			w.refused(err, "TS8207")
		}
		in, err := w.byPasskey(d)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(in.Session.Method, "passkey"))
		qt.Check(t, qt.Equals(in.User.Name, "alice"))
		mine, err := w.Passkeys(ctx, alice)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(mine[0].LastUsed, w.clock.Now().UnixMilli()))
		// Fresh again with it.
		w.clock.pass(time.Hour)
		alice = w.caller(secret)
		begun, err := w.BeginPasskeySignIn(ctx)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNil(w.ConfirmByPasskey(ctx, alice, d.get(begun))))
		qt.Check(t, qt.IsTrue(w.caller(secret).Subject.Fresh))
		bob, _ := w.person("bob", viewer())
		begun, err = w.BeginPasskeySignIn(ctx)
		qt.Assert(t, qt.IsNil(err))
		w.refused(w.ConfirmByPasskey(ctx, bob, d.get(begun)), "TS8216")
		// Nobody removes another's.
		qt.Check(t, qt.IsNotNil(w.RemovePasskey(ctx, bob, key.ID)))
		qt.Assert(t, qt.IsNil(w.RemovePasskey(ctx, alice, key.ID)))
		_, err = w.byPasskey(d)
		w.refused(err, "TS8216")
	})
}

func TestPasskeysThatAreRefused(t *testing.T) {
	t.Parallel()
	w := local(t)
	ctx := w.ctx()
	alice, _ := w.person("alice", viewer())
	bob, _ := w.person("bob", viewer())
	d := newDevice(t)
	d.counts = true
	for name, spoil := range map[string]func(*device){
		"another origin":   func(d *device) { d.origin = "https://patches.example.org.evil.example" },
		"another port":     func(d *device) { d.origin = "https://patches.example.org" },
		"another party":    func(d *device) { d.rpID = "evil.example" },
		"nobody was there": func(d *device) { d.verified = false },
	} {
		bad := *d
		spoil(&bad)
		_, err := w.register(alice, &bad)
		qt.Check(t, qt.IsNotNil(err), qt.Commentf("%s", name))
		w.refused(err, "TS8216")
	}
	_, err := w.register(alice, d)
	qt.Assert(t, qt.IsNil(err))
	_, err = w.register(bob, d) // the server has it
	w.refused(err, "TS8216")
	d.user = []byte(alice.UserID)
	_, err = w.byPasskey(d)
	qt.Assert(t, qt.IsNil(err))
	for name, spoil := range map[string]func(*device){
		"another origin":   func(d *device) { d.origin = "https://evil.example" },
		"another party":    func(d *device) { d.rpID = "evil.example" },
		"nobody was there": func(d *device) { d.verified = false },
		"another key":      func(d *device) { d.key = newDevice(t).key },
		"another user":     func(d *device) { d.user = []byte(bob.UserID) },
		"no user":          func(d *device) { d.user = []byte("x") },
		"another id":       func(d *device) { d.id = []byte("0123456789abcdef") },
	} {
		bad := *d
		spoil(&bad)
		_, err := w.byPasskey(&bad)
		qt.Check(t, qt.IsNotNil(err), qt.Commentf("%s", name))
		w.refused(err, "TS8216")
	}
	// An answer is good once, and in time.
	begun, err := w.BeginPasskeySignIn(ctx)
	qt.Assert(t, qt.IsNil(err))
	answer := d.get(begun)
	_, err = w.FinishPasskeySignIn(ctx, answer, here())
	qt.Assert(t, qt.IsNil(err))
	_, err = w.FinishPasskeySignIn(ctx, answer, here())
	w.refused(err, "TS8227")
	begun, err = w.BeginPasskeySignIn(ctx)
	qt.Assert(t, qt.IsNil(err))
	w.clock.pass(passkeyTime)
	_, err = w.FinishPasskeySignIn(ctx, d.get(begun), here())
	w.refused(err, "TS8227")
	// What was begun by one is not ended by another.
	begun, err = w.BeginPasskey(ctx, alice)
	qt.Assert(t, qt.IsNil(err))
	_, err = w.FinishPasskey(ctx, bob, newDevice(t).create(begun))
	w.refused(err, "TS8227")
	// A counter that goes back: there is a copy.
	d.count = 0
	_, err = w.byPasskey(d)
	w.refused(err, "TS8216")
	log := w.audited()
	qt.Check(t, qt.Equals(log[len(log)-1], "server | passkey.clone | alice | "+b64(d.id)))
	// What is no answer at all.
	for _, junk := range []any{nil, "x", map[string]any{}, map[string]any{"id": "x", "type": "public-key", "rawId": "x"}} {
		begun, err := w.BeginPasskeySignIn(ctx)
		qt.Assert(t, qt.IsNil(err))
		_, err = w.FinishPasskeySignIn(ctx, api.FinishPasskey{Ceremony: begun.Ceremony, Credential: junk}, here())
		w.refused(err, "TS8216")
	}
	// Who is disabled does not come in with one.
	w.person("root", admin())
	off := true
	_, err = w.ChangeUser(ctx, root(), alice.UserID, api.UserChange{Disabled: &off})
	qt.Assert(t, qt.IsNil(err))
	d.count = 100
	_, err = w.byPasskey(d)
	w.refused(err, "TS8209")
}

func TestWhereThereAreNoPasskeys(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"https://192.0.2.1:8443", "https://[2001:db8::1]", "http://patches.example.org"} {
		w := local(t, func(o *Options) { o.URL = url })
		qt.Check(t, qt.IsFalse(w.Methods().Passkeys))
		_, err := w.BeginPasskeySignIn(w.ctx())
		w.refused(err, "TS8216")
		_, err = w.BeginPasskey(w.ctx(), Caller{Subject: authz.Subject{}})
		w.refused(err, "TS8216")
	}
	w := local(t, func(o *Options) { o.URL = "http://localhost:8080" })
	qt.Check(t, qt.IsTrue(w.Methods().Passkeys))
}
