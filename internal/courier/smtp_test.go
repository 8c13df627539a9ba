// SPDX-License-Identifier: Apache-2.0

package courier

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
)

// mailServer is an SMTP server (RFC 5321) in this process: it keeps the rules
// of the protocol, with STARTTLS (RFC 3207) and AUTH (RFC 4954), and goes wrong
// in the ways that its fields name.
type mailServer struct {
	t     *testing.T
	cert  tls.Certificate
	roots *x509.CertPool
	addr  *net.TCPAddr
	wg    sync.WaitGroup

	// How it behaves; set before the first connection.
	implicit   bool              // TLS from the first byte
	noSTARTTLS bool              // it offers none
	login      bool              // it knows AUTH LOGIN and not PLAIN
	needAuth   bool              // it takes mail only from those it knows
	answers    map[string]string // instead of the usual answer, by verb or "RCPT <address>"
	hang       string            // verb after which it says nothing more
	drop       string            // verb after which it hangs up
	inject     string            // what somebody in between puts behind the answer to STARTTLS

	mu       sync.Mutex
	taken    []mailTaken
	words    []string // commands, in order
	problems []string // breaches of the protocol by the client
	open     []net.Conn
}

type mailTaken struct {
	from, to, text string
	secure         bool
	user           string
}

func newMailServer(t *testing.T, change func(*mailServer)) *mailServer {
	t.Helper()
	s := &mailServer{t: t, answers: map[string]string{}}
	s.cert, s.roots = certificate(t)
	if change != nil {
		change(s)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	qt.Assert(t, qt.IsNil(err))
	s.addr = l.Addr().(*net.TCPAddr)
	s.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.open = append(s.open, conn)
			s.mu.Unlock()
			s.wg.Go(func() {
				defer conn.Close()
				s.serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		s.mu.Lock()
		for _, c := range s.open {
			c.Close()
		}
		s.mu.Unlock()
		s.wg.Wait()
		qt.Check(t, qt.HasLen(s.problems, 0))
	})
	return s
}

func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	qt.Assert(t, qt.IsNil(err))
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	qt.Assert(t, qt.IsNil(err))
	parsed, err := x509.ParseCertificate(der)
	qt.Assert(t, qt.IsNil(err))
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func (s *mailServer) problem(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problems = append(s.problems, fmt.Sprintf(format, args...))
}

// got is what the server took, and what it was told to do.
func (s *mailServer) got() (taken []mailTaken, words []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.taken), slices.Clone(s.words)
}

// session is one conversation.
type session struct {
	*mailServer
	conn           net.Conn
	in             *bufio.Reader
	secure         bool
	hello          bool
	user, from, to string
}

func (s *mailServer) serve(conn net.Conn) {
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	c := &session{mailServer: s, conn: conn}
	if s.implicit {
		c.secure = true
		c.conn = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{s.cert}})
	}
	c.in = bufio.NewReader(c.conn)
	if !c.say("CONNECT", "220 mail.test ESMTP") {
		return
	}
	for c.command() {
	}
}

// say answers a verb, unless the server is to go wrong there. It tells whether
// the conversation goes on.
func (c *session) say(verb, answer string) bool {
	if a, ok := c.answers[verb]; ok {
		answer = a
	}
	if c.hang == verb {
		_, _ = c.in.ReadByte() // until the client goes
		return false
	}
	if _, err := fmt.Fprintf(c.conn, "%s\r\n", strings.ReplaceAll(answer, "\n", "\r\n")); err != nil || c.drop == verb {
		return false
	}
	return !strings.HasPrefix(answer, "421")
}

// line reads one line, which has to end as the protocol wants.
func (c *session) line() (string, bool) {
	s, err := c.in.ReadString('\n')
	if err != nil {
		return "", false
	}
	if !strings.HasSuffix(s, "\r\n") || len(s) > 1000 || strings.Contains(s[:len(s)-2], "\r") {
		c.problem("line %q", s)
	}
	return strings.TrimSuffix(s, "\r\n"), true
}

