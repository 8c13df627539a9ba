// SPDX-License-Identifier: Apache-2.0

package tlsconf

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/google/renameio/v2"
)

// server.pem holds chain and key in one file, so that both change together.
const serverFile = "server.pem"

// Own keeps a server certificate of an authority in a directory and renews it
// in time. It may be shared by processes: each takes what the file holds.
type Own struct {
	ca    *CA
	dir   string
	names []string
	log   *slog.Logger
	now   func() time.Time

	mu      sync.Mutex
	current *tls.Certificate
}

// OpenOwn opens the authority of a directory and sees to it that there is a
// valid server certificate for names.
func OpenOwn(dir string, names []string, log *slog.Logger, now func() time.Time) (*Own, error) {
	ca, err := OpenCA(dir)
	if err != nil {
		return nil, err
	}
	o := &Own{ca: ca, dir: dir, names: slices.Compact(slices.Sorted(slices.Values(names))), log: log, now: now}
	if len(names) > 0 { // the first one stays the subject
		o.names = append([]string{names[0]}, slices.DeleteFunc(o.names, func(n string) bool { return n == names[0] })...)
	}
	return o, o.Check()
}

// CA is the authority.
func (o *Own) CA() *CA { return o.ca }

// Certificate is the one in use.
func (o *Own) Certificate() *x509.Certificate {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.current.Leaf
}

// Check takes the certificate of the file, or a new one when that is missing,
// near its end, or not for the names.
func (o *Own) Check() error {
	cert, err := o.read()
	if err == nil && o.good(cert.Leaf) {
		o.use(cert)
		return nil
	}
	if o.mine() {
		return nil // the file is gone or damaged, and the one in memory is good
	}
	return o.Renew()
}

// Renew makes a new certificate with a new key now.
func (o *Own) Renew() error {
	chain, key, err := o.ca.Issue(o.names, o.now())
	if err != nil {
		return err
	}
	text := slices.Concat(chain, key)
	cert, err := tls.X509KeyPair(text, text)
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(filepath.Join(o.dir, serverFile), text, 0o600); err != nil {
		// A full disk must not end the service: the certificate is good without
		// its file.
		o.log.Warn("server certificate is only in memory", "err", err)
	}
	o.use(&cert)
	o.log.Info("server certificate made", "names", o.names, "until", cert.Leaf.NotAfter.UTC())
	return nil
}

func (o *Own) mine() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.current != nil && o.good(o.current.Leaf)
}

func (o *Own) use(cert *tls.Certificate) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.current = cert
}

// ReadOwn is the server certificate in a directory.
func ReadOwn(dir string) (*x509.Certificate, error) {
	cert, err := (&Own{dir: dir}).read()
	if err != nil {
		return nil, err
	}
	return cert.Leaf, nil
}

func (o *Own) read() (*tls.Certificate, error) {
	text, err := os.ReadFile(filepath.Join(o.dir, serverFile))
	if err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(text, text)
	return &cert, err
}

func (o *Own) good(leaf *x509.Certificate) bool {
	now := o.now()
	if leaf.CheckSignatureFrom(o.ca.cert) != nil || now.Before(leaf.NotBefore) || leaf.NotAfter.Sub(now) < renewAt {
		// The last certificate before the authority's own end can't be renewed
		// into a longer one.
		if !leaf.NotAfter.Equal(o.ca.cert.NotAfter) || now.After(leaf.NotAfter) {
			return false
		}
	}
	for _, n := range o.names {
		if leaf.VerifyHostname(n) != nil {
			return false
		}
	}
	return true
}

// GetCertificate answers handshakes.
func (o *Own) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.current, nil
}

// Run looks after the certificate until the context ends.
func (o *Own) Run(ctx context.Context) error {
	return every(ctx, time.Minute, func() {
		if err := o.Check(); err != nil {
			o.log.Error("server certificate cannot be renewed", "err", err)
		}
	})
}

// every calls f at each interval until the context ends, which is no error.
func every(ctx context.Context, interval time.Duration, f func()) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			f()
		}
	}
}
