// SPDX-License-Identifier: Apache-2.0

package courier

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/smtp"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/notify"
)

// Security is how a connection to a mail server is kept from others.
type Security string

// The ways.
const (
	// StartTLS begins in the clear and goes on only with TLS, which the server
	// has to offer: what nobody offers may be what somebody in between took out.
	StartTLS Security = "starttls"
	TLS      Security = "tls" // from the first byte, as on port 465
	Clear    Security = "none"
)

// MailOptions are what mail is sent with.
type MailOptions struct {
	Host     string // of the mail server; its certificate is for this name
	Port     int    // 0: 587, or 465 with TLS, or 25 in the clear
	Security Security
	User     string // "": no authentication
	Password string
	From     string // NAME@DOMAIN, or Some Name <NAME@DOMAIN>
	Hello    string // this host as it greets; "": the domain of From
	Roots    *x509.CertPool
	Timeout  time.Duration // of one message; 0 is 30 s
	Now      func() time.Time
}

const mailTimeout = 30 * time.Second

// Mail sends e-mail. It is for several goroutines.
type Mail struct {
	o      MailOptions
	from   *mail.Address
	domain string
}

// NewMail checks the options. Errors: TS8312.
func NewMail(o MailOptions) (*Mail, error) {
	bad := func(why string) (*Mail, error) { return nil, code.New("TS8312", "e-mail", why) }
	from, err := mail.ParseAddress(o.From)
	if err != nil || notify.CheckAddress(from.Address) != nil || strings.ContainsFunc(from.Name, func(r rune) bool { return r < ' ' }) {
		return bad(fmt.Sprintf("from %.80q is not an address to send from", o.From))
	}
	m := &Mail{o: o, from: from, domain: from.Address[strings.LastIndexByte(from.Address, '@')+1:]}
	if o.Host == "" || strings.ContainsAny(o.Host, " /:@") && net.ParseIP(o.Host) == nil {
		return bad("the mail server has no name or address")
	}
	if m.o.Security == "" {
		m.o.Security = StartTLS
	}
	switch m.o.Security {
	case StartTLS, TLS, Clear:
	default:
		return bad("security is starttls, tls or none")
	}
	if m.o.Security == Clear && o.User != "" {
		return bad("a password would go to the mail server in the clear: use starttls or tls")
	}
	if o.Port == 0 {
		m.o.Port = map[Security]int{StartTLS: 587, TLS: 465, Clear: 25}[m.o.Security]
	}
	if m.o.Port < 1 || m.o.Port > 65535 {
		return bad("the port is none")
	}
	if o.Hello == "" {
		m.o.Hello = m.domain
	}
	if strings.ContainsFunc(m.o.Hello, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return bad("hello is not a host's name")
	}
	if o.Timeout <= 0 {
		m.o.Timeout = mailTimeout
	}
	m.o.Timeout = min(m.o.Timeout, lease/2) // or another worker would take it up meanwhile
	if o.Now == nil {
		m.o.Now = time.Now
	}
	return m, nil
}

// Send makes one attempt.
func (m *Mail) Send(ctx context.Context, _ notify.Channel, d notify.Delivery) notify.Outcome {
	if err := notify.CheckAddress(d.To); err != nil {
		return notify.Outcome{Problem: code.New("TS8311", "", err.Error()), Final: true}
	}
	ctx, cancel := context.WithTimeout(ctx, m.o.Timeout)
	defer cancel()
	err := m.deliver(ctx, d)
	if err == nil {
		return notify.Outcome{}
	}
	if errors.Is(err, errNoTLS) {
		return notify.Outcome{Problem: code.New("TS8315", m.o.Host, ""), Final: false} // it may be a passing fault of theirs
	}
	why := err.Error()
	if ctx.Err() != nil {
		why = "the mail server did not answer in time"
	}
	final := false
	if t, ok := errors.AsType[*textproto.Error](err); ok {
		final = t.Code >= 500 && !slices.Contains([]int{530, 534, 535, 538, 421}, t.Code) // a password can be mended
		why = fmt.Sprintf("%d %s", t.Code, excerpt([]byte(t.Msg)))
	}
	return notify.Outcome{Problem: code.New("TS8311", d.To+" by "+m.o.Host, why), Final: final}
}

