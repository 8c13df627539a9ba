// SPDX-License-Identifier: Apache-2.0

package courier

import (
	"context"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"pgregory.net/rapid"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/notify"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func (s *mailServer) mail(change func(*MailOptions)) *Mail {
	s.t.Helper()
	o := MailOptions{
		Host: "127.0.0.1", Port: s.addr.Port, From: "Tsugi <tsugi@example.org>", Roots: s.roots, Timeout: time.Minute, Now: func() time.Time { return now },
	}
	if change != nil {
		change(&o)
	}
	m, err := NewMail(o)
	qt.Assert(s.t, qt.IsNil(err))
	return m
}

func letter(to, subject, text string) notify.Delivery {
	return notify.Delivery{ID: "v1", To: to, Message: notify.Message{ID: "msg_1", Thread: "msg_t", Subject: subject, Text: text}}
}

// read is a mail as a mail program reads it.
func read(t *testing.T, text string) (*mail.Message, string) {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(text))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(m.Header.Get("Content-Transfer-Encoding"), "quoted-printable"))
	body, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	qt.Assert(t, qt.IsNil(err))
	return m, strings.ReplaceAll(string(body), "\r\n", "\n")
}

func TestMailArrivesAsItWasWritten(t *testing.T) {
	t.Parallel()
	s := newMailServer(t, nil)
	subject := "[urgent] ロールアウト " + strings.Repeat("とても長い件名 ", 15)
	text := "a line\n.\n..\n. three dots\n" + strings.Repeat("x", 3000) + "\n群: データベース = ok\n\ttab\ntrailing space \n-- \nfoot\n"
	o := s.mail(nil).Send(t.Context(), notify.Channel{}, letter("ann@example.org", strings.TrimSpace(subject), text))
	qt.Assert(t, qt.IsNil(o.Problem))
	taken, _ := s.got()
	qt.Assert(t, qt.HasLen(taken, 1))
	got := taken[0]
	qt.Check(t, qt.IsTrue(got.secure))
	qt.Check(t, qt.Equals(got.from, "tsugi@example.org"))
	qt.Check(t, qt.Equals(got.to, "ann@example.org"))
	m, body := read(t, got.text)
	qt.Check(t, qt.Equals(body, text))
	decoded, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(decoded, strings.TrimSpace(subject)))
	qt.Check(t, qt.Equals(m.Header.Get("From"), `"Tsugi" <tsugi@example.org>`))
	qt.Check(t, qt.Equals(m.Header.Get("To"), "<ann@example.org>"))
	qt.Check(t, qt.Equals(m.Header.Get("Message-ID"), "<msg_1@example.org>"))
	qt.Check(t, qt.Equals(m.Header.Get("References"), "<msg_t@example.org>"))
	qt.Check(t, qt.Equals(m.Header.Get("Auto-Submitted"), "auto-generated"))
	date, err := m.Header.Date()
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(date.Equal(now)))
	for line := range strings.Lines(got.text) {
		qt.Check(t, qt.IsTrue(len(line) <= 78), qt.Commentf("%q", line))
	}
}

func TestHowMailServersAreTalkedTo(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		server func(*mailServer)
		mail   func(*MailOptions)
		user   string
	}{
		"STARTTLS":                 {},
		"TLS from the first byte":  {server: func(s *mailServer) { s.implicit = true }, mail: func(o *MailOptions) { o.Security = TLS }},
		"in the clear, where told": {server: func(s *mailServer) { s.noSTARTTLS = true }, mail: func(o *MailOptions) { o.Security = Clear }},
		"with a password": {
			server: func(s *mailServer) { s.needAuth = true }, mail: func(o *MailOptions) { o.User, o.Password = "tsugi", "right" }, user: "tsugi",
		},
		"with the old LOGIN": {
			server: func(s *mailServer) { s.needAuth, s.login = true, true }, mail: func(o *MailOptions) { o.User, o.Password = "tsugi", "right" }, user: "tsugi",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newMailServer(t, c.server)
			m := s.mail(c.mail)
			o := m.Send(t.Context(), notify.Channel{}, letter("ann@example.org", "s", "t\n"))
			qt.Assert(t, qt.IsNil(o.Problem))
			taken, words := s.got()
			qt.Assert(t, qt.HasLen(taken, 1))
			qt.Check(t, qt.Equals(taken[0].user, c.user))
			qt.Check(t, qt.Equals(taken[0].secure, m.o.Security != Clear))
			qt.Check(t, qt.Equals(words[len(words)-1], "QUIT"))
		})
	}
}

