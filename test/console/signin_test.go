// SPDX-License-Identifier: Apache-2.0

package console

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
)

// TestSignIn has a browser come in with a passkey and by an OpenID provider.
// Browsers have passkeys only for names: the server is that of localhost.
func TestSignIn(t *testing.T) {
	web := needBrowser(t)
	t.Parallel()
	p := newProvider(t)
	const fresh = "60" // less can't be set
	s := newServer(t, "localhost",
		"TSUGI_SERVER_SIGN_IN_FRESH="+fresh+"s",
		"TSUGI_SERVER_OIDC_ISSUER="+p.web.URL, "TSUGI_SERVER_OIDC_CLIENT_ID=tsugi", "TSUGI_SERVER_OIDC_CLIENT_SECRET=s3cret",
		"TSUGI_SERVER_OIDC_NAME=The Provider", "TSUGI_SERVER_OIDC_ROLES=kernel=operator", "TSUGI_SERVER_OIDC_CREATE=yes",
	)
	drive(t, web, []string{"TSUGI_TOKEN=" + s.token, "TSUGI_PROVIDER=" + p.web.URL, "TSUGI_FRESH=" + fresh}, "signin.mjs", s.url)
}

// provider is an OpenID provider in this process, as a browser and a server
// meet it: a page with a link back, and tokens for codes (RFC 6749, 7636).
type provider struct {
	t      testing.TB
	web    *httptest.Server
	key    *ecdsa.PrivateKey
	mu     sync.Mutex
	codes  map[string]url.Values // what was asked for
	groups string
}

func newProvider(t testing.TB) *provider {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	qt.Assert(t, qt.IsNil(err))
	p := &provider{t: t, key: key, codes: map[string]url.Values{}, groups: "everybody kernel"}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{
			"issuer": p.web.URL, "authorization_endpoint": p.web.URL + "/authorize", "token_endpoint": p.web.URL + "/token",
			"jwks_uri": p.web.URL + "/keys", "id_token_signing_alg_values_supported": []string{"ES256"},
		})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		point, _ := key.PublicKey.Bytes()
		answer(w, map[string]any{"keys": []any{map[string]string{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "1", "x": b64(point[1:33]), "y": b64(point[33:])}}})
	})
	mux.HandleFunc("GET /be", func(_ http.ResponseWriter, r *http.Request) { p.groups = r.FormValue("groups") })
	mux.HandleFunc("GET /authorize", p.authorize)
	mux.HandleFunc("POST /token", p.token)
	p.web = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(p.web.Close)
	return p
}

// authorize shows a page: whoever goes on is sent back with a code.
func (p *provider) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	back, err := url.Parse(q.Get("redirect_uri"))
	if err != nil || q.Get("client_id") != "tsugi" || q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" {
		http.Error(w, "not as agreed", http.StatusBadRequest)
		return
	}
	code := rand.Text()
	p.codes[code] = q
	back.RawQuery = url.Values{"state": {q.Get("state")}, "code": {code}}.Encode()
	w.Header().Set("Content-Type", "text/html")
	fmt.Fprintf(w, `<link rel=icon href="data:,"><h1>The provider</h1><a href="%s">Go on</a>`, html.EscapeString(back.String()))
}

func (p *provider) token(w http.ResponseWriter, r *http.Request) {
	asked, ok := p.codes[r.FormValue("code")]
	delete(p.codes, r.FormValue("code"))
	id, secret, _ := r.BasicAuth()
	verifier := sha256.Sum256([]byte(r.FormValue("code_verifier")))
	if !ok || id != "tsugi" || secret != "s3cret" || b64(verifier[:]) != asked.Get("code_challenge") || r.FormValue("redirect_uri") != asked.Get("redirect_uri") {
		w.WriteHeader(http.StatusBadRequest)
		answer(w, map[string]string{"error": "invalid_grant"})
		return
	}
	now := time.Now().Unix()
	answer(w, map[string]any{"access_token": "a", "token_type": "Bearer", "id_token": p.sign(map[string]any{
		"iss": p.web.URL, "aud": "tsugi", "sub": "u1" + p.groups, "nonce": asked.Get("nonce"), "iat": now, "exp": now + 60,
		"preferred_username": "tanaka.rin", "name": "田中 倫", "groups": strings.Fields(p.groups),
	})})
}

// sign makes a JWT (RFC 7519) with ES256.
func (p *provider) sign(said map[string]any) string {
	body, err := json.Marshal(said)
	qt.Check(p.t, qt.IsNil(err))
	text := b64([]byte(`{"alg":"ES256","kid":"1"}`)) + "." + b64(body)
	h := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, p.key, h[:])
	qt.Check(p.t, qt.IsNil(err))
	sig := make([]byte, 64)
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return text + "." + b64(sig)
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}
