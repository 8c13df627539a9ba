// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/tsugi-project/tsugi/internal/code"
)

const (
	pemPrivate = "PRIVATE KEY" // PKCS#8
	pemPublic  = "PUBLIC KEY"  // PKIX
	// pemAge begins a key file that is locked with a passphrase: the PEM file
	// of the private key, encrypted by age.
	pemAge = "AGE ENCRYPTED FILE"

	maxKeyFile = 64 << 10
	// workFactor is scrypt's, as a power of two. 18 is about a second on a
	// small machine, which is age's own choice for people's passphrases.
	workFactor = 18
	// maxWorkFactor bounds what a file can make its reader do: about 15 s.
	maxWorkFactor = 22
)

// Key is an Ed25519 private key that signs for a TUF role.
type Key struct{ private ed25519.PrivateKey }

// PublicKey is the public half of a Key.
type PublicKey struct{ key ed25519.PublicKey }

// GenerateKey makes a key.
func GenerateKey() (*Key, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	return &Key{private: private}, nil
}

// Public returns the public half.
func (k *Key) Public() PublicKey {
	return PublicKey{key: k.private.Public().(ed25519.PublicKey)}
}

// ID is the id of the public half.
func (k *Key) ID() string { return k.Public().ID() }

// Sign signs a message as Ed25519 does, without hashing it first.
func (k *Key) Sign(message []byte) []byte { return ed25519.Sign(k.private, message) }

// LogValue keeps the key out of logs.
func (k *Key) LogValue() slog.Value { return slog.StringValue("[redacted key " + k.ID()[:12] + "]") }

// String keeps the key out of messages.
func (k *Key) String() string { return "[redacted key " + k.ID()[:12] + "]" }

// PEM is the key file: PKCS#8, and if a passphrase is given, locked with it.
func (k *Key) PEM(passphrase []byte) ([]byte, error) { return k.pem(passphrase, workFactor) }

func (k *Key) pem(passphrase []byte, work int) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	plain := pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: der})
	if len(passphrase) == 0 {
		return plain, nil
	}
	r, err := age.NewScryptRecipient(string(passphrase))
	if err != nil {
		return nil, fmt.Errorf("passphrase: %w", err)
	}
	r.SetWorkFactor(work)
	var out bytes.Buffer
	a := armor.NewWriter(&out)
	w, err := age.Encrypt(a, r)
	if err == nil {
		_, err = w.Write(plain)
	}
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		err = a.Close()
	}
	return out.Bytes(), err
}

// Locked reports whether a key file needs a passphrase.
func Locked(file []byte) bool {
	return bytes.HasPrefix(bytes.TrimSpace(file), []byte("-----BEGIN "+pemAge+"-----"))
}

// ParseKey reads a key file. It asks for the passphrase only if the file is
// locked; a nil function then is an error.
func ParseKey(file []byte, passphrase func() ([]byte, error)) (*Key, error) {
	if len(file) > maxKeyFile {
		return nil, badKey("%d bytes, more than %d", len(file), maxKeyFile)
	}
	if Locked(file) {
		plain, err := unlock(file, passphrase)
		if err != nil {
			return nil, err
		}
		file = plain
	}
	block, rest := pem.Decode(file)
	switch {
	case block == nil:
		return nil, badKey("no PEM block")
	case block.Type == pemPublic:
		return nil, badKey("it holds a public key, and the private one is needed")
	case block.Type != pemPrivate:
		return nil, badKey("it holds a %s", block.Type)
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, badKey("something follows the key")
	}
	any, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, badKey("not readable").With(err)
	}
	private, ok := any.(ed25519.PrivateKey)
	if !ok {
		return nil, badKey("not an Ed25519 key")
	}
	return &Key{private: private}, nil
}

func unlock(file []byte, passphrase func() ([]byte, error)) ([]byte, error) {
	if passphrase == nil {
		return nil, code.New("TS7103", "", "it is locked, and there is nobody to ask")
	}
	secret, err := passphrase()
	if err != nil {
		return nil, err
	}
	id, err := age.NewScryptIdentity(string(secret))
	if err != nil {
		return nil, code.New("TS7103", "", "an empty passphrase opens nothing")
	}
	id.SetMaxWorkFactor(maxWorkFactor)
	r, err := age.Decrypt(armor.NewReader(bytes.NewReader(file)), id)
	if err != nil {
		if _, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
			return nil, code.New("TS7103", "", "it is not this one")
		}
		return nil, badKey("not readable").With(err)
	}
	plain, err := io.ReadAll(io.LimitReader(r, maxKeyFile))
	if err != nil {
		return nil, badKey("not readable").With(err)
	}
	return plain, nil
}

// NewPublicKey wraps a key that a library hands over.
func NewPublicKey(k ed25519.PublicKey) (PublicKey, error) {
	if len(k) != ed25519.PublicKeySize {
		return PublicKey{}, badKey("%d bytes, an Ed25519 key has %d", len(k), ed25519.PublicKeySize)
	}
	return PublicKey{key: slices.Clone(k)}, nil
}

// ParsePublicKey reads the PEM file of a public key.
func ParsePublicKey(file []byte) (PublicKey, error) {
	if len(file) > maxKeyFile {
		return PublicKey{}, badKey("%d bytes, more than %d", len(file), maxKeyFile)
	}
	block, rest := pem.Decode(file)
	if block == nil || block.Type != pemPublic || len(bytes.TrimSpace(rest)) > 0 {
		return PublicKey{}, badKey("not one PEM block of a public key")
	}
	any, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return PublicKey{}, badKey("not readable").With(err)
	}
	k, ok := any.(ed25519.PublicKey)
	if !ok {
		return PublicKey{}, badKey("not an Ed25519 key")
	}
	return PublicKey{key: k}, nil
}

// ID is TUF's name of the key: the SHA-256 of its canonical JSON, in hex.
func (p PublicKey) ID() string {
	s := sha256.Sum256(fmt.Appendf(nil, `{"keytype":"ed25519","keyval":{"public":"%x"},"scheme":"ed25519"}`, []byte(p.key)))
	return hex.EncodeToString(s[:])
}

// Bytes returns the 32 bytes of the key.
func (p PublicKey) Bytes() ed25519.PublicKey { return slices.Clone(p.key) }

// PEM is the file of a public key.
func (p PublicKey) PEM() []byte {
	der, err := x509.MarshalPKIXPublicKey(p.key)
	if err != nil {
		return nil // only of the zero value
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemPublic, Bytes: der})
}

// Verify reports whether the key signed the message.
func (p PublicKey) Verify(message, signature []byte) bool {
	return len(p.key) == ed25519.PublicKeySize && ed25519.Verify(p.key, message, signature)
}

func badKey(format string, args ...any) *code.Problem {
	return code.New("TS7102", "", fmt.Sprintf(format, args...))
}