func TestWhatMailServersRefuse(t *testing.T) {
	t.Parallel()
	answers := func(pairs ...string) func(*mailServer) {
		return func(s *mailServer) {
			for i := 0; i < len(pairs); i += 2 {
				s.answers[pairs[i]] = pairs[i+1]
			}
		}
	}
	wrong := func(o *MailOptions) { o.User, o.Password = "tsugi", "wrong" }
	short := func(o *MailOptions) { o.Timeout = 300 * time.Millisecond }
	for name, c := range map[string]struct {
		server func(*mailServer)
		mail   func(*MailOptions)
		code   code.Code
		says   string
		final  bool
	}{
		"no STARTTLS":                         {server: func(s *mailServer) { s.noSTARTTLS = true }, code: "TS8315"},
		"STARTTLS that is not to be had now":  {server: answers("STARTTLS", "454 not now"), says: "454"},
		"a certificate of nobody":             {mail: func(o *MailOptions) { o.Roots = nil }, says: "starttls: .*certificate"},
		"a certificate of another":            {mail: func(o *MailOptions) { o.Host = "localhost" }, says: "certificate"},
		"nobody there":                        {mail: func(o *MailOptions) { o.Port = 1 }, says: "refused"},
		"a server that is busy":               {server: answers("CONNECT", "421 too many"), says: "421 too many"},
		"a sender that it does not want":      {server: answers("MAIL", "550 5.7.1 not you"), says: "550 5.7.1 not you", final: true},
		"a recipient that is not there":       {server: answers("RCPT ann@example.org", "550 5.1.1 no such user"), says: "no such user", final: true},
		"a recipient whose box is full":       {server: answers("RCPT", "452 4.2.2 full"), says: "452 4.2.2 full"},
		"a recipient on a grey list":          {server: answers("RCPT", "450 4.7.1 come back later"), says: "come back"},
		"a text that it does not take":        {server: answers("TEXT", "554 5.6.0 spam"), says: "554 5.6.0 spam", final: true},
		"a text that it can't store":          {server: answers("TEXT", "451 4.3.0 disk"), says: "451"},
		"words with escapes":                  {server: answers("TEXT", "554 \x1b[31mred"), says: "554 .?\\[31mred", final: true},
		"many lines":                          {server: answers("TEXT", "554-one\n554 two"), says: "554 one two", final: true},
		"a wrong password":                    {server: func(s *mailServer) { s.needAuth = true }, mail: wrong, says: "535"},
		"no password where one is needed":     {server: func(s *mailServer) { s.needAuth = true }, says: "530"},
		"a server that hangs up":              {server: func(s *mailServer) { s.drop = "MAIL" }, says: "EOF|reset"},
		"a server that hangs up at the text":  {server: func(s *mailServer) { s.drop = "DATA" }, says: "EOF|reset|broken pipe"},
		"a server that says nothing":          {server: func(s *mailServer) { s.hang = "CONNECT" }, mail: short, says: "in time"},
		"a server that says nothing any more": {server: func(s *mailServer) { s.hang = "TEXT" }, mail: short, says: "in time"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newMailServer(t, c.server)
			o := s.mail(c.mail).Send(t.Context(), notify.Channel{}, letter("ann@example.org", "s", "t\n"))
			qt.Assert(t, qt.IsNotNil(o.Problem))
			if c.code == "" {
				c.code = "TS8311"
			}
			qt.Check(t, qt.Equals(o.Problem.Code, c.code))
			qt.Check(t, qt.Matches(o.Problem.Why, "(?i).*("+c.says+").*"))
			qt.Check(t, qt.Equals(o.Final, c.final))
			qt.Check(t, qt.IsFalse(strings.Contains(o.Problem.Error(), "\x1b")))
			taken, _ := s.got()
			qt.Check(t, qt.HasLen(taken, 0))
		})
	}
}

// TestNobodyPutsWordsInBetween: what comes in the clear behind the answer to
// STARTTLS is not taken for the server's (CVE-2011-0411).
func TestNobodyPutsWordsInBetween(t *testing.T) {
	t.Parallel()
	s := newMailServer(t, func(s *mailServer) { s.inject = "\n250-evil\n250 AUTH PLAIN\n235 fine\n250 ok" })
	o := s.mail(nil).Send(t.Context(), notify.Channel{}, letter("ann@example.org", "s", "t\n"))
	taken, words := s.got()
	if o.Problem != nil { // TLS met it: the connection is given up
		qt.Check(t, qt.HasLen(taken, 0))
		return
	}
	qt.Assert(t, qt.HasLen(taken, 1))
	qt.Check(t, qt.IsTrue(taken[0].secure))
	qt.Check(t, qt.DeepEquals(words, []string{"EHLO", "STARTTLS", "EHLO", "MAIL", "RCPT", "DATA", "QUIT"}))
}

