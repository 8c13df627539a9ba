// SPDX-License-Identifier: Apache-2.0

package api

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"hash/crc32"
	"net/url"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/strict"
)

// CredentialKind is what a credential is for. It is the credential's prefix,
// so that people and secret scanners know one when they see it.
type CredentialKind string

// The kinds of credentials.
const (
	MachineCredential  CredentialKind = "tsm" // an enrolled machine
	TokenCredential    CredentialKind = "tst" // an enrolment token
	OperatorCredential CredentialKind = "tso" // a person or a program that administers
	WorkerCredential   CredentialKind = "tsw" // a build worker on another host
)

// SessionCookie is the cookie of a person's session. The prefix has browsers
// refuse it from anywhere but this very host, over TLS, for all paths.
const SessionCookie = "__Host-tsugi"

const (
	secretSize = 32
	// maxEnrollment bounds the word that tsugi enroll takes.
	maxEnrollment = 4096
)

// credentialText is base32 in lower case: it survives shells, URLs, and people
// reading it to each other.
func credentialText() *base32.Encoding {
	return base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
}

// NewCredential makes a secret: prefix, 32 random bytes and their checksum.
func NewCredential(kind CredentialKind) string {
	b := make([]byte, secretSize, secretSize+crc32.Size)
	rand.Read(b) //nolint:errcheck // never fails: crypto/rand ends the program instead
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	return string(kind) + "_" + credentialText().EncodeToString(b)
}

// CredentialKindOf returns the kind of a well-formed credential. The checksum
// catches what was cut or mistyped before anybody is asked about it; it proves
// nothing.
func CredentialKindOf(s string) (CredentialKind, bool) {
	prefix, text, ok := strings.Cut(s, "_")
	kind := CredentialKind(prefix)
	if !ok || len(text) != 58 {
		return "", false
	}
	switch kind {
	case MachineCredential, TokenCredential, OperatorCredential, WorkerCredential:
	default:
		return "", false
	}
	b, err := credentialText().DecodeString(text)
	if err != nil || len(b) != secretSize+crc32.Size || credentialText().EncodeToString(b) != text {
		return "", false
	}
	return kind, crc32.ChecksumIEEE(b[:secretSize]) == binary.BigEndian.Uint32(b[secretSize:])
}

// HashCredential is what a server stores of a credential. The secret is 256
// random bits, so a fast hash is as good as a slow one.
func HashCredential(s string) []byte {
	h := sha256.Sum256([]byte(s))
	return h[:]
}

// Enrollment is everything that a machine needs to enrol, in one word:
// TokenMade.Enroll, what tsugi enroll takes.
type Enrollment struct {
	URL   string `json:"u"`
	Token string `json:"t"`
	CA    string `json:"c,omitempty"` // SHA-256 of the CA certificate's DER, hex; "": the system's CAs
	Root  string `json:"r"`           // SHA-256 of the first TUF root, hex
}

const enrollmentPrefix = "tsugi1."

func (e Enrollment) String() string {
	b, err := json.Marshal(e)
	if err != nil {
		panic(err) // four strings
	}
	return enrollmentPrefix + base64.RawURLEncoding.EncodeToString(b)
}

// ParseEnrollment reads the word again and checks all of it, so that a word
// that was cut in copying is told from a token that a server refuses.
func ParseEnrollment(s string) (Enrollment, error) {
	bad := func(why string) (Enrollment, error) {
		return Enrollment{}, code.New("TS7602", "", why)
	}
	rest, ok := strings.CutPrefix(strings.TrimSpace(s), enrollmentPrefix)
	switch {
	case len(s) > maxEnrollment:
		return bad("it is too long")
	case !ok:
		return bad("it does not start with " + enrollmentPrefix)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(rest)
	if err != nil {
		return bad("it is cut or damaged")
	}
	var e Enrollment
	if err := strict.JSON(b, &e); err != nil {
		return bad("it is cut or damaged")
	}
	u, err := url.Parse(e.URL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil {
		return bad("it holds no server's address")
	}
	if kind, ok := CredentialKindOf(e.Token); !ok || kind != TokenCredential {
		return bad("it holds no enrolment token")
	}
	if e.CA != "" && !isDigest(e.CA) || !isDigest(e.Root) {
		return bad("it holds no digests of the CA and of the trust root")
	}
	return e, nil
}

func isDigest(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size && strings.ToLower(s) == s
}
