// SPDX-License-Identifier: Apache-2.0

package tlsconf

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// clock is time that tests move.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func newCA(t *testing.T, now time.Time) (string, *CA) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ca")
	ca, err := CreateCA(dir, "patches.example.org", now)
	qt.Assert(t, qt.IsNil(err))
	return dir, ca
}

func TestACertificateIsForItsNames(t *testing.T) {
	t.Parallel()
	now := time.Now()
	dir, ca := newCA(t, now)
	o, err := OpenOwn(dir, []string{"patches.example.org", "10.0.0.5", "::1", "patches.example.org"}, quiet(), func() time.Time { return now })
	qt.Assert(t, qt.IsNil(err))
	leaf := o.Certificate()
	pool := x509.NewCertPool()
	pool.AddCert(ca.Certificate())
	for _, name := range []string{"patches.example.org", "10.0.0.5", "::1"} {
		_, err := leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: name, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
		qt.Check(t, qt.IsNil(err), qt.Commentf("%s", name))
	}
	_, err = leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: "example.org"})
	qt.Check(t, qt.IsNotNil(err))
	qt.Check(t, qt.IsFalse(leaf.IsCA))
	for _, f := range []string{caKey, serverFile} {
		info, err := os.Stat(filepath.Join(dir, f))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(info.Mode().Perm(), 0o600), qt.Commentf("%s", f))
	}
	_, err = CreateCA(dir, "again", now)
	qt.Check(t, qt.Equals(code.Of(err), "TS7805"))
}

func TestTheServerCertificateIsRenewedInTime(t *testing.T) {
	t.Parallel()
	c := &clock{time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)}
	dir, ca := newCA(t, c.t)
	open := func(names ...string) *Own {
		o, err := OpenOwn(dir, names, quiet(), c.now)
		qt.Assert(t, qt.IsNil(err))
		return o
	}
	o := open("a.example.org")
	first := o.Certificate()
	qt.Check(t, qt.IsTrue(open("a.example.org").Certificate().Equal(first)), qt.Commentf("a restart keeps it"))
	c.t = c.t.Add(leafLife - renewAt - time.Hour)
	qt.Assert(t, qt.IsNil(o.Check()))
	qt.Check(t, qt.IsTrue(o.Certificate().Equal(first)))
	c.t = c.t.Add(2 * time.Hour)
	qt.Assert(t, qt.IsNil(o.Check()))
	second := o.Certificate()
	qt.Check(t, qt.IsFalse(second.Equal(first)))
	qt.Check(t, qt.IsNil(second.CheckSignatureFrom(ca.Certificate())), qt.Commentf("agents still trust it"))

	// Another process renews: this one takes what the file holds.
	qt.Assert(t, qt.IsNil(open("a.example.org").Renew()))
	qt.Assert(t, qt.IsNil(o.Check()))
	qt.Check(t, qt.IsFalse(o.Certificate().Equal(second)))

	// A new name in the configuration makes a new certificate.
	qt.Check(t, qt.IsNil(open("a.example.org", "b.example.org").Certificate().VerifyHostname("b.example.org")))

	// A file that is gone or damaged does not hurt a server that runs.
	third := o.Certificate()
	qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(dir, serverFile), []byte("damaged"), 0o600)))
	qt.Assert(t, qt.IsNil(o.Check()))
	qt.Check(t, qt.IsTrue(o.Certificate().Equal(third)))

	// A server that was off for years comes up with a good certificate.
	c.t = c.t.Add(5 * 365 * 24 * time.Hour)
	late := open("a.example.org").Certificate()
	qt.Check(t, qt.IsTrue(late.NotBefore.Before(c.t) && late.NotAfter.After(c.t.Add(leafLife-time.Hour))))

	// So does one whose clock was set back: what it has is not valid yet.
	c.t = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	early := open("a.example.org").Certificate()
	qt.Check(t, qt.IsTrue(early.NotBefore.Before(c.t)))

	// Nothing is signed beyond the authority's own end.
	c.t = ca.Certificate().NotAfter.Add(-time.Hour)
	last := open("a.example.org").Certificate()
	qt.Check(t, qt.IsFalse(last.NotAfter.After(ca.Certificate().NotAfter)))
	c.t = c.t.Add(2 * time.Hour)
	_, err := OpenOwn(dir, []string{"a.example.org"}, quiet(), c.now)
	qt.Check(t, qt.ErrorMatches(err, "the authority ended.*"))
}

