// SPDX-License-Identifier: Apache-2.0

package courier

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"go.uber.org/goleak"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/notify"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var loopback = netip.MustParsePrefix("127.0.0.0/8")

// receiver is a webhook's receiver that checks as docs/notifications.md says.
type receiver struct {
	*httptest.Server
	secret notify.Secret
	now    func() time.Time

	mu      sync.Mutex
	seen    notify.Seen
	taken   []string
	refused []error
}

func newReceiver(t *testing.T, secret notify.Secret) *receiver {
	r := &receiver{secret: secret, now: func() time.Time { return now }}
	r.Server = quiet(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		body, _ := io.ReadAll(req.Body)
		if err := notify.Verify(r.secret, req.Header.Get, body, r.now(), &r.seen); err != nil {
			r.refused = append(r.refused, err)
			if !errors.Is(err, notify.ErrRepeated) {
				http.Error(w, "no", http.StatusUnauthorized)
			}
			return
		}
		r.taken = append(r.taken, string(body))
	}))
	r.StartTLS()
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) got() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.taken
}

func sender(t *testing.T, server *httptest.Server, change func(*WebhookOptions)) *Webhooks {
	t.Helper()
	o := WebhookOptions{Allow: []netip.Prefix{loopback}, Now: func() time.Time { return now }, Agent: "tsugi-server/test", Timeout: time.Minute}
	if server != nil && server.Certificate() != nil {
		o.Roots = server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	}
	if change != nil {
		change(&o)
	}
	w := NewWebhooks(o)
	t.Cleanup(w.Close)
	return w
}

func hook(to string, secret notify.Secret) (notify.Channel, notify.Delivery) {
	c := notify.Channel{ID: "c", Name: "ops", Type: notify.Webhook, To: []string{to}, Secrets: []notify.Secret{secret}}
	e := notify.Event{ID: "e", Kind: notify.RolloutHalted, Time: now, Subject: "rollout/1", Title: "halted"}
	return c, notify.Deliveries(c, notify.Of(c, e, 0, "https://tsugi.example.org"), now)[0]
}

func TestAWebhookIsTakenOnce(t *testing.T) {
	t.Parallel()
	secret := notify.NewSecret()
	r := newReceiver(t, secret)
	w := sender(t, r.Server, nil)
	c, d := hook(r.URL+"/hook?x=1", secret)
	qt.Assert(t, qt.IsNil(w.Send(t.Context(), c, d).Problem))
	qt.Check(t, qt.DeepEquals(r.got(), []string{string(d.Message.Body)}))

	// The answer was lost: the same is sent again, and is known for the same.
	o := w.Send(t.Context(), c, d)
	qt.Assert(t, qt.IsNil(o.Problem), qt.Commentf("the sender is told that it arrived"))
	qt.Check(t, qt.HasLen(r.got(), 1))
	r.mu.Lock()
	qt.Check(t, qt.ErrorMatches(r.refused[0], ".*came before"))
	r.mu.Unlock()

	// Another's secret is not ours.
	c.Secrets = []notify.Secret{notify.NewSecret()}
	o = w.Send(t.Context(), c, d)
	qt.Check(t, qt.IsTrue(o.Final))
	qt.Check(t, qt.Equals(o.Problem.Why, "401 Unauthorized no"))
	qt.Check(t, qt.Equals(o.Problem.Where, r.URL), qt.Commentf("what may be a secret in a URL is not told"))
	qt.Check(t, qt.HasLen(r.got(), 1))
}

