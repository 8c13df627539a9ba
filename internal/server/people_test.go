// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"mime/multipart"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
)

const goodPassword = "correct horse battery"

// browser is a person's: it keeps the cookie of a session and sends what
// browsers send. Jars keep such cookies from http, which tests speak.
type browser struct {
	t      testing.TB
	url    string
	cookie *http.Cookie
	header http.Header
}

func (s *site) browser() *browser {
	return &browser{t: s.t, url: s.web.URL, header: http.Header{"Sec-Fetch-Site": {"same-origin"}}}
}

// do asks for something and decodes what comes, which must have a status. It
// returns what came with it.
func (b *browser) do(method, path string, in any, status int, out any) *http.Response {
	b.t.Helper()
	res, body := b.send(method, path, in)
	qt.Assert(b.t, qt.Equals(res.StatusCode, status), qt.Commentf("%s %s: %s", method, path, body))
	if out != nil {
		qt.Assert(b.t, qt.IsNil(json.Unmarshal(body, out)), qt.Commentf("%s", body))
	}
	return res
}

func (b *browser) send(method, path string, in any) (*http.Response, []byte) {
	b.t.Helper()
	var text []byte
	kind := ""
	if in != nil {
		var err error
		text, err = json.Marshal(in)
		qt.Assert(b.t, qt.IsNil(err))
		kind = "application/json"
	}
	return b.raw(method, path, kind, text)
}

// raw sends a body as it is.
func (b *browser) raw(method, path, kind string, text []byte) (*http.Response, []byte) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.url+path, bytes.NewReader(text))
	qt.Assert(b.t, qt.IsNil(err))
	for k, v := range b.header {
		req.Header[k] = v
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	if b.cookie != nil {
		req.AddCookie(&http.Cookie{Name: b.cookie.Name, Value: b.cookie.Value})
	}
	tr := &http.Transport{DisableKeepAlives: true}
	res, err := tr.RoundTrip(req)
	for range 5 {
		// A server that refuses a body before its end hangs up, and on a busy
		// machine a client may see that in the place of the answer.
		if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
			break
		}
		req.Body, err = req.GetBody()
		qt.Assert(b.t, qt.IsNil(err))
		res, err = tr.RoundTrip(req)
	}
	qt.Assert(b.t, qt.IsNil(err))
	defer res.Body.Close()
	var body bytes.Buffer
	_, err = body.ReadFrom(res.Body)
	qt.Assert(b.t, qt.IsNil(err))
	for _, c := range res.Cookies() {
		if c.Name != api.SessionCookie {
			continue
		}
		qt.Check(b.t, qt.IsTrue(c.Secure && c.HttpOnly && c.Path == "/" && c.Domain == "" && c.SameSite == http.SameSiteLaxMode), qt.Commentf("%s", c.Raw))
		b.cookie = c
		if c.MaxAge < 0 {
			b.cookie = nil
		}
	}
	return res, body.Bytes()
}

// refused asserts the status and the code of what is answered.
func (b *browser) refused(method, path string, in any, status int, c string) {
	b.t.Helper()
	res, body := b.send(method, path, in)
	var e api.Error
	qt.Assert(b.t, qt.IsNil(json.Unmarshal(body, &e)), qt.Commentf("%s", body))
	qt.Check(b.t, qt.Equals(res.StatusCode, status), qt.Commentf("%s %s: %s", method, path, body))
	qt.Check(b.t, qt.Equals(string(e.Code), c), qt.Commentf("%s %s: %s", method, path, body))
}

func form(t testing.TB, parts map[string][]byte) (kind string, body []byte) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for name, text := range parts {
		p, err := w.CreateFormFile(name, name)
		qt.Assert(t, qt.IsNil(err))
		_, err = p.Write(text)
		qt.Assert(t, qt.IsNil(err))
	}
	qt.Assert(t, qt.IsNil(w.Close()))
	return w.FormDataContentType(), b.Bytes()
}

func secretOf(link string) string {
	_, secret, _ := strings.Cut(link, "#")
	return secret
}

// person makes a user by the API and signs them in by their link.
func (s *site) person(name string, grants ...api.Grant) *browser {
	s.t.Helper()
	b, made := s.browser(), api.UserMade{}
	if grants == nil {
		grants = []api.Grant{}
	}
	root := s.browser()
	root.header.Set("Authorization", "Bearer "+s.secret)
	root.do("POST", "/v1/users", api.NewUser{Name: name, Grants: grants}, 201, &made)
	b.do("POST", "/v1/links/redeem", api.RedeemLink{Secret: secretOf(made.Link), Password: goodPassword}, 200, nil)
	qt.Assert(s.t, qt.IsNotNil(b.cookie))
	return b
}

