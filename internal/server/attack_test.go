// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/people"
)

// What attackers of such a service try, tried on a real server. CSRF is in
// people_test.go, floods of credentials in robust_test.go.

// TestWordsOfOthersAreOnlyWords: what people and machines write is kept and
// given back as it is, as JSON that no browser takes for a page, and nothing of
// it is a command to the database.
func TestWordsOfOthersAreOnlyWords(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.person("anna", api.Grant{Role: "admin"})
	words := []string{
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `javascript:alert(1)`, `</script><svg/onload=1>`,
		`'; DROP TABLE machines; --`, `' OR '1'='1`, `1); DELETE FROM users; --`, `%' OR name LIKE '%`, `\'; --`, "x\u2028y", `{{7*7}}${7*7}`,
	}
	token := s.token(func(n *api.NewToken) { n.Name = words[0] }).Secret
	for i, w := range words {
		h := s.enroll(token, fmt.Sprint("m", i))
		var m api.Machine
		b.do("PATCH", "/v1/machines/"+h.enrolled.Machine, map[string]any{"group": w}, 200, &m)
		qt.Check(t, qt.Equals(m.Group, w))
		var l api.List[api.Machine]
		b.do("GET", "/v1/machines?group="+url.QueryEscape(w), nil, 200, &l)
		qt.Check(t, qt.HasLen(l.Items, 1), qt.Commentf("%s", w))
		res, body := b.send("GET", "/v1/machines?q="+url.QueryEscape(w), nil)
		qt.Check(t, qt.Equals(res.StatusCode, 200), qt.Commentf("%s", w))
		qt.Check(t, qt.IsNil(json.Unmarshal(body, &l)))
		qt.Check(t, qt.HasLen(l.Items, 0), qt.Commentf("%s is no host's name", w))
		b.do("PUT", "/v1/policies/p"+fmt.Sprint(i), api.Policy{Name: fmt.Sprint("p", i), Exclusions: []api.Exclusion{{CVE: "CVE-2026-0001", Reason: w, Owner: w}}}, 200, nil)
		var a api.Account
		if !strings.Contains(w, "\u2028") {
			b.do("PATCH", "/v1/account", map[string]any{"display": w}, 200, &a)
			qt.Check(t, qt.Equals(a.Display, w))
		}
	}
	for _, path := range []string{"/v1/machines", "/v1/policies", "/v1/audit", "/v1/users", "/v1/account", "/v1/tokens", "/v1/machines/" + url.PathEscape("<script>")} {
		res, _ := b.send("GET", path, nil)
		kind := res.Header.Get("Content-Type")
		qt.Check(t, qt.IsTrue(kind == "application/json" || kind == "application/problem+json"), qt.Commentf("%s: %s", path, kind))
		qt.Check(t, qt.Equals(res.Header.Get("X-Content-Type-Options"), "nosniff"))
		qt.Check(t, qt.IsTrue(strings.Contains(res.Header.Get("Content-Security-Policy"), "default-src 'none'")))
		qt.Check(t, qt.Equals(res.Header.Get("Cache-Control"), "no-store"))
	}
	var users api.List[api.User]
	b.do("GET", "/v1/users", nil, 200, &users) // the table is there
	qt.Check(t, qt.HasLen(users.Items, 1))
	for _, w := range words {
		b.refused("POST", "/v1/sign-in", api.SignIn{Name: w, Password: w}, 401, "TS8207")
		b.refused("POST", "/v1/users", api.NewUser{Name: w, Grants: []api.Grant{}}, 422, "TS8228")
	}
}

