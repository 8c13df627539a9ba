// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
)

func problemIn(t *testing.T, res *http.Response, body []byte) api.Error {
	t.Helper()
	qt.Check(t, qt.Equals(res.Header.Get("Content-Type"), "application/problem+json"), qt.Commentf("%s", body))
	var e api.Error
	qt.Assert(t, qt.IsNil(json.Unmarshal(body, &e)), qt.Commentf("%s", body))
	qt.Check(t, qt.Equals(e.Status, res.StatusCode))
	qt.Check(t, qt.IsTrue(e.Code != "" && e.Title != "" && e.Fix != ""), qt.Commentf("%s", body))
	return e
}

func TestEveryErrorIsAProblem(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	machine := s.enroll(s.token().Secret, "a").enrolled.Credential
	for _, c := range []struct {
		name, method, path, credential, kind, body string
		status                                     int
		code                                       string
	}{
		{"a path that nothing has", "GET", "/nothing/here", "", "", "", 404, "TS7605"},
		{"a path that is not clean", "GET", "/v1/../etc/passwd", "", "", "", 404, "TS7605"},
		{"a path with two slashes", "GET", "//v1/tokens", "", "", "", 404, "TS7605"},
		{"a method that a path has not", "PUT", "/v1/enroll", "", "", "", 405, "TS7606"},
		{"a method that no path has", "BREW", "/v1/machines", "", "", "", 405, "TS7606"},
		{"no credential", "GET", "/v1/machines", "", "", "", 401, "TS7603"},
		{"a credential that is cut", "GET", "/v1/machines", "tso_abc", "", "", 401, "TS7603"},
		{"an operator's as a machine's", "POST", "/v1/machine/check-in", s.secret, "", "{}", 401, "TS7603"},
		{"a machine's as an operator's", "GET", "/v1/machines", machine, "", "", 401, "TS7603"},
		{"a body that is no JSON", "POST", "/v1/machine/check-in", machine, "application/json", "{", 422, "TS7601"},
		{"a body of two values", "POST", "/v1/machine/check-in", machine, "application/json", "{}{}", 422, "TS7601"},
		{"a field that nobody knows", "POST", "/v1/machine/check-in", machine, "application/json", `{"agentt":"1"}`, 422, "TS7601"},
		{"a field of another type", "POST", "/v1/machine/check-in", machine, "application/json", `{"kernel":{"release":5}}`, 422, "TS7601"},
		{"bytes that are not UTF-8", "POST", "/v1/machine/check-in", machine, "application/json", "{\"agent\":\"\xff\"}", 422, "TS7601"},
		{"an empty check-in", "POST", "/v1/machine/check-in", machine, "application/json", `{}`, 422, "TS7601"},
		{"no reports", "POST", "/v1/machine/reports", machine, "application/json", `{"reports":[]}`, 422, "TS7601"},
		{"an operation's body that is no JSON", "POST", "/v1/tokens", s.secret, "application/json", "{", 400, "TS7601"},
		{"an operation's field that is wrong", "POST", "/v1/tokens", s.secret, "application/json", `{"name":"x","limit":-1}`, 422, "TS7601"},
		{"a query that nobody knows", "GET", "/v1/machines?colour=red", s.secret, "", "", 422, "TS7601"},
		{"a number that is none", "GET", "/v1/machines?limit=many", s.secret, "", "", 422, "TS7601"},
		{"a form that is none", "POST", "/v1/livepatches", s.secret, "application/json", "{}", 422, "TS7601"},
		{"a file that is not there", "GET", "/tuf/metadata/99.root.json", "", "", "", 404, "TS7605"},
		{"a file with a strange name", "GET", "/tuf/metadata/%2e%2e%2fkeys", "", "", "", 404, "TS7605"},
		{"a target outside", "GET", "/tuf/targets/edge/%2e%2e/%2e%2e/artifacts/x", "", "", "", 404, "TS7605"},
		{"a CA that there is none of", "GET", "/v1/ca.pem", "", "", "", 404, "TS7605"},
	} {
		t.Run(c.name, func(t *testing.T) {
			res, body := do(t, c.method, s.web.URL+c.path, c.credential, c.kind, []byte(c.body))
			qt.Check(t, qt.Equals(res.StatusCode, c.status), qt.Commentf("%s", body))
			e := problemIn(t, res, body)
			qt.Check(t, qt.Equals(string(e.Code), c.code), qt.Commentf("%s", body))
			qt.Check(t, qt.Equals(res.Header.Get("X-Content-Type-Options"), "nosniff"))
			if res.StatusCode == 401 {
				qt.Check(t, qt.StringContains(res.Header.Get("WWW-Authenticate"), "Bearer"))
			}
			if res.StatusCode == 405 {
				qt.Check(t, qt.Not(qt.Equals(res.Header.Get("Allow"), "")))
			}
		})
	}
}

