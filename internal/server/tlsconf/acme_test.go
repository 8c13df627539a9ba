// SPDX-License-Identifier: Apache-2.0

package tlsconf

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
)

// authority is an ACME server (RFC 8555) for one name. It checks what a real
// one checks of us: that the listener answers the TLS-ALPN challenge (RFC
// 8737) with the certificate that the account's key calls for. Signatures of
// requests are the library's business and not looked at.
type authority struct {
	*httptest.Server
	t      *testing.T
	ca     *CA
	listen string // where the name leads to

	mu         sync.Mutex
	thumbprint string
	state      string // of authorisation, challenge and order
	leaf       []byte
	refuse     bool
	orders     int
}

const acmeToken = "token-of-the-challenge"

func newAuthority(t *testing.T, listen string) *authority {
	_, ca := newCA(t, time.Now())
	a := &authority{t: t, ca: ca, listen: listen, state: "pending"}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /dir", func(w http.ResponseWriter, _ *http.Request) {
		a.answer(w, 200, map[string]any{"newNonce": a.URL + "/nonce", "newAccount": a.URL + "/account", "newOrder": a.URL + "/order"})
	})
	mux.HandleFunc("/nonce", func(w http.ResponseWriter, _ *http.Request) { a.answer(w, 200, nil) })
	mux.HandleFunc("POST /account", a.account)
	mux.HandleFunc("POST /order", func(w http.ResponseWriter, _ *http.Request) {
		a.mu.Lock()
		a.orders++
		refuse := a.refuse
		a.mu.Unlock()
		if refuse {
			a.answer(w, 403, map[string]any{"type": "urn:ietf:params:acme:error:rejectedIdentifier", "detail": "not this name", "status": 403})
			return
		}
		w.Header().Set("Location", a.URL+"/order/1")
		a.answer(w, 201, a.order())
	})
	mux.HandleFunc("POST /order/1", func(w http.ResponseWriter, _ *http.Request) { a.answer(w, 200, a.order()) })
	mux.HandleFunc("POST /authz/1", func(w http.ResponseWriter, _ *http.Request) {
		a.mu.Lock()
		status := a.state
		a.mu.Unlock()
		a.answer(w, 200, map[string]any{
			"status": status, "identifier": map[string]string{"type": "dns", "value": "patches.test"},
			"challenges": []any{a.challenge()},
		})
	})
	mux.HandleFunc("POST /challenge/1", func(w http.ResponseWriter, _ *http.Request) {
		a.validate()
		a.answer(w, 200, a.challenge())
	})
	mux.HandleFunc("POST /finalize/1", a.finalize)
	mux.HandleFunc("POST /cert/1", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/pem-certificate-chain")
		w.Header().Set("Replay-Nonce", "nonce")
		a.mu.Lock()
		defer a.mu.Unlock()
		_, _ = w.Write(a.leaf)
		_, _ = w.Write(a.ca.PEM())
	})
	a.Server = httptest.NewTLSServer(mux)
	t.Cleanup(a.Close)
	return a
}

func (a *authority) answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Replay-Nonce", "nonce")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if v != nil {
		_ = json.NewEncoder(w).Encode(v)
	}
}

// parts are the protected header and the payload of a JWS.
func parts(r *http.Request) (header, payload []byte) {
	var jws struct{ Protected, Payload string }
	_ = json.NewDecoder(r.Body).Decode(&jws)
	header, _ = base64.RawURLEncoding.DecodeString(jws.Protected)
	payload, _ = base64.RawURLEncoding.DecodeString(jws.Payload)
	return header, payload
}

func (a *authority) account(w http.ResponseWriter, r *http.Request) {
	header, _ := parts(r)
	var h struct {
		JWK struct{ Crv, Kty, X, Y string }
	}
	_ = json.Unmarshal(header, &h)
	// RFC 7638: the members in this order, without spaces.
	sum := sha256.Sum256(fmt.Appendf(nil, `{"crv":%q,"kty":%q,"x":%q,"y":%q}`, h.JWK.Crv, h.JWK.Kty, h.JWK.X, h.JWK.Y))
	a.mu.Lock()
	a.thumbprint = base64.RawURLEncoding.EncodeToString(sum[:])
	a.mu.Unlock()
	w.Header().Set("Location", a.URL+"/account/1")
	a.answer(w, 201, map[string]any{"status": "valid"})
}

func (a *authority) order() map[string]any {
	a.mu.Lock()
	defer a.mu.Unlock()
	o := map[string]any{
		"status": "pending", "identifiers": []any{map[string]string{"type": "dns", "value": "patches.test"}},
		"authorizations": []string{a.URL + "/authz/1"}, "finalize": a.URL + "/finalize/1",
	}
	if a.state == "valid" {
		o["status"] = "ready"
	}
	if a.leaf != nil {
		o["status"], o["certificate"] = "valid", a.URL+"/cert/1"
	}
	return o
}

func (a *authority) challenge() map[string]any {
	a.mu.Lock()
	defer a.mu.Unlock()
	return map[string]any{"type": "tls-alpn-01", "url": a.URL + "/challenge/1", "token": acmeToken, "status": a.state}
}

