// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"
	"net/url"
	"os"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Mail is the mail server that notifications are sent by.
type Mail struct {
	Host     string `koanf:"host"`     // "": no mail is sent
	Port     int    `koanf:"port"`     // 0: 587, 465 or 25 by its security
	Security string `koanf:"security"` // starttls, tls or none
	User     string `koanf:"user"`     // "": no authentication
	Password Secret `koanf:"password"`
	// PasswordFile is read when Password is empty.
	PasswordFile string `koanf:"password_file"`
	From         string `koanf:"from"`
	Hello        string `koanf:"hello"` // "": the domain of From
	CA           string `koanf:"ca"`    // PEM of an authority that is believed beside the system's
}

// Webhooks says where notifications may be sent to.
type Webhooks struct {
	// Allow are networks that may be called though they are this host's own or link-local.
	Allow []string `koanf:"allow"`
	Plain string   `koanf:"plain"` // yes: http:// may be called
	Proxy string   `koanf:"proxy"` // a URL; "": as the environment says; none
	CA    string   `koanf:"ca"`    // PEM of an authority that is believed beside the system's
}

func (c *Config) checkNotifications(bad complain) error {
	switch m := c.Mail; {
	case m.Security != "starttls" && m.Security != "tls" && m.Security != "none":
		return bad("mail.security", "%q is none of starttls, tls, none", m.Security)
	case m.Host == "" && (m.From != "" || m.User != ""):
		return bad("mail.host", "it is empty and mail is set up")
	case m.Host != "" && m.From == "":
		return bad("mail.from", "it is empty: tsugi@example.com")
	case m.Port < 0 || m.Port > 65535:
		return bad("mail.port", "%d is no port", m.Port)
	}
	if p := c.Webhooks.Plain; p != "yes" && p != "no" {
		return bad("webhooks.plain", "%q is neither yes nor no", p)
	}
	if p := c.Webhooks.Proxy; p != "" && p != "none" {
		if u, err := url.Parse(p); err != nil || u.Host == "" {
			return bad("webhooks.proxy", "%q is not of the form http://HOST:PORT", p)
		}
	}
	_, err := c.AllowedNetworks()
	return err
}

// MailPassword is the password, from the file if one is named.
func (c *Config) MailPassword() (string, error) {
	if c.Mail.Password != "" || c.Mail.PasswordFile == "" {
		return string(c.Mail.Password), nil
	}
	b, err := os.ReadFile(c.Path(c.Mail.PasswordFile))
	if err != nil {
		return "", code.New("TS7803", "mail.password_file", "").With(err)
	}
	return strings.TrimSpace(string(b)), nil
}

// AllowedNetworks are those that webhooks may go to though they are close.
func (c *Config) AllowedNetworks() ([]netip.Prefix, error) {
	return networks(c.Webhooks.Allow, "webhooks.allow")
}