func TestBodiesAreBounded(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	machine := s.enroll(s.token().Secret, "a").enrolled.Credential
	large := []byte(`{"agent":"` + strings.Repeat("x", api.MaxBody) + `"}`)
	for _, path := range []string{"/v1/machine/check-in", "/v1/machine/reports"} {
		res, body := do(t, "POST", s.web.URL+path, machine, "application/json", large)
		qt.Check(t, qt.Equals(res.StatusCode, 413))
		qt.Check(t, qt.Equals(string(problemIn(t, res, body).Code), "TS7607"))
	}
	res, body := do(t, "POST", s.web.URL+"/v1/tokens", s.secret, "application/json", large)
	qt.Check(t, qt.Equals(res.StatusCode, 413))
	qt.Check(t, qt.Equals(string(problemIn(t, res, body).Code), "TS7607"))
	res, body = do(t, "POST", s.web.URL+"/v1/enroll", "", "application/json", large)
	qt.Check(t, qt.Equals(res.StatusCode, 413))
	qt.Check(t, qt.Equals(string(problemIn(t, res, body).Code), "TS7607"))

	// A body whose length nobody announced is cut too.
	req, err := http.NewRequestWithContext(t.Context(), "POST", s.web.URL+"/v1/machine/check-in", io.MultiReader(bytes.NewReader(large)))
	qt.Assert(t, qt.IsNil(err))
	req.Header.Set("Authorization", "Bearer "+machine)
	got, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	qt.Assert(t, qt.IsNil(err))
	got.Body.Close()
	qt.Check(t, qt.Equals(got.StatusCode, 413))

	res, _ = do(t, "GET", s.web.URL+"/v1/machines?q="+strings.Repeat("x", 30<<10), s.secret, "", nil)
	qt.Check(t, qt.Equals(res.StatusCode, 431))
}

func TestWhoFailsTooOftenIsToldToWait(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	// Longer than all these questions take, on whatever machine.
	s.failures = newFailures(Rate{Burst: failBurst, Every: time.Minute})
	good := s.enroll(s.token().Secret, "a")
	limited := func(method, path, credential, body string) bool {
		for range failBurst + 5 {
			res, text := do(t, method, s.web.URL+path, credential, "application/json", []byte(body))
			if res.StatusCode == http.StatusTooManyRequests {
				qt.Check(t, qt.Equals(string(problemIn(t, res, text).Code), "TS7608"))
				qt.Check(t, qt.Not(qt.Equals(res.Header.Get("Retry-After"), "")))
				return true
			}
		}
		return false
	}
	qt.Check(t, qt.IsTrue(limited("GET", "/v1/machines", api.NewCredential(api.OperatorCredential), "")))
	qt.Check(t, qt.IsTrue(limited("POST", "/v1/machine/check-in", api.NewCredential(api.MachineCredential), "{}")))
	in, _ := enrollment(t, api.NewCredential(api.TokenCredential), "x")
	b, err := json.Marshal(in)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(limited("POST", "/v1/enroll", "", string(b))))

	qt.Check(t, qt.IsNotNil(good.checkIn(t))) // who is known is answered
	_, err = s.admin.Whoami(t.Context())
	qt.Check(t, qt.IsNil(err))

	s.shift.Store(int64(time.Minute))
	res, _ := do(t, "GET", s.web.URL+"/v1/machines", api.NewCredential(api.OperatorCredential), "", nil)
	qt.Check(t, qt.Equals(res.StatusCode, 401))
}

func TestADefectIsOneClearAnswer(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /panics", func(http.ResponseWriter, *http.Request) { panic("oh no") })
	web := httptest.NewServer(s.outer(mux))
	defer web.Close()
	res, body := do(t, "GET", web.URL+"/panics", "", "", nil)
	qt.Check(t, qt.Equals(res.StatusCode, 500))
	qt.Check(t, qt.Equals(string(problemIn(t, res, body).Code), "TS7609"))
	qt.Check(t, qt.IsFalse(bytes.Contains(body, []byte("oh no"))))
}