func TestWhatReceiversAnswer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request)
		says   string
		final  bool
		after  time.Duration
		good   bool
	}{
		"taken":            {answer: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, good: true},
		"it is not there":  {answer: http.NotFound, says: "404 Not Found 404 page not found", final: true},
		"it is gone":       {answer: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) }, says: "410 Gone", final: true},
		"not now":          {answer: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }, says: "503"},
		"a broken gateway": {answer: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }, says: "502"},
		"too many, in seconds": {answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "120")
			w.WriteHeader(http.StatusTooManyRequests)
		}, says: "429", after: 2 * time.Minute},
		"too many, until then": {answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", now.Add(time.Hour).Format(http.TimeFormat))
			w.WriteHeader(http.StatusTooManyRequests)
		}, says: "429", after: time.Hour},
		"too many, until yesterday": {answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", now.Add(-time.Hour).Format(http.TimeFormat))
			w.WriteHeader(http.StatusTooManyRequests)
		}, says: "429"},
		"elsewhere": {answer: func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/elsewhere" {
				panic("followed")
			}
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, says: "307", final: true},
		"words without end": {answer: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			for range 10_000 {
				if _, err := io.WriteString(w, strings.Repeat("\x1b[31m ", 100)); err != nil {
					return
				}
			}
		}, says: "500 Internal Server Error .{1,200}"},
		"no answer": {answer: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, says: "EOF"},
		"no HTTP":   {answer: func(w http.ResponseWriter, _ *http.Request) { hijack(w, "hello\r\n") }, says: "malformed HTTP.*"},
		"endless header": {answer: func(w http.ResponseWriter, _ *http.Request) {
			hijack(w, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 1<<20))
		}, says: ".*header.*"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := quiet(http.HandlerFunc(c.answer))
			s.StartTLS()
			t.Cleanup(s.Close)
			secret := notify.NewSecret()
			ch, d := hook(s.URL, secret)
			o := sender(t, s, nil).Send(t.Context(), ch, d)
			qt.Assert(t, qt.Equals(o.Problem == nil, c.good), qt.Commentf("%v", o.Problem))
			if c.good {
				return
			}
			qt.Check(t, qt.Equals(o.Problem.Code, "TS8311"))
			qt.Check(t, qt.Matches(o.Problem.Why, ".*"+c.says+".*"))
			qt.Check(t, qt.IsFalse(strings.Contains(o.Problem.Why, "\x1b")))
			qt.Check(t, qt.Equals(o.Final, c.final))
			qt.Check(t, qt.Equals(o.After, c.after))
		})
	}
}

// quiet is a server that tells nobody of handshakes that fail.
func quiet(h http.Handler) *httptest.Server {
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	return s
}

func hijack(w http.ResponseWriter, text string) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	_, _ = io.WriteString(conn, text)
	conn.Close()
}

func TestAReceiverThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	stop := make(chan struct{})
	s := quiet(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-stop }))
	s.StartTLS()
	t.Cleanup(s.Close)
	t.Cleanup(func() { close(stop) })
	secret := notify.NewSecret()
	c, d := hook(s.URL, secret)
	o := sender(t, s, func(o *WebhookOptions) { o.Timeout = 200 * time.Millisecond }).Send(t.Context(), c, d)
	qt.Assert(t, qt.IsNotNil(o.Problem))
	qt.Check(t, qt.Equals(o.Problem.Why, "no answer in time"))
	qt.Check(t, qt.IsFalse(o.Final))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o = sender(t, s, nil).Send(ctx, c, d)
	qt.Check(t, qt.IsTrue(o.Problem != nil && !o.Final))
}