// validate connects as an authority does and looks at what it is shown.
func (a *authority) validate() {
	a.mu.Lock()
	want := sha256.Sum256([]byte(acmeToken + "." + a.thumbprint))
	a.mu.Unlock()
	state := "invalid"
	conn, err := tls.Dial("tcp", a.listen, &tls.Config{ServerName: "patches.test", NextProtos: []string{"acme-tls/1"}, InsecureSkipVerify: true}) //nolint:gosec // the challenge's certificate is self-signed
	if err == nil {
		cert := conn.ConnectionState().PeerCertificates[0]
		for _, e := range cert.Extensions {
			var digest []byte
			if e.Id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31}) {
				if _, err := asn1.Unmarshal(e.Value, &digest); err == nil && bytes.Equal(digest, want[:]) {
					state = "valid"
				}
			}
		}
		_ = conn.Close()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.state = state
}

func (a *authority) finalize(w http.ResponseWriter, r *http.Request) {
	_, payload := parts(r)
	var in struct{ CSR string }
	_ = json.Unmarshal(payload, &in)
	der, _ := base64.RawURLEncoding.DecodeString(in.CSR)
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		a.answer(w, 400, map[string]any{"type": "urn:ietf:params:acme:error:badCSR", "detail": err.Error(), "status": 400})
		return
	}
	leaf, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(7), DNSNames: csr.DNSNames, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(leafLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, a.ca.cert, csr.PublicKey, a.ca.key)
	qt.Check(a.t, qt.IsNil(err))
	a.mu.Lock()
	a.leaf = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf})
	a.mu.Unlock()
	w.Header().Set("Location", a.URL+"/order/1")
	a.answer(w, 200, a.order())
}

// roots writes the certificate of the authority's own web server.
func (a *authority) roots() string {
	path := filepath.Join(a.t.TempDir(), "roots.pem")
	b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate().Raw})
	qt.Assert(a.t, qt.IsNil(os.WriteFile(path, b, 0o600)))
	return path
}

func TestACertificateFromAnACMEAuthority(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	qt.Assert(t, qt.IsNil(err))
	port, err := Port(l.Addr().String())
	qt.Assert(t, qt.IsNil(err))
	a := newAuthority(t, l.Addr().String())
	options := ACMEOptions{
		Names: []string{"patches.test"}, Directory: a.URL + "/dir", Dir: filepath.Join(t.TempDir(), "acme"), TLSPort: port, CA: a.roots(), Log: quiet(),
	}
	acme, err := OpenACME(options)
	qt.Assert(t, qt.IsNil(err))
	defer acme.Close()
	s := &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }),
		TLSConfig:         Config(acme.GetCertificate, "1.2"),
		ReadHeaderTimeout: time.Minute, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	s.TLSConfig.NextProtos = append(s.TLSConfig.NextProtos, acme.Protocols()...)
	go s.ServeTLS(l, "", "")
	t.Cleanup(func() { _ = s.Close() })

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	qt.Assert(t, qt.IsNil(acme.Manage(ctx)))
	shown := func() *x509.Certificate {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(a.ca.PEM())
		for ctx.Err() == nil {
			conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: pool, ServerName: "patches.test"})
			if err == nil {
				defer conn.Close()
				return conn.ConnectionState().PeerCertificates[0]
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Fatal("no certificate comes")
		return nil
	}
	first := shown()
	qt.Check(t, qt.DeepEquals(first.DNSNames, []string{"patches.test"}))

	// A restart takes what is on the disk and asks nobody.
	a.mu.Lock()
	orders := a.orders
	a.mu.Unlock()
	again, err := OpenACME(options)
	qt.Assert(t, qt.IsNil(err))
	defer again.Close()
	qt.Assert(t, qt.IsNil(again.Manage(ctx)))
	got, err := again.config.CacheManagedCertificate(ctx, "patches.test")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(got.Leaf.Equal(first)))
	a.mu.Lock()
	qt.Check(t, qt.Equals(a.orders, orders))
	a.mu.Unlock()
}

func TestAnACMEAuthorityThatRefuses(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, "127.0.0.1:1")
	a.refuse = true
	var log lockedBuffer
	acme, err := OpenACME(ACMEOptions{
		Names: []string{"patches.test"}, Directory: a.URL + "/dir", Dir: filepath.Join(t.TempDir(), "acme"), TLSPort: 1, CA: a.roots(),
		Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(acme.Manage(t.Context())))
	for range 3000 {
		if strings.Contains(log.String(), "not this name") {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	acme.Close()
	qt.Check(t, qt.StringContains(log.String(), "level=ERROR"))
	qt.Check(t, qt.StringContains(log.String(), "not this name")) // the authority's own words

	_, err = OpenACME(ACMEOptions{Names: []string{"x"}, CA: "/nowhere", Log: quiet()})
	qt.Check(t, qt.Equals(code.Of(err), "TS7803"))
}

// lockedBuffer is written by one goroutine while another looks.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