// TestAPersonOfAGroupReachesNothingOfOthers tries ids of other groups.
func TestAPersonOfAGroupReachesNothingOfOthers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	tokens := map[string]*api.TokenMade{}
	ids := map[string]string{}
	patch := s.publishVersion(1)
	for _, g := range []string{"web", "db", ""} {
		tokens[g] = s.token(func(n *api.NewToken) { n.Group = g })
		h := s.enroll(tokens[g].Secret, "host-of-"+g)
		ids[g] = h.enrolled.Machine
		_, err := h.Report(t.Context(), []api.Report{{ID: "1", Kind: api.ReportAgent, Kernel: testKernel}})
		qt.Assert(t, qt.IsNil(err))
		h.report.Patch = api.Patch{ID: patch.ID, Name: patch.Name, Version: 1, State: api.Healthy}
		h.checkIn(t)
	}
	s.recount()
	b := s.person("webber", api.Grant{Role: "operator", Groups: []string{"web"}})
	web := "web"
	b.do("GET", "/v1/machines/"+ids["web"], nil, 200, nil)
	b.do("PATCH", "/v1/machines/"+ids["web"], api.MachineChange{Group: &web}, 200, nil)
	for _, g := range []string{"db", ""} {
		id := ids[g]
		b.refused("GET", "/v1/machines/"+id, nil, 404, "TS7605")
		b.refused("GET", "/v1/machines/"+id+"/modules", nil, 404, "TS7605")
		b.refused("GET", "/v1/reports?machine="+id, nil, 404, "TS7605")
		b.refused("PATCH", "/v1/machines/"+id, api.MachineChange{Group: &web}, 404, "TS7605") // theirs, into mine
		b.refused("PATCH", "/v1/machines/"+ids["web"], api.MachineChange{Group: &g}, 403, "TS8203")
		b.refused("DELETE", "/v1/machines/"+id, nil, 404, "TS7605")
		b.refused("DELETE", "/v1/tokens/"+tokens[g].ID, nil, 404, "TS7605")
		b.refused("POST", "/v1/tokens", api.NewToken{Name: "x", Tier: "edge", Group: g}, 403, "TS8203")
	}
	var reports api.List[api.StoredReport]
	b.do("GET", "/v1/reports", nil, 200, &reports)
	qt.Assert(t, qt.HasLen(reports.Items, 1))
	qt.Check(t, qt.Equals(reports.Items[0].Machine, ids["web"]))
	var seen api.List[api.Token]
	b.do("GET", "/v1/tokens", nil, 200, &seen)
	qt.Assert(t, qt.HasLen(seen.Items, 1))
	qt.Check(t, qt.Equals(seen.Items[0].Group, "web"))
	for _, q := range []string{"", "?group=db", "?q=host", "?tier=edge", "?protection=not-covered", "?group="} {
		var l api.List[api.Machine]
		b.do("GET", "/v1/machines"+q, nil, 200, &l)
		for _, m := range l.Items {
			qt.Check(t, qt.Equals(m.Group, "web"), qt.Commentf("%s", q))
		}
	}
	var o api.Overview
	b.do("GET", "/v1/overview", nil, 200, &o)
	qt.Check(t, qt.Equals(o.Machines, 1))
	var kernels api.List[api.TargetInfo]
	b.do("GET", "/v1/targets", nil, 200, &kernels)
	qt.Assert(t, qt.HasLen(kernels.Items, 1))
	qt.Check(t, qt.Equals(kernels.Items[0].Machines, 1))
	var runs api.LivePatch
	b.do("GET", "/v1/livepatches/"+patch.ID, nil, 200, &runs)
	qt.Check(t, qt.DeepEquals(runs.Machines, map[string]int{"healthy": 1}))
	var tiers api.List[api.Tier]
	b.do("GET", "/v1/tiers", nil, 200, &tiers)
	qt.Check(t, qt.Equals(tiers.Items[0].Machines, 1), qt.Commentf("%v", tiers.Items))
	var policies api.List[api.PolicyInfo]
	b.do("GET", "/v1/policies", nil, 200, &policies)
	qt.Assert(t, qt.HasLen(policies.Items, 1))
	qt.Check(t, qt.Equals(policies.Items[0].Machines, 1))
	b.do("POST", "/v1/tokens", api.NewToken{Name: "x", Tier: "edge", Group: "web"}, 201, nil)
	b.do("DELETE", "/v1/machines/"+ids["web"], nil, 204, nil)

	// Nor do two people reach each other's sessions and keys.
	c := s.person("other", api.Grant{Role: "viewer"})
	var mine, own api.List[api.Session]
	c.do("GET", "/v1/account/sessions", nil, 200, &mine)
	b.refused("DELETE", "/v1/account/sessions/"+mine.Items[0].ID, nil, 404, "TS7605")
	var key api.KeyMade
	c.do("POST", "/v1/account/keys", api.NewKey{Name: "k"}, 201, &key)
	b.refused("DELETE", "/v1/account/keys/"+key.ID, nil, 404, "TS7605")
	b.do("GET", "/v1/account/sessions", nil, 200, &own)
	qt.Check(t, qt.HasLen(own.Items, 1))
}

