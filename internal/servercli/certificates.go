// SPDX-License-Identifier: Apache-2.0

package servercli

import (
	"context"
	"crypto/tls"
	"log/slog"
	"os"
	"time"

	"github.com/tsugi-project/tsugi/internal/server/tlsconf"
	"github.com/tsugi-project/tsugi/internal/servercli/config"
)

// certificates are where a server has its certificate from.
type certificates struct {
	tls   *tls.Config // nil: plain HTTP
	ca    []byte      // PEM of the authority that machines must be told; nil: a public one
	run   func(context.Context) error
	close func()
}

func openCertificates(c *config.Config, log *slog.Logger) (*certificates, error) {
	certs := &certificates{
		run:   func(ctx context.Context) error { <-ctx.Done(); return nil },
		close: func() {},
	}
	switch c.TLS.Mode {
	case "own":
		own, err := tlsconf.OpenOwn(c.Path(c.TLS.Dir), certificateNames(c), log, time.Now)
		if err != nil {
			return nil, err
		}
		certs.tls, certs.ca, certs.run = tlsconf.Config(own.GetCertificate, c.TLS.Min), own.CA().PEM(), own.Run
	case "files":
		files, err := tlsconf.OpenFiles(c.Path(c.TLS.Cert), c.Path(c.TLS.Key), log)
		if err != nil {
			return nil, err
		}
		certs.tls, certs.run = tlsconf.Config(files.GetCertificate, c.TLS.Min), files.Run
	case "acme":
		return certs, certs.fromACME(c, log)
	}
	return certs, nil
}

func (certs *certificates) fromACME(c *config.Config, log *slog.Logger) error {
	port, err := tlsconf.Port(c.Address())
	if err != nil {
		return err
	}
	acme, err := tlsconf.OpenACME(tlsconf.ACMEOptions{
		Names: append([]string{c.Host()}, c.TLS.Names...), Directory: c.TLS.ACME.Directory, Email: c.TLS.ACME.Email,
		Dir: c.Path(c.TLS.ACME.Dir), HTTPPort: c.TLS.ACME.HTTPPort, TLSPort: port, CA: c.Path(c.TLS.ACME.CA), Log: log,
	})
	if err != nil {
		return err
	}
	certs.tls = tlsconf.Config(acme.GetCertificate, c.TLS.Min)
	certs.tls.NextProtos = append(certs.tls.NextProtos, acme.Protocols()...)
	certs.close = acme.Close
	certs.run = func(ctx context.Context) error {
		if err := acme.Manage(ctx); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	}
	return nil
}

// certificateNames are what a certificate of the own authority is for: the
// URL's host, what is configured, and this machine when it talks to itself.
func certificateNames(c *config.Config) []string {
	names := append([]string{c.Host()}, c.TLS.Names...)
	if host, err := os.Hostname(); err == nil && host != "" {
		names = append(names, host)
	}
	return append(names, "localhost", "127.0.0.1", "::1")
}
