// SPDX-License-Identifier: Apache-2.0

// Package courier takes notifications out into the world: webhooks by HTTP,
// e-mail by SMTP, and a worker that delivers what waits in an outbox. What is
// said to whom, and when an attempt is repeated, is package notify's.
package courier

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/notify"
)

// WebhookOptions are what webhooks are sent with.
type WebhookOptions struct {
	// Allow are networks that may be called though they are this host's own or
	// link-local, where cloud providers keep their secrets.
	Allow []netip.Prefix
	// Plain allows http://.
	Plain bool
	Roots *x509.CertPool // nil: the system's
	// Proxy gives the proxy of a request, nil for none, as
	// http.ProxyFromEnvironment does; a nil function is none for all.
	Proxy   func(*http.Request) (*url.URL, error)
	Timeout time.Duration // of one attempt; 0 is 15 s
	Now     func() time.Time
	Agent   string // User-Agent
}

// Webhooks sends webhooks. It is for several goroutines.
type Webhooks struct {
	o WebhookOptions
	// proxied is for what goes by a proxy, whose own rules hold then: the
	// address that is called is the proxy's.
	direct, proxied *http.Client
}

const (
	webhookTimeout = 15 * time.Second
	maxAnswer      = 2 << 10 // of a receiver's words
)

// NewWebhooks makes one. Close it.
func NewWebhooks(o WebhookOptions) *Webhooks {
	if o.Timeout <= 0 {
		o.Timeout = webhookTimeout
	}
	o.Timeout = min(o.Timeout, lease/2) // or another worker would take it up meanwhile
	if o.Now == nil {
		o.Now = time.Now
	}
	w := &Webhooks{o: o}
	w.direct = w.client(&net.Dialer{Timeout: o.Timeout, Control: w.control}, nil)
	if o.Proxy != nil {
		w.proxied = w.client(&net.Dialer{Timeout: o.Timeout}, o.Proxy)
	}
	return w
}

func (w *Webhooks) client(d *net.Dialer, proxy func(*http.Request) (*url.URL, error)) *http.Client {
	return &http.Client{
		Timeout: w.o.Timeout,
		// The signature is for the URL that somebody typed; another place has to
		// be typed too.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: d.DialContext, Proxy: proxy, ForceAttemptHTTP2: true,
			TLSClientConfig:     &tls.Config{RootCAs: w.o.Roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout: w.o.Timeout, ResponseHeaderTimeout: w.o.Timeout, MaxResponseHeaderBytes: 64 << 10,
			IdleConnTimeout: 30 * time.Second, MaxIdleConnsPerHost: 2, DisableCompression: true,
		},
	}
}

// by is the client that a request goes by.
func (w *Webhooks) by(req *http.Request) (*http.Client, error) {
	if w.o.Proxy == nil {
		return w.direct, nil
	}
	at, err := w.o.Proxy(req)
	if err != nil || at == nil {
		return w.direct, err
	}
	return w.proxied, nil
}

// Close closes idle connections.
func (w *Webhooks) Close() {
	w.direct.CloseIdleConnections()
	if w.proxied != nil {
		w.proxied.CloseIdleConnections()
	}
}

// errForbidden is why a connection was not begun.
var errForbidden = errors.New("an address that webhooks are not sent to")

// control looks at the address that is really called, whatever its name said
// when somebody asked.
func (w *Webhooks) control(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%s: %w", address, errForbidden)
	}
	ip := at.Addr().Unmap()
	for _, p := range w.o.Allow {
		if p.Contains(ip) {
			return nil
		}
	}
	for _, a := range [2]netip.Addr{ip, embedded(ip)} {
		if a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() || !a.IsValid() || reserved(a) {
			return fmt.Errorf("%s: %w", ip, errForbidden)
		}
	}
	return nil
}

// reserved tells of addresses that lead to this host, or to what a cloud tells
// its machines, though their form does not show it.
func reserved(ip netip.Addr) bool {
	switch ip.WithZone("").String() {
	case "fd00:ec2::254", // AWS, beside 169.254.169.254
		"100.100.100.200", // Alibaba Cloud
		"192.0.0.192",     // Oracle Cloud
		"168.63.129.16":   // Azure
		return true
	}
	return netip.MustParsePrefix("0.0.0.0/8").Contains(ip) // "this network" (RFC 1122)
}

// embedded is the IPv4 address that NAT64 and 6to4 take an IPv6 address for.
func embedded(ip netip.Addr) netip.Addr {
	b := ip.As16()
	switch {
	case ip.Is4():
	case netip.MustParsePrefix("64:ff9b::/96").Contains(ip):
		return netip.AddrFrom4([4]byte(b[12:16]))
	case netip.MustParsePrefix("2002::/16").Contains(ip):
		return netip.AddrFrom4([4]byte(b[2:6]))
	}
	return ip
}

// Send makes one attempt.
func (w *Webhooks) Send(ctx context.Context, c notify.Channel, d notify.Delivery) notify.Outcome {
	fail := func(final bool, why string, err error) notify.Outcome {
		return notify.Outcome{Problem: code.New("TS8311", place(d.To), why).With(err), Final: final}
	}
	if !w.o.Plain && !strings.HasPrefix(d.To, "https://") {
		return fail(true, "the URL does not begin with https://", nil)
	}
	headers, err := notify.Sign(c.Secrets, d.Message.ID, w.o.Now(), d.Message.Body)
	if err != nil {
		return fail(true, err.Error(), nil)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.To, bytes.NewReader(d.Message.Body))
	if err != nil {
		return fail(true, "the URL can't be called", nil)
	}
	for k, v := range headers {
		req.Header.Set(k, v)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", w.o.Agent)
	by, err := w.by(req)
	if err != nil {
		return fail(false, "proxy: "+cause(err), nil)
	}
	res, err := by.Do(req)
	if err != nil {
		if errors.Is(err, errForbidden) {
			return notify.Outcome{Problem: code.New("TS8314", place(d.To), cause(err)), Final: true}
		}
		return fail(false, cause(err), nil)
	}
	defer res.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if res.StatusCode >= 200 && res.StatusCode <= 299 {
		return notify.Outcome{}
	}
	o := fail(final(res.StatusCode), strings.TrimSpace(res.Status+" "+excerpt(answer)), nil)
	o.After = after(res.Header.Get("Retry-After"), w.o.Now())
	return o
}

// place names a receiver without what may be a secret in its path.
func place(to string) string {
	u, err := url.Parse(to)
	if err != nil {
		return "webhook"
	}
	return u.Scheme + "://" + u.Host
}

// cause is what went wrong without the URL, which http.Client puts in front.
func cause(err error) string {
	if u, ok := errors.AsType[*url.Error](err); ok {
		if u.Timeout() {
			return "no answer in time"
		}
		err = u.Err
	}
	return err.Error()
}

// final tells which answers another attempt would not change.
func final(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusLocked:
		return false
	}
	return status < 500
}

// after reads Retry-After: seconds, or a date.
func after(s string, now time.Time) time.Duration {
	if n, err := strconv.Atoi(s); err == nil && n > 0 && n < 1<<30 {
		return time.Duration(n) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil {
		return max(0, t.Sub(now))
	}
	return 0
}

// excerpt is a receiver's words as a line can hold them.
func excerpt(b []byte) string {
	s := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(b), ""))
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > 200 {
		return string(r[:199]) + "…"
	}
	return s
}