// TestNobodyIsSentElsewhere: where a browser goes after signing in is a page of
// this server, whatever a link says.
func TestNobodyIsSentElsewhere(t *testing.T) {
	t.Parallel()
	var asked []string
	idp := provider(t, &asked)
	s := newSite(t, func(o *Options) {
		o.Providers = []people.Provider{{ID: "corp", Issuer: idp, ClientID: "tsugi"}}
	})
	b := s.browser()
	for _, to := range []string{"https://evil.example/", "//evil.example", `/\evil.example`, "/console/../../evil", "/console/\r\nSet-Cookie: a=b", "javascript:alert(1)", "/console//evil.example"} {
		res, _ := b.send("GET", "/v1/sign-in/oidc/corp?return_to="+url.QueryEscape(to), nil)
		qt.Assert(t, qt.Equals(res.StatusCode, 303))
		qt.Check(t, qt.IsTrue(strings.HasPrefix(res.Header.Get("Location"), idp+"/authorize?")), qt.Commentf("%s", res.Header.Get("Location")))
		qt.Check(t, qt.Equals(res.Header.Get("Set-Cookie")[:len(people.BindingName)], people.BindingName))
	}
	for _, path := range []string{
		"/v1/sign-in/oidc/none", "/v1/sign-in/oidc/callback", "/v1/sign-in/oidc/callback?state=x&code=y", "/v1/sign-in/oidc/callback?error=" + url.QueryEscape("\r\nSet-Cookie: a=b"),
	} {
		res, _ := b.send("GET", path, nil)
		qt.Check(t, qt.Equals(res.StatusCode, 303))
		qt.Check(t, qt.IsTrue(strings.HasPrefix(res.Header.Get("Location"), "/console/sign-in?error=TS82")), qt.Commentf("%s: %s", path, res.Header.Get("Location")))
		for _, c := range res.Cookies() {
			qt.Check(t, qt.Not(qt.Equals(c.Name, "a")))
		}
	}
	// The mux cleans no path by sending a browser on.
	for _, path := range []string{"//evil.example/%2f..", "/v1//evil.example", "/console/..%2f..%2f/evil.example", "/v1/../evil"} {
		res, _ := b.send("GET", path, nil)
		qt.Check(t, qt.Equals(res.Header.Get("Location"), ""), qt.Commentf("%s", path))
	}
}

// provider is as much of an OpenID provider as it takes to be sent to it.
func provider(t *testing.T, asked *[]string) string {
	t.Helper()
	mux := http.NewServeMux()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	qt.Assert(t, qt.IsNil(err))
	issuer := "http://" + l.Addr().String()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		*asked = append(*asked, r.URL.Path)
		_ = json.NewEncoder(w).Encode(map[string]any{
			"issuer": issuer, "authorization_endpoint": issuer + "/authorize", "token_endpoint": issuer + "/token", "jwks_uri": issuer + "/keys",
			"id_token_signing_alg_values_supported": []string{"RS256"},
		})
	})
	web := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() { _ = web.Serve(l); close(done) }()
	t.Cleanup(func() { _ = web.Close(); <-done; http.DefaultTransport.(*http.Transport).CloseIdleConnections() })
	return issuer
}

// TestPathsAndHeadersOfAttackers: what stands in a path stays a name, and what
// stands in a header ends with its line.
func TestPathsAndHeadersOfAttackers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.person("anna", api.Grant{Role: "admin"})
	for _, path := range []string{
		"/tuf/targets/..%2f..%2fkeys%2ftargets.pem", "/tuf/metadata/..%2f..%2fdb", "/tuf/targets/%2e%2e/%2e%2e/db", "/console/..%2f..%2fetc%2fpasswd",
		"/console/%2e%2e/%2e%2e/etc/passwd", "/v1/machines/..%2f..%2fusers", "/v1/jobs/..%2f..%2f..%2fdb/artifact", "/v1/livepatches/..%2f..%2fetc%2fpasswd/proof",
	} {
		res, body := b.send("GET", path, nil)
		page := strings.HasPrefix(path, "/console/") && strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") // the console's own first page
		qt.Check(t, qt.IsTrue(page || res.StatusCode == 404 || res.StatusCode == 422), qt.Commentf("%s: %d %s", path, res.StatusCode, body))
		qt.Check(t, qt.IsFalse(strings.Contains(string(body), "PRIVATE KEY") || strings.Contains(string(body), "root:x")))
	}
	// A user's name, an agent and an address that hold line breaks.
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.web.URL, "http://"))
	qt.Assert(t, qt.IsNil(err))
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "GET /v1/whoami HTTP/1.1\r\nHost: x\r\nX-A: b\rSet-Cookie: a=b\r\nAuthorization: Bearer x\r\nConnection: close\r\n\r\n")
	qt.Assert(t, qt.IsNil(err))
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	qt.Assert(t, qt.IsNil(err))
	defer res.Body.Close()
	qt.Check(t, qt.IsTrue(res.StatusCode == 400 || res.StatusCode == 401))
	qt.Check(t, qt.Equals(res.Header.Get("Set-Cookie"), ""))
	b.refused("PATCH", "/v1/account", map[string]any{"display": "a\r\nb"}, 422, "TS8228")
}

