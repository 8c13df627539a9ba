// SPDX-License-Identifier: Apache-2.0

// Package people knows who uses a server: users with passwords, second
// factors, passkeys and identities at OpenID providers; their sessions; the
// links that they come in with; and API keys. It says who a request comes from
// (a Caller, with the subject that package authz decides about), and it is the
// only one that changes any of that, always together with a line in the audit
// log.
//
// It refuses with problems (TS82xx). What is no problem is a defect or a
// database that does not answer.
//
// # What is stored
//
// Of passwords argon2id hashes; of session secrets, links, recovery codes and
// API keys SHA-256, for those are random; the secrets of second factors sealed
// with a key that is not in the database. So a dump of it signs nobody in.
//
// # Guessing
//
// An attempt is counted before it is made, so that many at once are no way
// round the limit. From the fifth in a row that failed on, the user is locked
// for a time that doubles. Passkeys and links are not guessed and not locked
// out. Names of users are no secrets.
package people

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"runtime"
	"time"

	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/authz"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/store"
)

// Options are what a Service is made of.
type Options struct {
	Store     *store.Store
	Key       []byte // 32 bytes, the same on every replica, not in the database: DeriveKey
	URL       string // of the server, as browsers reach it
	Providers []Provider
	Client    *http.Client     // for providers; nil: one with time limits
	Now       func() time.Time // nil: time.Now
	Log       *slog.Logger     // nil: none
	Limits    Limits
}

// Limits are times and sizes; zero fields are the defaults.
type Limits struct {
	Idle  time.Duration // a session that is not used for it ends: 12 h
	Life  time.Duration // every session ends after it: 7 days
	Fresh time.Duration // who proved who they are needn't again for it: 10 min
	Link  time.Duration // of a link for a new user: 72 h
	Argon Argon
}

func (l Limits) filled() Limits {
	set := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	set(&l.Idle, 12*time.Hour)
	set(&l.Life, 7*24*time.Hour)
	set(&l.Fresh, 10*time.Minute)
	set(&l.Link, 72*time.Hour)
	if l.Argon == (Argon{}) {
		l.Argon = DefaultArgon()
	}
	return l
}

// Service is package people at work. It is safe for concurrent use.
type Service struct {
	store     *store.Store
	seal      cipher.AEAD
	url       *url.URL
	client    *http.Client
	now       func() time.Time
	log       *slog.Logger
	limits    Limits
	passkeys  *webauthn.WebAuthn // nil: the address is one for which there are none
	providers []*provider
	hashing   chan struct{} // as many at once as there are processors: each takes memory
	nobody    string        // the hash that is compared when there is no user
}

// New makes a service.
func New(o Options) (*Service, error) {
	s := &Service{
		store: o.Store, client: o.Client, now: o.Now, log: o.Log, limits: o.Limits.filled(),
		hashing: make(chan struct{}, max(2, runtime.GOMAXPROCS(0))),
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.client == nil {
		s.client = &http.Client{Timeout: 15 * time.Second}
	}
	if len(o.Key) != 32 {
		return nil, errors.New("people: the key has not 32 bytes")
	}
	block, err := aes.NewCipher(o.Key)
	if err != nil {
		return nil, fmt.Errorf("people: %w", err)
	}
	if s.seal, err = cipher.NewGCMWithRandomNonce(block); err != nil {
		return nil, fmt.Errorf("people: %w", err)
	}
	if s.url, err = url.Parse(o.URL); err != nil || s.url.Host == "" {
		return nil, fmt.Errorf("people: %q is no address of a server", o.URL)
	}
	if s.passkeys, err = newWebAuthn(s.url); err != nil {
		return nil, fmt.Errorf("people: %w", err)
	}
	if s.providers, err = newProviders(o.Providers); err != nil {
		return nil, err
	}
	s.nobody = s.limits.Argon.hash(rand.Text())
	return s, nil
}

// DeriveKey makes the key of Options from a secret that every replica has.
func DeriveKey(secret []byte) ([]byte, error) {
	return hkdf.Key(sha256.New, secret, nil, "tsugi people 1", 32)
}

// From is where a request comes from.
type From struct {
	Address netip.Addr
	Agent   string // what the browser says it is
	// Background says that nobody did anything: a page that is open asks by
	// itself. It keeps no session alive.
	Background bool
}

func (f From) agent() string { return f.Agent[:min(len(f.Agent), 300)] }

// Caller is who a request comes from.
type Caller struct {
	Subject authz.Subject
	Name    string // for the audit log: "alice", "alice/laptop", the name of a program's key
	Role    string // in a word, for people to read
	UserID  string // "": a program
	Session string // id; "": with a key
	KeyID   string // "": with a session
}

// newSecret is 256 random bits in letters that survive URLs.
func newSecret() string {
	b := make([]byte, 32)
	rand.Read(b) //nolint:errcheck // never fails: crypto/rand ends the program instead
	return base64.RawURLEncoding.EncodeToString(b)
}

// hashSecret is what is stored of one. It is random, so a fast hash will do.
func hashSecret(s string) []byte {
	h := sha256.Sum256([]byte(s))
	return h[:]
}

// entry is a line of the audit log.
func entry(actor, action, object, detail string) store.AuditEntry {
	return store.AuditEntry{Actor: actor, Action: action, Object: object, Detail: detail}
}

// known turns a missing row into a problem with a code.
func known(err error, c code.Code, where, why string) error {
	if errors.Is(err, store.ErrNotFound) {
		return code.New(c, where, why)
	}
	return err
}

func grantsOf(text string) []authz.Grant {
	var all []authz.Grant
	if text == "" || json.Unmarshal([]byte(text), &all) != nil {
		return nil // what can't be read is worth nothing
	}
	return all
}

func toGrants(all []api.Grant) []authz.Grant {
	out := make([]authz.Grant, len(all))
	for i, g := range all {
		out[i] = authz.Grant{Role: authz.Role(g.Role), Groups: g.Groups}
	}
	return out
}

func fromGrants(all []authz.Grant) []api.Grant {
	out := make([]api.Grant, len(all))
	for i, g := range all {
		out[i] = api.Grant{Role: string(g.Role), Groups: g.Groups}
	}
	return out
}

func jsonText(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}

// Prune removes what is over: sessions, links, what was begun and never ended.
func (s *Service) Prune(ctx context.Context) error {
	now := s.now()
	_, err := s.store.PrunePeople(ctx, now.Add(-s.limits.Idle).UnixMilli(), now.Add(-30*24*time.Hour).UnixMilli())
	return err
}
