// SPDX-License-Identifier: Apache-2.0

package people

import (
	"context"
	"encoding/base32"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/authz"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/testenv"
)

// clock is a time that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// world is a service on a database of its own.
type world struct {
	*Service
	t     testing.TB
	db    *store.Store
	clock *clock
}

const goodPassword = "correct horse battery"

func newWorld(t testing.TB, dsn string, more ...func(*Options)) *world {
	t.Helper()
	c := &clock{now: time.UnixMilli(1_800_000_000_000)}
	db, err := store.Open(context.Background(), dsn, store.WithClock(c.Now))
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { qt.Check(t, qt.IsNil(db.Close())) })
	key, err := DeriveKey([]byte("what every replica has"))
	qt.Assert(t, qt.IsNil(err))
	o := Options{
		Store: db, Key: key, URL: "https://patches.example.org:8443", Now: c.Now,
		Limits: Limits{Argon: Argon{Memory: 64, Time: 1, Threads: 1}},
	}
	for _, f := range more {
		f(&o)
	}
	s, err := New(o)
	qt.Assert(t, qt.IsNil(err))
	return &world{Service: s, t: t, db: db, clock: c}
}

func local(t testing.TB, more ...func(*Options)) *world {
	return newWorld(t, "sqlite:"+t.TempDir()+"/x.db", more...)
}

// both runs a test on each engine.
func both(t *testing.T, test func(t *testing.T, w *world)) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); test(t, local(t)) })
	t.Run("postgresql", func(t *testing.T) { t.Parallel(); test(t, newWorld(t, testenv.Postgres(t))) })
}

func here() From {
	return From{Address: netip.MustParseAddr("192.0.2.7"), Agent: "browser"}
}

func (w *world) ctx() context.Context { return context.Background() }

// root is an admin's token of before.
func root() Caller {
	return Caller{Name: "init", Subject: authz.Subject{Grants: authz.OfKind("admin")}}
}

func secretOf(link string) string {
	_, s, _ := strings.Cut(link, "#")
	return s
}

// person makes a user with a password and signs them in.
func (w *world) person(name string, grants ...api.Grant) (Caller, string) {
	w.t.Helper()
	made, err := w.CreateUser(w.ctx(), root(), api.NewUser{Name: name, Grants: grants})
	qt.Assert(w.t, qt.IsNil(err))
	in, err := w.RedeemLink(w.ctx(), api.RedeemLink{Secret: secretOf(made.Link), Password: goodPassword}, here())
	qt.Assert(w.t, qt.IsNil(err))
	return w.caller(in.Secret), in.Secret
}

func (w *world) caller(secret string) Caller {
	w.t.Helper()
	who, err := w.BySession(w.ctx(), secret, here())
	qt.Assert(w.t, qt.IsNil(err))
	return who
}

func (w *world) signIn(name, password, factor string) (SignedIn, error) {
	return w.SignIn(w.ctx(), api.SignIn{Name: name, Password: password, Code: factor}, here())
}

// again signs a person in once more.
func (w *world) again(name string) Caller {
	w.t.Helper()
	in, err := w.signIn(name, goodPassword, "")
	qt.Assert(w.t, qt.IsNil(err))
	return w.caller(in.Secret)
}

func (w *world) refused(err error, c code.Code) {
	w.t.Helper()
	qt.Check(w.t, qt.Equals(code.Of(err), c), qt.Commentf("%v", err))
}

// audited are the audit log's lines, the oldest first, whose chain holds.
func (w *world) audited() []string {
	w.t.Helper()
	var all []string
	c, err := w.db.CheckAudit(w.ctx(), func(e store.AuditEntry) error {
		all = append(all, strings.Join([]string{e.Actor, e.Action, e.Object, e.Detail}, " | "))
		return nil
	})
	qt.Assert(w.t, qt.IsNil(err))
	qt.Assert(w.t, qt.IsNil(c.Broken))
	return all
}

// second gives a caller a second factor and returns its secret and the
// recovery codes.
func (w *world) second(who Caller) ([]byte, []string) {
	w.t.Helper()
	begun, err := w.BeginTOTP(w.ctx(), who)
	qt.Assert(w.t, qt.IsNil(err))
	secret, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(begun.Secret)
	qt.Assert(w.t, qt.IsNil(err))
	codes, err := w.ConfirmTOTP(w.ctx(), who, api.ConfirmTOTP{Ceremony: begun.Ceremony, Code: w.code(secret)})
	qt.Assert(w.t, qt.IsNil(err))
	return secret, codes.Codes
}

// code is what an authenticator shows now.
func (w *world) code(secret []byte) string { return totp(secret, w.clock.Now().Unix()/totpStep) }

func admin() api.Grant  { return api.Grant{Role: "admin"} }
func viewer() api.Grant { return api.Grant{Role: "viewer"} }
