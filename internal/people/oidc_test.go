// SPDX-License-Identifier: Apache-2.0

package people

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/authz"
)

// idp is an OpenID provider in this process: discovery, keys and the token
// endpoint, which checks what a client must send (RFC 6749, 7636).
type idp struct {
	t      testing.TB
	web    *httptest.Server
	key    *ecdsa.PrivateKey
	now    func() time.Time
	mu     sync.Mutex
	codes  map[string]grantOf
	claims map[string]any // of the next token, over what it would hold
	asked  int
	gone   bool
}

type grantOf struct{ nonce, challenge, redirect string }

func newIDP(t testing.TB, now func() time.Time) *idp {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	qt.Assert(t, qt.IsNil(err))
	p := &idp{t: t, key: key, now: now, codes: map[string]grantOf{}}
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		p.asked++
		gone := p.gone
		p.mu.Unlock()
		if gone {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		answer(w, map[string]any{
			"issuer": p.web.URL, "authorization_endpoint": p.web.URL + "/authorize", "token_endpoint": p.web.URL + "/token",
			"jwks_uri": p.web.URL + "/keys", "id_token_signing_alg_values_supported": []string{"ES256"},
		})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		point, _ := key.PublicKey.Bytes()
		answer(w, map[string]any{"keys": []any{map[string]any{
			"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "1", "x": b64(point[1:33]), "y": b64(point[33:]),
		}}})
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		g, ok := p.codes[r.FormValue("code")]
		delete(p.codes, r.FormValue("code"))
		id, secret, _ := r.BasicAuth()
		verifier := sha256.Sum256([]byte(r.FormValue("code_verifier")))
		if !ok || id != "tsugi" || secret != "s3cret" || b64(verifier[:]) != g.challenge || r.FormValue("redirect_uri") != g.redirect {
			w.WriteHeader(http.StatusBadRequest)
			answer(w, map[string]string{"error": "invalid_grant"})
			return
		}
		said := map[string]any{
			"iss": p.web.URL, "aud": "tsugi", "sub": "u1", "nonce": g.nonce, "iat": p.now().Unix(), "exp": p.now().Add(time.Minute).Unix(),
			"preferred_username": "Tanaka.Rin", "name": "田中 倫", "email": "rin@example.org", "email_verified": true, "groups": []string{"everybody", "kernel"},
		}
		maps.Copy(said, p.claims)
		answer(w, map[string]any{"access_token": "a", "token_type": "Bearer", "id_token": p.sign(said)})
	})
	p.web = httptest.NewServer(mux)
	t.Cleanup(p.web.Close)
	return p
}

// sign makes a JWT (RFC 7519) with ES256.
func (p *idp) sign(said map[string]any) string {
	body, err := json.Marshal(said)
	qt.Assert(p.t, qt.IsNil(err))
	text := b64([]byte(`{"alg":"ES256","kid":"1"}`)) + "." + b64(body)
	h := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, p.key, h[:])
	qt.Assert(p.t, qt.IsNil(err))
	sig := make([]byte, 64)
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return text + "." + b64(sig)
}

// browser goes where it is sent, and comes back with a code.
func (p *idp) browser(begun OIDCBegun) OIDCAnswer {
	u, err := url.Parse(begun.URL)
	qt.Assert(p.t, qt.IsNil(err))
	q := u.Query()
	qt.Assert(p.t, qt.Equals(u.Host, strings.TrimPrefix(p.web.URL, "http://")))
	qt.Assert(p.t, qt.Equals(q.Get("client_id")+" "+q.Get("response_type")+" "+q.Get("code_challenge_method"), "tsugi code S256"))
	qt.Assert(p.t, qt.Equals(q.Get("redirect_uri"), "https://patches.example.org:8443"+CallbackPath))
	p.mu.Lock()
	defer p.mu.Unlock()
	c := rand.Text()
	p.codes[c] = grantOf{nonce: q.Get("nonce"), challenge: q.Get("code_challenge"), redirect: q.Get("redirect_uri")}
	return OIDCAnswer{State: q.Get("state"), Code: c, Binding: begun.Binding.Value}
}

func (p *idp) say(claims map[string]any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.claims = claims
}

func (p *idp) away(gone bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = gone
}