func TestNoAddressEndsALine(t *testing.T) {
	t.Parallel()
	s := newMailServer(t, nil)
	for _, to := range []string{"a@example.org>\r\nRCPT TO:<b@example.org", "a@example.org\nx", "", "Ann <a@example.org>"} {
		o := s.mail(nil).Send(t.Context(), notify.Channel{}, letter(to, "s", "t\n"))
		qt.Check(t, qt.IsTrue(o.Final && o.Problem.Code == "TS8311"), qt.Commentf("%q", to))
	}
	_, words := s.got()
	qt.Check(t, qt.HasLen(words, 0), qt.Commentf("nobody was asked"))
}

func TestASubjectStaysOneHeader(t *testing.T) {
	t.Parallel()
	s := newMailServer(t, nil)
	// notify makes subjects of one line; should one come with more, it is still one header.
	o := s.mail(nil).Send(t.Context(), notify.Channel{}, letter("ann@example.org", "a\r\nBcc: b@example.org\r\n\r\nbody", "t\n"))
	qt.Assert(t, qt.IsNil(o.Problem))
	taken, _ := s.got()
	m, body := read(t, taken[0].text)
	qt.Check(t, qt.Equals(m.Header.Get("Bcc"), ""))
	qt.Check(t, qt.Equals(body, "t\n"))
}

func TestACancelledSendEnds(t *testing.T) {
	t.Parallel()
	s := newMailServer(t, func(s *mailServer) { s.hang = "MAIL" })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan notify.Outcome)
	go func() { done <- s.mail(nil).Send(ctx, notify.Channel{}, letter("ann@example.org", "s", "t\n")) }()
	for range 60000 {
		if _, words := s.got(); len(words) > 3 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	o := <-done
	qt.Check(t, qt.IsNotNil(o.Problem))
	qt.Check(t, qt.IsFalse(o.Final))
}

func TestMailOptionsThatAreRefused(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*MailOptions){
		"no sender":                 func(o *MailOptions) { o.From = "" },
		"a sender with a header":    func(o *MailOptions) { o.From = "a@example.org\r\nX: y" },
		"no server":                 func(o *MailOptions) { o.Host = "" },
		"a server with a port":      func(o *MailOptions) { o.Host = "mail.example.org:25" },
		"a port that is none":       func(o *MailOptions) { o.Port = 70000 },
		"a security that is none":   func(o *MailOptions) { o.Security = "ssl" },
		"a password in the clear":   func(o *MailOptions) { o.Security, o.User = Clear, "u" },
		"a greeting of more than a": func(o *MailOptions) { o.Hello = "a b" },
	} {
		o := MailOptions{Host: "mail.example.org", From: "tsugi@example.org"}
		change(&o)
		_, err := NewMail(o)
		qt.Check(t, qt.Equals(code.Of(err), "TS8312"), qt.Commentf("%s", name))
	}
	for security, port := range map[Security]int{"": 587, StartTLS: 587, TLS: 465, Clear: 25} {
		m, err := NewMail(MailOptions{Host: "::1", From: "Ünal <u@example.org>", Security: security})
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(m.o.Port, port))
		qt.Check(t, qt.StringContains(string(m.message(letter("a@example.org", "s", "t"))), "From: =?utf-8?q?=C3=9Cnal?= <u@example.org>\r\n"))
		qt.Check(t, qt.Equals(m.o.Hello, "example.org"), qt.Commentf("%s", fmt.Sprint(security)))
	}
}

// TestAnyWordsMakeOneMail: no subject and no text leaves its place.
func TestAnyWordsMakeOneMail(t *testing.T) {
	t.Parallel()
	m, err := NewMail(MailOptions{Host: "mail.example.org", From: "Tsugi <tsugi@example.org>", Now: func() time.Time { return now }})
	qt.Assert(t, qt.IsNil(err))
	rapid.Check(t, func(rt *rapid.T) {
		subject, text := rapid.String().Draw(rt, "subject"), strings.ReplaceAll(rapid.String().Draw(rt, "text"), "\r", "")
		raw := string(m.message(letter("ann@example.org", subject, text)))
		got, err := mail.ReadMessage(strings.NewReader(raw))
		if err != nil {
			rt.Fatalf("%v in %q", err, raw)
		}
		if len(got.Header) != 10 || got.Header.Get("To") != "<ann@example.org>" {
			rt.Fatalf("headers: %q", raw)
		}
		body, err := io.ReadAll(quotedprintable.NewReader(got.Body))
		if err != nil || strings.ReplaceAll(string(body), "\r\n", "\n") != text {
			rt.Fatalf("%v: body %q of %q", err, body, text)
		}
		for line := range strings.SplitSeq(strings.TrimSuffix(raw, "\r\n"), "\r\n") {
			most := 78
			if strings.HasPrefix(line, "Subject: ") { // of ASCII: as it is
				most = 998
			}
			if len(line) > most || strings.ContainsAny(line, "\r\n") {
				rt.Fatalf("line %q", line)
			}
		}
	})
}