// TestASlowClientIsCutOff: who sends a byte now and then holds a connection
// for a bounded time.
func TestASlowClientIsCutOff(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	web := httptest.NewUnstartedServer(nil)
	web.Config = s.HTTP()
	web.Config.ReadTimeout = 500 * time.Millisecond
	web.Start()
	defer web.Close()
	conn, err := net.Dial("tcp", web.Listener.Addr().String())
	qt.Assert(t, qt.IsNil(err))
	defer conn.Close()
	credential := s.enroll(s.token().Secret, "a").enrolled.Credential
	fmt.Fprintf(conn, "POST /v1/machine/check-in HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 1000\r\n\r\n{", credential)
	answer, _ := io.ReadAll(conn) // it ends: that is what is tested
	if len(answer) > 0 {          // on a busy machine the time may be over before the header was read
		qt.Check(t, qt.StringContains(string(answer), "408"))
		qt.Check(t, qt.StringContains(string(answer), "TS7601"))
	}
}

func TestStaticFilesAreCacheable(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.publishVersion(1)
	get := func(path string, header ...string) (*http.Response, []byte) {
		req, err := http.NewRequestWithContext(t.Context(), "GET", s.web.URL+path, nil)
		qt.Assert(t, qt.IsNil(err))
		for i := 0; i+1 < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		qt.Assert(t, qt.IsNil(err))
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		qt.Assert(t, qt.IsNil(err))
		return res, b
	}
	res, b := get("/tuf/metadata/timestamp.json")
	qt.Check(t, qt.Equals(res.StatusCode, 200))
	qt.Check(t, qt.Equals(res.Header.Get("Cache-Control"), "no-cache"))
	qt.Check(t, qt.IsTrue(json.Valid(b)))
	res, _ = get("/tuf/metadata/timestamp.json", "If-None-Match", res.Header.Get("ETag"))
	qt.Check(t, qt.Equals(res.StatusCode, 304))
	res, b = get("/tuf/metadata/1.root.json")
	qt.Check(t, qt.DeepEquals(b, s.root))
	qt.Check(t, qt.StringContains(res.Header.Get("Cache-Control"), "immutable"))
	res, _ = do(t, "HEAD", s.web.URL+"/tuf/metadata/1.root.json", "", "", nil)
	qt.Check(t, qt.Equals(res.ContentLength, int64(len(s.root))))

	var path string
	for info, err := range s.files.List(t.Context(), "tuf/targets/edge/") {
		qt.Assert(t, qt.IsNil(err))
		if strings.HasSuffix(info.Name, ".tsugi.age") {
			path = "/" + info.Name
		}
	}
	res, whole := get(path)
	qt.Check(t, qt.Equals(res.StatusCode, 200), qt.Commentf("%s", path))
	qt.Check(t, qt.StringContains(res.Header.Get("Cache-Control"), "immutable"))
	res, part := get(path, "Range", "bytes=100-199")
	qt.Check(t, qt.Equals(res.StatusCode, 206))
	qt.Check(t, qt.DeepEquals(part, whole[100:200]))
}

func TestTheAddressOfAClient(t *testing.T) {
	t.Parallel()
	s := &Server{opts: Options{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}}
	for _, c := range []struct{ remote, forwarded, want string }{
		{"192.0.2.1:5", "", "192.0.2.1"},
		{"192.0.2.1:5", "198.51.100.7", "192.0.2.1"}, // not a proxy of ours: its word is nothing
		{"10.0.0.1:5", "198.51.100.7", "198.51.100.7"},
		{"10.0.0.1:5", "203.0.113.9, 198.51.100.7, 10.0.0.2", "198.51.100.7"}, // what the client wrote itself is left of that
		{"10.0.0.1:5", "garbage", "10.0.0.1"},
		{"10.0.0.1:5", "", "10.0.0.1"},
		{"[::ffff:10.0.0.1]:5", "2001:db8::1", "2001:db8::1"},
		{"nonsense", "", "invalid IP"},
	} {
		r := &http.Request{RemoteAddr: c.remote, Header: http.Header{}}
		if c.forwarded != "" {
			r.Header.Set("X-Forwarded-For", c.forwarded)
		}
		qt.Check(t, qt.Equals(s.clientAddr(r).String(), c.want), qt.Commentf("%+v", c))
	}
	qt.Check(t, qt.Equals(network(netip.MustParseAddr("2001:db8:1:2:3:4:5:6")), netip.MustParseAddr("2001:db8:1:2::")))
}

func TestFailuresAreForgottenInTheirOrder(t *testing.T) {
	t.Parallel()
	f, now := newFailures(Rate{Burst: failBurst, Every: failEvery}), time.Now()
	bad := netip.MustParseAddr("192.0.2.1")
	for range failBurst {
		qt.Check(t, qt.IsFalse(f.exhausted(bad, now)))
		f.failed(bad, now)
	}
	qt.Check(t, qt.IsTrue(f.exhausted(bad, now)))
	qt.Check(t, qt.IsFalse(f.exhausted(bad, now.Add(2*time.Second))))
	for i := range failHosts {
		f.failed(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), now)
	}
	qt.Check(t, qt.HasLen(f.byKey, failHosts))
	qt.Check(t, qt.IsFalse(f.exhausted(bad, now)))
}