func TestWhatAPageAsksByItselfIsNoUseOfASession(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	viewer := api.Grant{Role: "viewer"}
	away, here := s.person("away", viewer), s.person("here", viewer)
	away.header.Set(api.BackgroundHeader, "1")
	for range 2 {
		s.shift.Add(int64(7 * time.Hour))
		here.do("GET", "/v1/account", nil, 200, nil)
	}
	away.refused("GET", "/v1/account", nil, 401, "TS8201")
}

func TestAPersonComesInByALinkAndSignsInAndOut(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	root := s.browser()
	root.header.Set("Authorization", "Bearer "+s.secret)
	var made api.UserMade
	root.do("POST", "/v1/users", api.NewUser{Name: "alice", Display: "Alice", Grants: []api.Grant{{Role: "operator"}}}, 201, &made)
	qt.Check(t, qt.IsTrue(strings.HasPrefix(made.Link, s.web.URL+"/console/link#")))

	b := s.browser()
	var shown api.LinkShown
	b.do("POST", "/v1/links/look", api.LookAtLink{Secret: secretOf(made.Link)}, 200, &shown)
	qt.Check(t, qt.DeepEquals(shown, api.LinkShown{Name: "alice", Purpose: "welcome", Password: true, Expires: made.Expires}))
	b.refused("GET", "/v1/account", nil, 401, "TS7603")
	b.refused("POST", "/v1/links/redeem", api.RedeemLink{Secret: secretOf(made.Link), Password: "short"}, 422, "TS8213")
	var a api.Account
	b.do("POST", "/v1/links/redeem", api.RedeemLink{Secret: secretOf(made.Link), Password: goodPassword}, 200, &a)
	qt.Check(t, qt.Equals(a.Name, "alice"))
	qt.Check(t, qt.IsTrue(a.Fresh && a.Session.Current && a.Session.Method == "link"))
	qt.Check(t, qt.SliceContains(a.Permissions, "machines"))
	b.refused("POST", "/v1/links/redeem", api.RedeemLink{Secret: secretOf(made.Link), Password: goodPassword}, 422, "TS8212")

	var l api.List[api.Machine]
	b.do("GET", "/v1/machines", nil, 200, &l)
	b.refused("POST", "/v1/tiers", api.NewTier{Name: "x"}, 403, "TS8202")
	b.do("PATCH", "/v1/account", api.AccountChange{Settings: &api.AccountSettings{Language: "ja"}}, 200, &a)
	qt.Check(t, qt.Equals(a.Settings.Language, "ja"))
	var who api.Whoami
	b.do("GET", "/v1/whoami", nil, 200, &who)
	qt.Check(t, qt.Equals(who.Name+" "+who.Role, "alice operator"))

	old := *b
	b.do("POST", "/v1/sign-out", nil, 204, nil)
	qt.Check(t, qt.IsNil(b.cookie))
	old.refused("GET", "/v1/account", nil, 401, "TS8201")
	b.refused("POST", "/v1/sign-in", api.SignIn{Name: "alice", Password: "not that one at all"}, 401, "TS8207")
	b.refused("POST", "/v1/sign-in", api.SignIn{Name: "mallory", Password: goodPassword}, 401, "TS8207")
	b.do("POST", "/v1/sign-in", api.SignIn{Name: "Alice", Password: goodPassword}, 200, &a)
	qt.Check(t, qt.Equals(a.Session.Method, "password"))

	var made2 api.KeyMade
	b.do("POST", "/v1/account/keys", api.NewKey{Name: "laptop", Scopes: []string{"look"}}, 201, &made2)
	key, err := s.client(made2.Secret).Whoami(t.Context())
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(key.Name, "alice/laptop"))
}

func TestAnotherSitesPageChangesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.person("alice", api.Grant{Role: "admin"})
	for name, h := range map[string]http.Header{
		"another site":          {"Sec-Fetch-Site": {"cross-site"}, "Origin": {"https://evil.example"}},
		"a sibling host":        {"Sec-Fetch-Site": {"same-site"}},
		"an old browser":        {"Origin": {"https://evil.example"}},
		"a sandboxed page":      {"Origin": {"null"}},
		"a name that begins so": {"Origin": {s.web.URL + ".evil.example"}},
	} {
		t.Run(name, func(t *testing.T) {
			evil := *b
			evil.t, evil.header = t, h
			evil.refused("POST", "/v1/tiers", api.NewTier{Name: "evil"}, 403, "TS8229")
			evil.refused("POST", "/v1/sign-out", nil, 403, "TS8229")
			evil.refused("POST", "/v1/sign-in", api.SignIn{Name: "alice", Password: goodPassword}, 403, "TS8229")
		})
	}
	b.do("GET", "/v1/account", nil, 200, nil)
	b.header = http.Header{"Origin": {s.web.URL}} // an old browser, on our own page
	b.do("POST", "/v1/tiers", api.NewTier{Name: "mine"}, 201, nil)
}