func (c *session) command() bool {
	line, ok := c.line()
	if !ok {
		return false
	}
	verb, rest, _ := strings.Cut(line, " ")
	c.mu.Lock()
	c.words = append(c.words, verb)
	c.mu.Unlock()
	if !c.hello && verb != "EHLO" && verb != "QUIT" {
		c.problem("%s before EHLO", verb)
	}
	switch verb {
	case "EHLO":
		c.hello = true
		ext := []string{"mail.test", "SIZE 1000000", "8BITMIME"}
		if !c.secure && !c.noSTARTTLS {
			ext = append(ext, "STARTTLS")
		}
		if c.secure {
			ext = append(ext, map[bool]string{false: "AUTH PLAIN LOGIN", true: "AUTH LOGIN"}[c.login])
		}
		return c.say(verb, "250-"+strings.Join(ext[:len(ext)-1], "\n250-")+"\n250 "+ext[len(ext)-1])
	case "STARTTLS":
		if !c.say(verb, "220 go ahead"+c.inject) || strings.HasPrefix(c.answers[verb], "4") {
			return c.answers[verb] != ""
		}
		secure := tls.Server(c.conn, &tls.Config{Certificates: []tls.Certificate{c.cert}})
		if secure.Handshake() != nil {
			return false
		}
		c.conn, c.in, c.secure, c.hello = secure, bufio.NewReader(secure), true, false
		return true
	case "AUTH":
		return c.auth(rest)
	case "MAIL":
		if c.needAuth && c.user == "" {
			return c.say(verb, "530 5.7.0 authentication required")
		}
		c.from = strings.TrimSuffix(strings.TrimPrefix(strings.Fields(rest)[0], "FROM:<"), ">")
		return c.say(verb, "250 ok")
	case "RCPT":
		c.to = strings.TrimSuffix(strings.TrimPrefix(rest, "TO:<"), ">")
		if a, ok := c.answers["RCPT "+c.to]; ok {
			return c.say("-", a)
		}
		return c.say(verb, "250 ok")
	case "DATA":
		return c.data()
	case "QUIT":
		c.say(verb, "221 bye")
		return false
	}
	return c.say(verb, "500 what?")
}

func (c *session) auth(rest string) bool {
	if !c.secure {
		c.problem("a password in the clear")
	}
	decode := func(s string) string {
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			c.problem("%q is not base64", s)
		}
		return string(b)
	}
	how, first, _ := strings.Cut(rest, " ")
	var user, password string
	switch how {
	case "PLAIN":
		parts := strings.Split(decode(first), "\x00")
		if len(parts) != 3 {
			return c.say("AUTH", "501 what?")
		}
		user, password = parts[1], parts[2]
	case "LOGIN":
		for i, ask := range []string{"Username:", "Password:"} {
			fmt.Fprintf(c.conn, "334 %s\r\n", base64.StdEncoding.EncodeToString([]byte(ask)))
			s, ok := c.line()
			if !ok {
				return false
			}
			*[]*string{&user, &password}[i] = decode(s)
		}
	}
	if password != "right" {
		return c.say("AUTH", "535 5.7.8 wrong")
	}
	c.user = user
	return c.say("AUTH", "235 welcome")
}

func (c *session) data() bool {
	if !c.say("DATA", "354 go on") {
		return false
	}
	if a := c.answers["DATA"]; a != "" {
		return true
	}
	var text strings.Builder
	for {
		s, ok := c.line()
		if !ok {
			return false
		}
		if s == "." {
			break
		}
		for _, r := range []byte(s) {
			if r > 126 || r < 32 && r != '\t' {
				c.problem("byte %#x in %q", r, s)
			}
		}
		text.WriteString(strings.TrimPrefix(s, ".") + "\r\n")
	}
	if c.answers["TEXT"] == "" && c.hang != "TEXT" {
		c.mu.Lock()
		c.taken = append(c.taken, mailTaken{from: c.from, to: c.to, text: text.String(), secure: c.secure, user: c.user})
		c.mu.Unlock()
	}
	return c.say("TEXT", "250 taken")
}