func TestHealthReadinessAndMetrics(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	token := s.token().Secret
	a := s.enroll(token, "a")
	a.checkIn(t)
	a.checkIn(t)
	get := func(path string) (int, string) {
		res, b := do(t, "GET", s.web.URL+path, "", "", nil)
		return res.StatusCode, string(b)
	}
	code, body := get("/healthz")
	qt.Check(t, qt.Equals(fmt.Sprint(code, body), "200ok\n"))
	code, body = get("/readyz")
	qt.Check(t, qt.Equals(fmt.Sprint(code, body), "200ready\n"))
	_, body = get("/metrics")
	for _, line := range []string{
		`tsugi_check_ins_total{outcome="answered"} 1`, `tsugi_check_ins_total{outcome="unchanged"} 1`, `tsugi_check_ins_total{outcome="stored"} 1`,
		`tsugi_enrollments_total{outcome="enrolled"} 1`, `tsugi_machines{protection="not-covered"} 1`, `tsugi_waiters 0`,
		`tsugi_tuf_expiry_seconds{role="timestamp"}`, `tsugi_jobs{`, `tsugi_feed_age_seconds`,
		`tsugi_http_request_seconds_count{method="POST",route="/v1/machine/check-in",status="304"} 1`,
	} {
		qt.Check(t, qt.IsTrue(strings.Contains(body, line)), qt.Commentf("%s", line))
	}
	s.feedMu.Lock() // as if the database had stopped answering
	s.shift.Store(int64(time.Minute))
	code, body = get("/readyz")
	qt.Check(t, qt.Equals(code, 503))
	qt.Check(t, qt.StringContains(body, "TS7610"))
	s.shift.Store(0)
	s.feedMu.Unlock()
	s.closed.Do(func() { close(s.closing) })
	code, _ = get("/readyz")
	qt.Check(t, qt.Equals(code, 503))
}

func TestSecretsAreNotLogged(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	token := s.token()
	h := s.enroll(token.Secret, "a")
	h.checkIn(t)
	_, err := s.client(api.NewCredential(api.OperatorCredential)).Whoami(t.Context())
	qt.Check(t, qt.IsNotNil(err))
	_, _ = do(t, "GET", s.web.URL+"/v1/machines?q="+url.QueryEscape(token.Secret), s.secret, "", nil)
	s.web.Close()
	s.logMu.Lock()
	defer s.logMu.Unlock()
	text := s.log.String()
	qt.Check(t, qt.StringContains(text, "/v1/machine/check-in"))
	for _, prefix := range []string{"tso_", "tst_", "tsm_", "tsw_"} {
		qt.Check(t, qt.IsFalse(strings.Contains(text, prefix)), qt.Commentf("%s", prefix))
	}
}

// TestManySlowClientsKeepNobodyOut: hundreds of connections that send a byte of
// a header, or of a body, and no more are closed, and a machine is answered
// while they are open.
func TestManySlowClientsKeepNobodyOut(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	h := s.enroll(s.token().Secret, "a")
	web := httptest.NewUnstartedServer(nil)
	web.Config = s.HTTP()
	web.Config.ReadHeaderTimeout, web.Config.ReadTimeout = 2*time.Second, 2*time.Second
	web.Start()
	defer web.Close()
	var slow []net.Conn
	for i := range 300 {
		conn, err := net.Dial("tcp", web.Listener.Addr().String())
		qt.Assert(t, qt.IsNil(err))
		defer conn.Close()
		text := "GET /v1/whoami HTTP/1.1\r\nHost: x\r\nX-Slow: "
		if i%2 == 0 {
			text = "POST /v1/machine/check-in HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + h.enrolled.Credential + "\r\nContent-Length: 1000\r\n\r\n{"
		}
		_, err = io.WriteString(conn, text)
		qt.Assert(t, qt.IsNil(err))
		slow = append(slow, conn)
	}
	body, err := json.Marshal(h.report)
	qt.Assert(t, qt.IsNil(err))
	res, answer := do(t, "POST", web.URL+"/v1/machine/check-in", h.enrolled.Credential, "application/json", body)
	qt.Check(t, qt.Equals(res.StatusCode, 200), qt.Commentf("%s", answer))
	for _, conn := range slow {
		_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
		_, err := io.Copy(io.Discard, conn)
		timeout, ok := errors.AsType[net.Error](err)
		qt.Assert(t, qt.IsFalse(ok && timeout.Timeout()), qt.Commentf("the server did not hang up"))
	}
}