// abroad is a world with a provider; change may change it.
func abroad(t testing.TB, change func(*Provider)) (*world, *idp) {
	var p *idp
	w := local(t, func(o *Options) {
		p = newIDP(t, o.Now)
		conf := Provider{ID: "corp", Issuer: p.web.URL, ClientID: "tsugi", ClientSecret: "s3cret"}
		if change != nil {
			change(&conf)
		}
		o.Providers = []Provider{conf}
	})
	return w, p
}

func (w *world) elsewhere(p *idp, who *Caller) (SignedIn, error) {
	w.t.Helper()
	begun, err := w.BeginOIDC(w.ctx(), who, "corp", "/console/machines?tier=beta")
	qt.Assert(w.t, qt.IsNil(err))
	return w.FinishOIDC(w.ctx(), p.browser(begun), here())
}

func provisioning(c *Provider) {
	c.Create = true
	c.Grants = map[string][]authz.Grant{"kernel": {{Role: authz.Author}, {Role: authz.Operator, Groups: []string{"web"}}}, "boss": {{Role: authz.Admin}}}
}

func TestSignInElsewhereIsConnectedFirst(t *testing.T) {
	t.Parallel()
	w, p := abroad(t, nil)
	qt.Check(t, qt.DeepEquals(w.Methods().Providers, []api.SignInProvider{{ID: "corp", Name: "corp"}}))
	_, err := w.elsewhere(p, nil)
	w.refused(err, "TS8217")
	alice, secret := w.person("alice", viewer())
	in, err := w.elsewhere(p, &alice)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(in.User.Name, "alice"))
	in, err = w.elsewhere(p, nil)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(in.User.Name+" "+in.Session.Method+" "+in.ReturnTo, "alice oidc:corp /console/machines?tier=beta"))
	account, err := w.Account(w.ctx(), w.caller(secret))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(account.Identities[0].Subject, "u1"))
	bob, _ := w.person("bob", viewer())
	_, err = w.elsewhere(p, &bob) // one there is one here
	w.refused(err, "TS8217")
	// Its roles here are not the provider's business.
	qt.Check(t, qt.DeepEquals(in.User.Grants, []api.Grant{viewer()}))
	// Connecting is for who proved a moment ago who they are.
	bob.Subject.Fresh = false
	_, err = w.BeginOIDC(w.ctx(), &bob, "corp", "")
	w.refused(err, "TS8206")
	_, err = w.BeginOIDC(w.ctx(), nil, "other", "")
	w.refused(err, "TS8217")
	p.mu.Lock()
	defer p.mu.Unlock()
	qt.Check(t, qt.Equals(p.asked, 1))
}

func TestTheProviderSaysWhoIsWhat(t *testing.T) {
	t.Parallel()
	w, p := abroad(t, provisioning)
	w.person("root", admin())
	in, err := w.elsewhere(p, nil)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(in.User.Name+" "+in.User.Display+" "+in.User.Email, "tanaka.rin 田中 倫 rin@example.org"))
	qt.Check(t, qt.DeepEquals(in.User.Grants, []api.Grant{{Role: "author"}, {Role: "operator", Groups: []string{"web"}}}))
	// At each sign-in, and for the sessions of before too.
	p.say(map[string]any{"groups": "boss"})
	again, err := w.elsewhere(p, nil)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(again.User.ID, in.User.ID))
	qt.Check(t, qt.Equals(w.caller(in.Secret).Role, "admin"))
	p.say(map[string]any{"groups": []any{"nothing", 7}})
	_, err = w.elsewhere(p, nil)
	w.refused(err, "TS8217")
	p.say(map[string]any{"groups": nil})
	_, err = w.elsewhere(p, nil)
	w.refused(err, "TS8217")
	// A name that somebody has is not given away.
	p.say(map[string]any{"sub": "u2", "preferred_username": "root", "email_verified": "false"})
	other, err := w.elsewhere(p, nil)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(other.User.Name+other.User.Email, "root@corp"))
	p.say(map[string]any{"sub": "u3", "preferred_username": "root"})
	_, err = w.elsewhere(p, nil)
	w.refused(err, "TS8217")
	p.say(map[string]any{"sub": "u4", "preferred_username": "", "email": "正@example.org"})
	_, err = w.elsewhere(p, nil)
	w.refused(err, "TS8217")
	// Whoever is disabled here stays out.
	off := true
	_, err = w.ChangeUser(w.ctx(), root(), other.User.ID, api.UserChange{Disabled: &off})
	qt.Assert(t, qt.IsNil(err))
	p.say(map[string]any{"sub": "u2"})
	_, err = w.elsewhere(p, nil)
	w.refused(err, "TS8209")
	qt.Check(t, qt.IsTrue(slices.Contains(w.audited(), "oidc:corp | user.change | tanaka.rin | roles: admin, before: author; operator of web")))
}

