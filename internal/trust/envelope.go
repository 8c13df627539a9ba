// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"filippo.io/age"

	"github.com/tsugi-project/tsugi/internal/code"
)

const (
	maxRecipient = 4096
	maxWrapped   = 16 << 10
	secretPrefix = "AGE-SECRET-KEY-PQ-1"
)

// Identity is a machine's own key pair, or the server's: age's hybrid of
// ML-KEM-768 and X25519, so that what is recorded today stays closed to who
// has a quantum computer later. It is made where it is used and never leaves.
type Identity struct{ id *age.HybridIdentity }

// NewIdentity makes an identity.
func NewIdentity() (Identity, error) {
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		return Identity{}, fmt.Errorf("identity: %w", err)
	}
	return Identity{id: id}, nil
}

// ParseIdentity reads what Secret wrote, with space around it.
func ParseIdentity(s string) (Identity, error) {
	s = strings.TrimSpace(s)
	if len(s) > maxRecipient || !strings.HasPrefix(s, secretPrefix) {
		return Identity{}, code.New("TS7104", "", "an identity starts with "+secretPrefix)
	}
	id, err := age.ParseHybridIdentity(s)
	if err != nil {
		return Identity{}, code.New("TS7104", "", "the identity is not readable") // the error could repeat the secret
	}
	return Identity{id: id}, nil
}

// Secret is the identity in age's form, for a file of mode 0600.
func (i Identity) Secret() string { return i.id.String() }

// Recipient is the public half, which others encrypt to.
func (i Identity) Recipient() string { return i.id.Recipient().String() }

// String keeps the identity out of messages.
func (i Identity) String() string { return "[redacted identity]" }

// LogValue keeps the identity out of logs.
func (i Identity) LogValue() slog.Value { return slog.StringValue(i.String()) }

// CheckRecipient says whether a machine's recipient is one.
func CheckRecipient(s string) error {
	_, err := parseRecipient(s)
	return err
}

func parseRecipient(s string) (*age.HybridRecipient, error) {
	if len(s) > maxRecipient {
		return nil, code.New("TS7104", "", fmt.Sprintf("a recipient of %d bytes, more than %d", len(s), maxRecipient))
	}
	r, err := age.ParseHybridRecipient(s)
	if err != nil {
		return nil, code.New("TS7104", "", "the recipient is not readable").With(err)
	}
	return r, nil
}

// ContentKey opens one encrypted live patch. It is an age identity of its own,
// made for that live patch alone.
type ContentKey struct{ id *age.HybridIdentity }

// LogValue keeps the key out of logs.
func (k ContentKey) LogValue() slog.Value { return slog.StringValue(k.String()) }

// String keeps the key out of messages.
func (k ContentKey) String() string { return "[redacted content key]" }

// GoString keeps the key out of messages.
func (k ContentKey) GoString() string { return k.String() }

// MarshalJSON refuses: a key leaves this program only wrapped.
func (k ContentKey) MarshalJSON() ([]byte, error) {
	return nil, errors.New("a content key is written only by Wrap")
}

// Seal encrypts a live patch to a new key, which only Wrap lets out. All
// machines get the same bytes.
func Seal(plain []byte) (cipher []byte, key ContentKey, err error) {
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		return nil, ContentKey{}, fmt.Errorf("content key: %w", err)
	}
	cipher, err = encrypt(plain, id.Recipient())
	return cipher, ContentKey{id: id}, err
}

// Open decrypts what Seal made, of at most maxPlain bytes.
func Open(cipher []byte, key ContentKey, maxPlain int64) ([]byte, error) {
	if key.id == nil {
		return nil, code.New("TS7106", "", "there is no key for it")
	}
	plain, err := decrypt(cipher, key.id, maxPlain)
	if err != nil {
		return nil, code.New("TS7106", "", "").With(err)
	}
	return plain, nil
}

// Wrap encrypts a content key for one recipient: an age file in base64, about
// 2.4 kB.
func Wrap(key ContentKey, recipient string) (string, error) {
	r, err := parseRecipient(recipient)
	if err != nil {
		return "", err
	}
	if key.id == nil {
		return "", errors.New("wrap: no key")
	}
	b, err := encrypt([]byte(key.id.String()), r)
	return base64.StdEncoding.EncodeToString(b), err
}

// Unwrap opens what Wrap made, with the identity of its recipient.
func Unwrap(wrapped string, id Identity) (ContentKey, error) {
	if len(wrapped) > maxWrapped {
		return ContentKey{}, code.New("TS7105", "", fmt.Sprintf("%d bytes, more than %d", len(wrapped), maxWrapped))
	}
	if id.id == nil {
		return ContentKey{}, code.New("TS7105", "", "this machine has no identity")
	}
	b, err := base64.StdEncoding.Strict().DecodeString(wrapped)
	if err != nil {
		return ContentKey{}, code.New("TS7105", "", "").With(err)
	}
	plain, err := decrypt(b, id.id, maxRecipient)
	if err != nil {
		return ContentKey{}, code.New("TS7105", "", "").With(err)
	}
	k, err := age.ParseHybridIdentity(string(plain))
	if err != nil {
		return ContentKey{}, code.New("TS7105", "", "what it holds is no key") // the error could repeat it
	}
	return ContentKey{id: k}, nil
}

// SealBytes encrypts a small secret, such as a tier's key, for a recipient.
func SealBytes(plain []byte, recipient string) ([]byte, error) {
	r, err := parseRecipient(recipient)
	if err != nil {
		return nil, err
	}
	return encrypt(plain, r)
}

// OpenBytes opens what SealBytes made.
func OpenBytes(sealed []byte, id Identity) ([]byte, error) {
	if id.id == nil {
		return nil, code.New("TS7105", "", "there is no identity")
	}
	plain, err := decrypt(sealed, id.id, maxKeyFile)
	if err != nil {
		return nil, code.New("TS7105", "", "").With(err)
	}
	return plain, nil
}

func encrypt(plain []byte, r age.Recipient) ([]byte, error) {
	var out bytes.Buffer
	w, err := age.Encrypt(&out, r)
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	if _, err = w.Write(plain); err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	return out.Bytes(), nil
}

func decrypt(cipher []byte, id age.Identity, limit int64) ([]byte, error) {
	r, err := age.Decrypt(bytes.NewReader(cipher), id)
	if err != nil {
		return nil, err
	}
	plain, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(plain)) > limit {
		return nil, fmt.Errorf("more than %d bytes", limit)
	}
	return plain, nil
}
