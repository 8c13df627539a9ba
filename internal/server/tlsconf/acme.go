// SPDX-License-Identifier: Apache-2.0

package tlsconf

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/tsugi-project/tsugi/internal/code"
)

// ACMEOptions say which authority is asked, and for what.
type ACMEOptions struct {
	Names     []string // the first one is the server's
	Directory string   // "" is Let's Encrypt
	Email     string
	Dir       string // of accounts, keys and certificates
	HTTPPort  int    // listens for the HTTP challenge there; 0: TLS-ALPN only
	TLSPort   int    // the port that the server itself listens on
	CA        string // PEM file of the directory's own authority, or ""
	Log       *slog.Logger
}

// ACME gets certificates from an authority that speaks RFC 8555 and renews
// them (certmagic).
type ACME struct {
	opt    ACMEOptions
	cache  *certmagic.Cache
	config *certmagic.Config
}

// OpenACME prepares; nothing is asked of the authority before Obtain.
func OpenACME(opt ACMEOptions) (*ACME, error) {
	a := &ACME{opt: opt}
	roots, err := acmeRoots(opt.CA)
	if err != nil {
		return nil, err
	}
	log := zap.New(slogCore{opt.Log})
	a.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return a.config, nil },
		Logger:           log,
	})
	a.config = certmagic.New(a.cache, certmagic.Config{
		Storage:           &certmagic.FileStorage{Path: opt.Dir},
		Logger:            log,
		DefaultServerName: opt.Names[0],
		OCSP:              certmagic.OCSPConfig{DisableStapling: true},
	})
	directory := opt.Directory
	if directory == "" {
		directory = certmagic.LetsEncryptProductionCA
	}
	issuer := certmagic.NewACMEIssuer(a.config, certmagic.ACMEIssuer{
		CA: directory, Email: opt.Email, Agreed: true, TrustedRoots: roots, Logger: log,
		DisableHTTPChallenge: opt.HTTPPort == 0, AltHTTPPort: opt.HTTPPort, AltTLSALPNPort: opt.TLSPort,
	})
	a.config.Issuers = []certmagic.Issuer{issuer}
	return a, nil
}

func acmeRoots(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, code.New("TS7803", "tls.acme.ca", "").With(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, code.New("TS7803", "tls.acme.ca", path+" holds no certificate")
	}
	return pool, nil
}

// Manage loads the certificates and has missing ones made and old ones renewed
// in the background, again and again until it works. The listener has to
// answer by then: the authority connects to it.
func (a *ACME) Manage(ctx context.Context) error {
	if err := a.config.ManageAsync(ctx, a.opt.Names); err != nil {
		return code.New("TS7811", a.opt.Names[0], "").With(err)
	}
	return nil
}

// GetCertificate answers handshakes, those of the TLS-ALPN challenge among
// them.
func (a *ACME) GetCertificate(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return a.config.GetCertificate(h)
}

// Protocols are those that a listener must offer beside its own.
func (a *ACME) Protocols() []string { return []string{"acme-tls/1"} }

// Close ends what runs in the background.
func (a *ACME) Close() { a.cache.Stop() }

// Port is the number in a listen address.
func Port(address string) (int, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return 0, fmt.Errorf("port %q: %w", port, err)
	}
	return n, nil
}

// slogCore lets certmagic's logger speak through ours. What is routine there
// is detail here.
type slogCore struct{ log *slog.Logger }

func (c slogCore) Enabled(zapcore.Level) bool { return true }

func (c slogCore) With(fields []zapcore.Field) zapcore.Core {
	return slogCore{c.log.With(attributes(fields)...)}
}

func (c slogCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	return ce.AddCore(e, c)
}

func (c slogCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	level := slog.LevelDebug
	switch {
	case e.Level >= zapcore.ErrorLevel:
		level = slog.LevelError
	case e.Level == zapcore.WarnLevel:
		level = slog.LevelWarn
	}
	c.log.Log(context.Background(), level, "acme: "+e.Message, attributes(fields)...)
	return nil
}

func (c slogCore) Sync() error { return nil }

func attributes(fields []zapcore.Field) []any {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(enc)
	}
	var out []any
	for k, v := range enc.Fields {
		out = append(out, k, v)
	}
	return out
}