// TestInnerAddressesAreNotCalled: who may set up a webhook may not thereby talk
// to this host's own services, or to those that clouds keep their secrets in.
func TestInnerAddressesAreNotCalled(t *testing.T) {
	t.Parallel()
	var called atomic.Bool
	s := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called.Store(true) }))
	t.Cleanup(s.Close)
	w := sender(t, s, func(o *WebhookOptions) { o.Allow = nil })
	port := s.URL[strings.LastIndexByte(s.URL, ':'):]
	for _, host := range []string{
		"127.0.0.1", "localhost", "127.1.2.3", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "0.1.2.3", "[::]", "169.254.169.254", "[fe80::1]", "224.0.0.1", "[ff02::1]",
		"100.100.100.200", "168.63.129.16", "192.0.0.192", "[fd00:ec2::254]",
		"[64:ff9b::7f00:1]", "[64:ff9b::1]", "[64:ff9b::a9fe:a9fe]", "[2002:7f00:1::]", "2130706433", "0x7f.1",
	} {
		secret := notify.NewSecret()
		c, d := hook("https://"+host+port+"/", secret)
		o := w.Send(t.Context(), c, d)
		qt.Assert(t, qt.IsNotNil(o.Problem), qt.Commentf("%s", host))
		if !strings.ContainsAny(host, "x") && host != "2130706433" { // forms that are no address to Go and no name to anybody
			qt.Check(t, qt.Equals(o.Problem.Code, "TS8314"), qt.Commentf("%s: %v", host, o.Problem))
			qt.Check(t, qt.IsTrue(o.Final))
		}
	}
	qt.Check(t, qt.IsFalse(called.Load()))
	for _, addr := range []string{"10.0.0.1:443", "192.168.1.1:443", "[2001:db8::1]:443", "[fd00::1]:443"} {
		qt.Check(t, qt.IsNil(w.control("tcp", addr, nil)), qt.Commentf("%s: a fleet's own network is where its receivers are", addr))
	}
	err := w.control("tcp", "[::1]:443", nil)
	qt.Check(t, qt.IsTrue(errors.Is(err, errForbidden)))
	qt.Check(t, qt.IsNotNil(w.control("tcp", "nonsense", nil)))
}

// TestByAProxy: what goes by a proxy is the proxy's to refuse, and what goes
// past it is still ours.
func TestByAProxy(t *testing.T) {
	t.Parallel()
	secret := notify.NewSecret()
	r := newReceiver(t, secret)
	var asked atomic.Value
	proxy := quiet(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		asked.Store(req.Method + " " + req.Host)
		to, err := net.Dial("tcp", r.Listener.Addr().String())
		if err != nil {
			http.Error(w, "no", http.StatusBadGateway)
			return
		}
		defer to.Close()
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		var wg sync.WaitGroup
		wg.Go(func() {
			_, _ = io.Copy(to, conn)
			_ = to.(*net.TCPConn).CloseWrite()
		})
		_, _ = io.Copy(conn, to)
		conn.Close()
		wg.Wait()
	}))
	proxy.Start()
	t.Cleanup(proxy.Close)
	at, err := url.Parse(proxy.URL)
	qt.Assert(t, qt.IsNil(err))
	w := sender(t, r.Server, func(o *WebhookOptions) {
		o.Allow = nil
		o.Proxy = func(req *http.Request) (*url.URL, error) {
			if strings.HasPrefix(req.URL.Path, "/past") {
				return nil, nil
			}
			return at, nil
		}
	})
	t.Cleanup(w.Close)
	c, d := hook("https://example.com/hook", secret) // httptest's certificate is for this name
	o := w.Send(t.Context(), c, d)
	qt.Assert(t, qt.IsNil(o.Problem))
	qt.Check(t, qt.HasLen(r.got(), 1))
	qt.Check(t, qt.Equals(asked.Load(), any("CONNECT example.com:443")))
	c, d = hook(r.URL+"/past", secret)
	o = w.Send(t.Context(), c, d)
	qt.Assert(t, qt.IsNotNil(o.Problem))
	qt.Check(t, qt.Equals(o.Problem.Code, "TS8314"))
	w.Close()
}

func TestWithoutTLSOnlyWhereTold(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(s.Close)
	secret := notify.NewSecret()
	c, d := hook(s.URL, secret)
	o := sender(t, s, nil).Send(t.Context(), c, d)
	qt.Check(t, qt.IsTrue(o.Problem != nil && o.Final))
	o = sender(t, s, func(o *WebhookOptions) { o.Plain = true }).Send(t.Context(), c, d)
	qt.Check(t, qt.IsNil(o.Problem))

	tlsServer := newReceiver(t, secret)
	c, d = hook(tlsServer.URL, secret)
	o = sender(t, nil, nil).Send(t.Context(), c, d)
	qt.Check(t, qt.Equals(code.Of(o.Problem), "TS8311"))
	qt.Check(t, qt.Matches(o.Problem.Why, ".*certificate.*"))
}