func TestADiskThatIsFullDoesNotEndTheService(t *testing.T) {
	t.Parallel()
	c := &clock{time.Now()}
	dir, _ := newCA(t, c.t)
	// A directory in the file's place stands for all that keeps it from being
	// written; root ignores permissions.
	qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Join(dir, serverFile, "x"), 0o700)))
	o, err := OpenOwn(dir, []string{"localhost"}, quiet(), c.now)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsNotNil(o.Certificate()))
}

func TestAuthoritiesThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	now := time.Now()
	dir, _ := newCA(t, now)
	other, _ := newCA(t, now)
	read := func(dir, name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		qt.Assert(t, qt.IsNil(err))
		return b
	}
	chain, key, err := must(OpenCA(dir))(t).Issue([]string{"x"}, now)
	qt.Assert(t, qt.IsNil(err))
	tests := map[string][2][]byte{
		"nothing":              {nil, nil},
		"another's key":        {read(dir, caCert), read(other, caKey)},
		"no authority":         {chain, key},
		"a key for a cert":     {read(dir, caKey), read(dir, caKey)},
		"a cert for a key":     {read(dir, caCert), read(dir, caCert)},
		"a damaged cert":       {bytes.ReplaceAll(read(dir, caCert), []byte("M"), []byte("N")), read(dir, caKey)},
		"text that is not PEM": {[]byte("hello"), []byte("world")},
	}
	for name, files := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for i, f := range []string{caCert, caKey} {
				if files[i] != nil {
					qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(dir, f), files[i], 0o600)))
				}
			}
			_, err := OpenCA(dir)
			qt.Check(t, qt.Equals(code.Of(err), "TS7806"), qt.Commentf("%v", err))
		})
	}
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		qt.Assert(t, qt.IsNil(err))
		return v
	}
}

// writePair writes a certificate and key for a name.
func writePair(t *testing.T, ca *CA, certFile, keyFile, name string) {
	t.Helper()
	chain, key, err := ca.Issue([]string{name}, time.Now())
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(os.WriteFile(certFile, chain, 0o600)))
	qt.Assert(t, qt.IsNil(os.WriteFile(keyFile, key, 0o600)))
}

func TestFilesAreReadAgainWhenTheyChange(t *testing.T) {
	t.Parallel()
	_, ca := newCA(t, time.Now())
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	_, err := OpenFiles(cert, key, quiet())
	qt.Check(t, qt.Equals(code.Of(err), "TS7806"))
	writePair(t, ca, cert, key, "one")
	f, err := OpenFiles(cert, key, quiet())
	qt.Assert(t, qt.IsNil(err))
	changed, err := f.Check()
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.IsFalse(changed))

	// Half of the change is there: the old pair stays.
	old, err := os.ReadFile(key)
	qt.Assert(t, qt.IsNil(err))
	writePair(t, ca, cert, key, "two")
	next, err := os.ReadFile(key)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(os.WriteFile(key, old, 0o600)))
	_, err = f.Check()
	qt.Check(t, qt.Equals(code.Of(err), "TS7806"))
	qt.Check(t, qt.IsNil(f.Certificate().VerifyHostname("one")))
	qt.Assert(t, qt.IsNil(os.WriteFile(key, next, 0o600)))
	changed, err = f.Check()
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(changed))
	qt.Check(t, qt.IsNil(f.Certificate().VerifyHostname("two")))
	got, err := f.GetCertificate(nil)
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(got.Leaf.Equal(f.Certificate())))

	qt.Assert(t, qt.IsNil(os.Remove(cert)))
	_, err = f.Check()
	qt.Check(t, qt.Equals(code.Of(err), "TS7806"))
	qt.Check(t, qt.IsNil(f.Certificate().VerifyHostname("two")))
}

