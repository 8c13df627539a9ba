// SPDX-License-Identifier: Apache-2.0

package servercli

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/x509"
	"net/http"
	"net/url"
	"os"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/courier"
	"github.com/tsugi-project/tsugi/internal/server"
	"github.com/tsugi-project/tsugi/internal/servercli/config"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// sealingKey is what the secrets of webhooks are sealed with: every replica
// makes the same of the server's identity, which it has in any case.
func sealingKey(id trust.Identity) ([]byte, error) {
	return hkdf.Key(sha256.New, []byte(id.Secret()), nil, "tsugi notify 1", 32)
}

// couriers carry notifications.
type couriers struct {
	options server.NotifyOptions
	hooks   *courier.Webhooks
}

func openCouriers(c *config.Config, key []byte) (*couriers, error) {
	allow, err := c.AllowedNetworks()
	if err != nil {
		return nil, err
	}
	roots, err := rootsWith(c.Path(c.Webhooks.CA), "webhooks.ca")
	if err != nil {
		return nil, err
	}
	plain := c.Webhooks.Plain == "yes"
	out := &couriers{hooks: courier.NewWebhooks(courier.WebhookOptions{
		Allow: allow, Plain: plain, Roots: roots, Proxy: proxyOf(c.Webhooks.Proxy), Agent: "tsugi-server/" + command.Build().Version,
	})}
	out.options = server.NotifyOptions{Webhooks: out.hooks, Plain: plain, Key: key}
	if c.Mail.Host == "" {
		return out, nil
	}
	password, err := c.MailPassword()
	if err != nil {
		return nil, err
	}
	if roots, err = rootsWith(c.Path(c.Mail.CA), "mail.ca"); err != nil {
		return nil, err
	}
	mail, err := courier.NewMail(courier.MailOptions{
		Host: c.Mail.Host, Port: c.Mail.Port, Security: courier.Security(c.Mail.Security), User: c.Mail.User, Password: password,
		From: c.Mail.From, Hello: c.Mail.Hello, Roots: roots,
	})
	if err != nil {
		return nil, code.New("TS7803", "mail", "").With(err)
	}
	out.options.Mail, out.options.From = mail, c.Mail.From
	return out, nil
}

func (c *couriers) close() { c.hooks.Close() }

// rootsWith are the system's authorities and those of a file; nil without one.
func rootsWith(path, key string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, code.New("TS7803", key, "").With(err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // a system without any
	}
	if !pool.AppendCertsFromPEM(b) {
		return nil, code.New("TS7803", key, path+" holds no certificate")
	}
	return pool, nil
}

func proxyOf(setting string) func(*http.Request) (*url.URL, error) {
	switch setting {
	case "":
		return http.ProxyFromEnvironment
	case "none":
		return nil
	}
	return func(*http.Request) (*url.URL, error) { return url.Parse(setting) }
}
