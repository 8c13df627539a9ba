// SPDX-License-Identifier: Apache-2.0

package tlsconf

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Files is a certificate that somebody else renews. A change of the files
// is taken within seconds; one that cannot be used is told and the
// certificate before it stays.
type Files struct {
	cert, key string
	log       *slog.Logger

	mu      sync.Mutex
	texts   [2][]byte
	current *tls.Certificate
}

// OpenFiles reads a PEM chain, leaf first, and its key.
func OpenFiles(cert, key string, log *slog.Logger) (*Files, error) {
	f := &Files{cert: cert, key: key, log: log}
	if _, err := f.Check(); err != nil {
		return nil, err
	}
	return f, nil
}

// Check reads the files again. It reports whether another certificate is in
// use now. Files that are only half replaced do not fit together and are left
// for the next look.
func (f *Files) Check() (changed bool, err error) {
	var texts [2][]byte
	for i, path := range []string{f.cert, f.key} {
		if texts[i], err = os.ReadFile(path); err != nil {
			return false, code.New("TS7806", path, "").With(err)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.current != nil && bytes.Equal(texts[0], f.texts[0]) && bytes.Equal(texts[1], f.texts[1]) {
		return false, nil
	}
	cert, err := tls.X509KeyPair(texts[0], texts[1])
	if err != nil {
		return false, code.New("TS7806", f.cert, "").With(err)
	}
	f.texts, f.current = texts, &cert
	return true, nil
}

// Certificate is the one in use.
func (f *Files) Certificate() *x509.Certificate {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.current.Leaf
}

// GetCertificate answers handshakes.
func (f *Files) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.current, nil
}

// Run watches the files until the context ends. It looks instead of being
// told: links that are switched, as Kubernetes does it, and network file systems
// give no events.
func (f *Files) Run(ctx context.Context) error {
	said := ""
	return every(ctx, 5*time.Second, func() {
		changed, err := f.Check()
		switch {
		case err != nil && err.Error() != said:
			said = err.Error()
			f.log.Error("new certificate cannot be used, the one before stays", "err", err)
		case changed:
			said = ""
			f.log.Info("certificate read again", "until", f.Certificate().NotAfter.UTC())
		}
	})
}
