// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
)

// HTTPOptions of NewHTTP.
type HTTPOptions struct {
	CA    []byte // PEM; if not empty these CAs and no others are trusted
	Proxy string // URL; "" is what the environment says, "none" is no proxy
	// IdleConns is how many connections are kept; 0 is 4.
	IdleConns int
}

// NewHTTP makes an HTTP client as all our programs want it: TLS 1.2 or newer,
// time limits on each step that does not depend on the size of an answer, no
// redirects (no operation has one, and a credential must not follow).
func NewHTTP(o HTTPOptions) (*http.Client, error) {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: time.Second,
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConns:          max(o.IdleConns, 4),
		MaxIdleConnsPerHost:   max(o.IdleConns, 4),
		ForceAttemptHTTP2:     true,
		// No limit on the time to the first byte: a long poll has none, and
		// every caller has a context.
	}
	if len(o.CA) > 0 {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(o.CA) {
			return nil, code.New("TS7613", "", "the pinned CA is no certificate in PEM form")
		}
		t.TLSClientConfig.RootCAs = pool
	}
	switch o.Proxy {
	case "":
	case "none":
		t.Proxy = nil
	default:
		u, err := url.Parse(o.Proxy)
		if err != nil || u.Host == "" {
			return nil, code.New("TS7612", o.Proxy, "this is not the address of a proxy").WithFix("give one like http://proxy.example.org:3128")
		}
		t.Proxy = http.ProxyURL(u)
	}
	return &http.Client{
		Transport:     t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// FetchCA gets the CA certificate of a server whose CA nobody trusts yet, and
// returns it as PEM if it is the one with this SHA-256 (hex, of its DER). Only
// that digest makes the answer believable: the connection is not verified.
func FetchCA(ctx context.Context, server, digest, proxy string) ([]byte, error) {
	httpc, err := NewHTTP(HTTPOptions{Proxy: proxy})
	if err != nil {
		return nil, err
	}
	httpc.Transport.(*http.Transport).TLSClientConfig.InsecureSkipVerify = true //nolint:gosec // the digest is verified instead
	defer httpc.CloseIdleConnections()
	c, err := New(Options{URL: server, HTTP: httpc})
	if err != nil {
		return nil, err
	}
	b, err := c.CA(ctx)
	if err != nil {
		return nil, err
	}
	got, err := CADigest(b)
	if err != nil {
		return nil, err
	}
	if got != digest {
		return nil, code.New("TS7613", c.base.Host, "its CA has the digest "+got+", "+digest+" was expected")
	}
	return b, nil
}

// CADigest is the SHA-256 of the first certificate of a PEM text, hex.
func CADigest(text []byte) (string, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return "", code.New("TS7614", "", "this is no certificate in PEM form")
	}
	if _, err := x509.ParseCertificate(block.Bytes); err != nil {
		return "", code.New("TS7614", "", "this is no certificate").With(err)
	}
	h := sha256.Sum256(block.Bytes)
	return hex.EncodeToString(h[:]), nil
}

// transportProblem says what kept an answer from coming.
func transportProblem(host string, err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err // its text repeats the URL
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return code.New("TS7613", host, "").With(err)
	}
	p := code.New("TS7612", host, "")
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		p.Why = "no answer in time"
	} else if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		p.Why = "the connection broke"
	}
	return p.With(err)
}