func TestAnswersFromElsewhereThatAreRefused(t *testing.T) {
	t.Parallel()
	w, p := abroad(t, provisioning)
	w.person("root", admin())
	begin := func() OIDCBegun {
		begun, err := w.BeginOIDC(w.ctx(), nil, "corp", "")
		qt.Assert(t, qt.IsNil(err))
		return begun
	}
	for name, spoil := range map[string]func(*OIDCAnswer){
		"another browser":   func(a *OIDCAnswer) { a.Binding = "x" },
		"no cookie":         func(a *OIDCAnswer) { a.Binding = "" },
		"another code":      func(a *OIDCAnswer) { a.Code = "x" },
		"an error":          func(a *OIDCAnswer) { a.Error = "access_denied\r\n" },
		"another provider":  func(a *OIDCAnswer) { a.Issuer = "https://evil.example" },
		"a code of another": func(a *OIDCAnswer) { a.Code = p.browser(begin()).Code },
	} {
		a := p.browser(begin())
		spoil(&a)
		_, err := w.FinishOIDC(w.ctx(), a, here())
		qt.Check(t, qt.IsNotNil(err), qt.Commentf("%s", name))
		w.refused(err, "TS8217")
	}
	now := p.now().Unix()
	for name, said := range map[string]map[string]any{
		"another nonce":    {"nonce": "x"},
		"for another":      {"aud": "other"},
		"of another":       {"iss": "https://evil.example"},
		"of yesterday":     {"exp": now - 86400},
		"nobody":           {"sub": ""},
		"no claims at all": {"name": 7},
		"by another":       {"azp": "other"},
		"for two":          {"aud": []string{"tsugi", "other"}},
	} {
		p.say(said)
		_, err := w.elsewhere(p, nil)
		qt.Check(t, qt.IsNotNil(err), qt.Commentf("%s", name))
		w.refused(err, "TS8217")
	}
	p.say(map[string]any{"aud": []string{"tsugi", "other"}, "azp": "tsugi"})
	_, err := w.elsewhere(p, nil)
	qt.Check(t, qt.IsNil(err))
	p.say(nil)
	// Signed with another key.
	own := p.key
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	qt.Assert(t, qt.IsNil(err))
	p.mu.Lock()
	p.key = other
	p.mu.Unlock()
	_, err = w.elsewhere(p, nil)
	w.refused(err, "TS8217")
	p.mu.Lock()
	p.key = own
	p.mu.Unlock()
	// Once, and in time.
	a := p.browser(begin())
	_, err = w.FinishOIDC(w.ctx(), a, here())
	qt.Assert(t, qt.IsNil(err))
	_, err = w.FinishOIDC(w.ctx(), a, here())
	w.refused(err, "TS8227")
	a = p.browser(begin())
	w.clock.pass(oidcTime)
	_, err = w.FinishOIDC(w.ctx(), a, here())
	w.refused(err, "TS8227")
	// A provider that is away.
	gone, p2 := abroad(t, nil)
	p2.away(true)
	_, err = gone.BeginOIDC(w.ctx(), nil, "corp", "")
	gone.refused(err, "TS8218")
	p2.away(false)
	_, err = gone.BeginOIDC(w.ctx(), nil, "corp", "") // not asked again at once
	gone.refused(err, "TS8218")
	gone.clock.pass(askAgain)
	_, err = gone.BeginOIDC(w.ctx(), nil, "corp", "")
	qt.Check(t, qt.IsNil(err))
}

func TestNobodyIsSentElsewhereAfterwards(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"/console/", "/console/machines?tier=beta#x", "/console/a%20b"} {
		qt.Check(t, qt.Equals(localPath(s), s))
	}
	for _, s := range []string{
		"", "/", "https://evil.example/console/", "//evil.example/console/", "/console//evil.example", "/console/../../evil", "/console/%2e%2e/x",
		"/console/\\evil.example", "/console/%5cevil", "/console\t/", "javascript:alert(1)", "/console/%0d%0aSet-Cookie:x%", "/consolex", strings.Repeat("/console/", 200),
	} {
		qt.Check(t, qt.Equals(localPath(s), "/console/"), qt.Commentf("%q", s))
	}
}