var errNoTLS = errors.New("no STARTTLS")

// deliver holds one conversation with the mail server.
func (m *Mail) deliver(ctx context.Context, d notify.Delivery) error {
	below, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(m.o.Host, fmt.Sprint(m.o.Port)))
	if err != nil {
		return err
	}
	defer below.Close()
	stop := context.AfterFunc(ctx, func() { _ = below.SetDeadline(time.Unix(1, 0)) }) // whoever reads or writes stops
	defer stop()
	conf := &tls.Config{ServerName: m.o.Host, RootCAs: m.o.Roots, MinVersion: tls.VersionTLS12}
	conn := below
	if m.o.Security == TLS {
		secure := tls.Client(below, conf)
		if err := secure.HandshakeContext(ctx); err != nil {
			return err
		}
		conn = secure
	}
	c, err := smtp.NewClient(conn, m.o.Host)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Hello(m.o.Hello); err != nil {
		return err
	}
	if m.o.Security == StartTLS {
		if ok, _ := c.Extension("STARTTLS"); !ok {
			return errNoTLS
		}
		if err := c.StartTLS(conf); err != nil {
			return fmt.Errorf("starttls: %w", err)
		}
	}
	if m.o.User != "" {
		_, offered := c.Extension("AUTH")
		if err := c.Auth(m.auth(strings.Fields(offered))); err != nil {
			return fmt.Errorf("authentication: %w", err)
		}
	}
	if err := c.Mail(m.from.Address); err != nil {
		return fmt.Errorf("sender: %w", err)
	}
	if err := c.Rcpt(d.To); err != nil {
		return fmt.Errorf("recipient: %w", err)
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(m.message(d)); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	_ = c.Quit() // it has the message: what comes now changes nothing
	return nil
}

// auth is PLAIN, or LOGIN where a server knows only that.
func (m *Mail) auth(offered []string) smtp.Auth {
	if !slices.Contains(offered, "PLAIN") && slices.Contains(offered, "LOGIN") {
		return &loginAuth{user: m.o.User, password: m.o.Password}
	}
	return smtp.PlainAuth("", m.o.User, m.o.Password, m.o.Host)
}

// loginAuth is the old LOGIN, which some large providers still want.
type loginAuth struct {
	user, password string
	asked          int
}

func (a *loginAuth) Start(s *smtp.ServerInfo) (string, []byte, error) {
	if !s.TLS {
		return "", nil, errors.New("a password is not sent in the clear")
	}
	return "LOGIN", nil, nil
}

func (a *loginAuth) Next(_ []byte, more bool) ([]byte, error) {
	if !more {
		return nil, nil
	}
	a.asked++
	switch a.asked {
	case 1:
		return []byte(a.user), nil
	case 2:
		return []byte(a.password), nil
	}
	return nil, errors.New("the mail server asks for more than a name and a password")
}

// message is the mail: headers that foreign text can't leave, and lines that
// every server carries.
func (m *Mail) message(d notify.Delivery) []byte {
	var b bytes.Buffer
	header := func(name, value string) { fmt.Fprintf(&b, "%s: %s\r\n", name, value) }
	header("From", m.from.String())
	header("To", "<"+d.To+">")
	subject := mime.BEncoding.Encode("utf-8", d.Message.Subject)
	if strings.HasPrefix(subject, "=?") { // RFC 2047: no line of more than 76
		subject = "\r\n " + strings.ReplaceAll(subject, "?= =?", "?=\r\n =?")
	}
	header("Subject", subject)
	header("Date", m.o.Now().Format(time.RFC1123Z))
	header("Message-ID", "<"+d.Message.ID+"@"+m.domain+">")
	if t := d.Message.Thread; t != "" {
		header("References", "<"+t+"@"+m.domain+">")
	}
	header("Auto-Submitted", "auto-generated") // RFC 3834: no answers from holidays
	header("MIME-Version", "1.0")
	header("Content-Type", "text/plain; charset=utf-8")
	header("Content-Transfer-Encoding", "quoted-printable")
	b.WriteString("\r\n")
	w := quotedprintable.NewWriter(&b)
	_, _ = w.Write([]byte(strings.ReplaceAll(d.Message.Text, "\n", "\r\n"))) // into memory
	_ = w.Close()
	return b.Bytes()
}