func TestFilesAreWatched(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, ca := newCA(t, time.Now())
		dir := t.TempDir()
		cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
		writePair(t, ca, cert, key, "one")
		var log bytes.Buffer
		f, err := OpenFiles(cert, key, slog.New(slog.NewTextHandler(&log, nil)))
		qt.Assert(t, qt.IsNil(err))
		go f.Run(t.Context())
		qt.Assert(t, qt.IsNil(os.WriteFile(cert, []byte("damaged"), 0o600)))
		time.Sleep(time.Minute)
		synctest.Wait()
		qt.Check(t, qt.Equals(bytes.Count(log.Bytes(), []byte("the one before stays")), 1)) // once, not at each look
		writePair(t, ca, cert, key, "two")
		time.Sleep(time.Minute)
		synctest.Wait()
		qt.Check(t, qt.IsNil(f.Certificate().VerifyHostname("two")))
	})
}

func TestTLSVersions(t *testing.T) {
	t.Parallel()
	dir, ca := newCA(t, time.Now())
	o, err := OpenOwn(dir, []string{"localhost"}, quiet(), time.Now)
	qt.Assert(t, qt.IsNil(err))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca.PEM())
	tests := []struct {
		min    string
		client uint16
		ok     bool
	}{
		{"1.2", tls.VersionTLS11, false},
		{"1.2", tls.VersionTLS12, true},
		{"1.2", tls.VersionTLS13, true},
		{"1.3", tls.VersionTLS12, false},
		{"1.3", tls.VersionTLS13, true},
	}
	for _, tt := range tests {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }))
		s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
		s.TLS = Config(o.GetCertificate, tt.min)
		s.StartTLS()
		conn, err := tls.Dial("tcp", s.Listener.Addr().String(), &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: tt.client, MaxVersion: tt.client})
		qt.Check(t, qt.Equals(err == nil, tt.ok), qt.Commentf("min %s, client %x: %v", tt.min, tt.client, err))
		if err == nil {
			qt.Check(t, qt.IsNil(conn.Close()))
		}
		s.Close()
	}
	// What has no forward secrecy, or no authenticated encryption, is refused.
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.TLS = Config(o.GetCertificate, "1.2")
	s.StartTLS()
	defer s.Close()
	_, err = tls.Dial("tcp", s.Listener.Addr().String(), &tls.Config{
		RootCAs: pool, ServerName: "localhost", MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA},
	})
	qt.Check(t, qt.IsNotNil(err))
}

func TestPort(t *testing.T) {
	t.Parallel()
	n, err := Port("[::]:8443")
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(n, 8443))
	_, err = Port("8443")
	qt.Check(t, qt.IsNotNil(err))
	_, err = Port(net.JoinHostPort("h", "https"))
	qt.Check(t, qt.IsNotNil(err))
}

func FuzzParseCA(f *testing.F) {
	dir := filepath.Join(f.TempDir(), "ca")
	if _, err := CreateCA(dir, "x", time.Unix(1_700_000_000, 0)); err != nil {
		f.Fatal(err)
	}
	cert, _ := os.ReadFile(filepath.Join(dir, caCert))
	key, _ := os.ReadFile(filepath.Join(dir, caKey))
	f.Add(cert, key)
	f.Add(key, cert)
	f.Fuzz(func(t *testing.T, cert, key []byte) {
		if ca, err := parseCA(cert, key); (ca == nil) == (err == nil) {
			t.Fatalf("%v %v", ca, err)
		}
	})
}