// TestBodiesThatAreTooLargeOrTooSlow: nobody holds memory, or a connection, for
// longer than is needed to be answered.
func TestBodiesThatAreTooLargeOrTooSlow(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.person("anna", api.Grant{Role: "admin"})
	// Not by much: of a far larger one the server would hang up in the middle, which
	// a client may see in the place of the answer.
	big := strings.Repeat("x", api.MaxBody)
	for _, path := range []string{"/v1/sign-in", "/v1/links/redeem", "/v1/users", "/v1/sign-in/passkey/finish", "/v1/approvals"} {
		b.refused("POST", path, map[string]string{"name": big}, 413, "TS7607")
	}
	b.refused("POST", "/v1/sign-in", map[string]string{"name": "anna", "password": strings.Repeat("x", 5000)}, 422, "TS7601")
	deep := strings.Repeat(`{"credential":`, 9000) + "1" + strings.Repeat("}", 9000)
	res, _ := b.raw("POST", "/v1/sign-in/passkey/finish", "application/json", []byte(deep))
	qt.Check(t, qt.IsTrue(res.StatusCode >= 400 && res.StatusCode < 500))

	web := s.HTTP()
	qt.Check(t, qt.IsTrue(web.ReadHeaderTimeout > 0 && web.ReadHeaderTimeout <= 10*time.Second))
	qt.Check(t, qt.IsTrue(web.ReadTimeout > 0 && web.WriteTimeout > 0 && web.IdleTimeout > 0 && web.MaxHeaderBytes <= 64<<10))
	// A header that comes a byte at a time, with the limit made short.
	slow := s.HTTP()
	slow.ReadHeaderTimeout = 200 * time.Millisecond
	l, err := net.Listen("tcp", "127.0.0.1:0")
	qt.Assert(t, qt.IsNil(err))
	done := make(chan struct{})
	go func() { _ = slow.Serve(l); close(done) }()
	defer func() { _ = slow.Close(); <-done }()
	conn, err := net.Dial("tcp", l.Addr().String())
	qt.Assert(t, qt.IsNil(err))
	defer conn.Close()
	_, err = conn.Write([]byte("GET /v1/whoami HTTP/1.1\r\nHost: x\r\nX-Slow: "))
	qt.Assert(t, qt.IsNil(err))
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	_, err = bufio.NewReader(conn).ReadString(0)
	qt.Check(t, qt.IsNotNil(err))
	e, timeout := err.(net.Error) //nolint:errorlint // of the connection itself
	qt.Check(t, qt.IsFalse(timeout && e.Timeout()), qt.Commentf("the server did not hang up"))
	// Headers without an end.
	req, err := http.NewRequestWithContext(t.Context(), "GET", s.web.URL+"/v1/whoami", nil)
	qt.Assert(t, qt.IsNil(err))
	req.Header.Set("X-Long", strings.Repeat("y", 1<<20))
	tr := &http.Transport{DisableKeepAlives: true}
	if res, err := tr.RoundTrip(req); err == nil { // it may hang up before all is sent
		_ = res.Body.Close()
		qt.Check(t, qt.Equals(res.StatusCode, http.StatusRequestHeaderFieldsTooLarge))
	}
}

// TestGuessingIsLimitedByAddressAndByUser: a flood of wrong passwords is
// refused without being looked at, and does not keep out who has a session.
func TestGuessingIsLimitedByAddressAndByUser(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.person("anna", api.Grant{Role: "admin"})
	words := map[string]int{}
	for i := range 40 {
		res, body := b.send("POST", "/v1/sign-in", api.SignIn{Name: fmt.Sprint("user", i), Password: "wrong wrong wrong"})
		var e api.Error
		qt.Assert(t, qt.IsNil(json.Unmarshal(body, &e)))
		words[fmt.Sprint(res.StatusCode, " ", e.Code)]++
	}
	qt.Check(t, qt.Equals(words["401 TS8207"]+words["429 TS7608"], 40), qt.Commentf("%v", words))
	qt.Check(t, qt.IsTrue(words["429 TS7608"] >= 15), qt.Commentf("%v", words))
	b.do("GET", "/v1/account", nil, 200, nil)
	s.shift.Add(int64(5 * time.Minute))
	b.do("POST", "/v1/sign-in", api.SignIn{Name: "anna", Password: goodPassword}, 200, nil)
	for range 5 {
		b.refused("POST", "/v1/sign-in", api.SignIn{Name: "anna", Password: "wrong wrong wrong"}, 401, "TS8207")
	}
	b.refused("POST", "/v1/sign-in", api.SignIn{Name: "anna", Password: goodPassword}, 429, "TS8208") // the user is locked, right or wrong
}
