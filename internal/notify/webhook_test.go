// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"pgregory.net/rapid"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/testenv/need"
)

// The test vector of the Standard Webhooks specification's own libraries.
const (
	vectorSecret Secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	vectorID     string = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	vectorBody   string = `{"test": 2432232314}`
	vectorSign   string = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

var vectorTime = time.Unix(1614265330, 0)

func TestTheSpecificationsVector(t *testing.T) {
	t.Parallel()
	h, err := Sign([]Secret{vectorSecret}, vectorID, vectorTime, []byte(vectorBody))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(h, map[string]string{HeaderID: vectorID, HeaderTimestamp: "1614265330", HeaderSignature: vectorSign}))
}

func TestOpenSSLMakesTheSameSignature(t *testing.T) {
	t.Parallel()
	need.Program(t, "openssl")
	s := NewSecret()
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(string(s), "whsec_"))
	qt.Assert(t, qt.IsNil(err))
	body := "{\"a\":\"é\\u0000\"}\n"
	cmd := exec.CommandContext(t.Context(), "openssl", "dgst", "-sha256", "-mac", "HMAC", "-macopt", "hexkey:"+hex.EncodeToString(key), "-binary")
	cmd.Stdin = strings.NewReader(fmt.Sprintf("msg_1.%d.%s", now.Unix(), body))
	out, err := cmd.Output()
	qt.Assert(t, qt.IsNil(err))
	h, err := Sign([]Secret{s}, "msg_1", now, []byte(body))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(h[HeaderSignature], "v1,"+base64.StdEncoding.EncodeToString(out)))
}

// TestTheDocumentedReceiver runs the receiver of docs/notifications.md.
func TestTheDocumentedReceiver(t *testing.T) {
	t.Parallel()
	python := need.Program(t, "python3")
	page, err := os.ReadFile("../../docs/notifications.md")
	qt.Assert(t, qt.IsNil(err))
	_, rest, ok := strings.Cut(string(page), "    import base64")
	qt.Assert(t, qt.IsTrue(ok))
	code, _, ok := strings.Cut(rest, "\n`body` is")
	qt.Assert(t, qt.IsTrue(ok))
	s, other := NewSecret(), NewSecret()
	at := time.Now() // its clock is the real one
	h, err := Sign([]Secret{other, s}, "msg_1", at, []byte("body"))
	qt.Assert(t, qt.IsNil(err))
	script := strings.ReplaceAll("\n    import base64"+code, "\n    ", "\n") + fmt.Sprintf(`
h = {"webhook-id": %q, "webhook-timestamp": %q, "webhook-signature": %q}
seen = set()
for secret, stamp, body, want in [(%q, 0, b"Body", False), (%q, 1, b"body", False), (%q, 0, b"body", True), (%q, 0, b"body", False), (%q, 0, b"body", True)]:
    if body == b"body" and want and secret == %q:
        seen = set()
    got = genuine(secret, h | {"webhook-timestamp": str(int(h["webhook-timestamp"]) - stamp)}, body, seen)
    assert got == want, (stamp, body, want)
`, h[HeaderID], h[HeaderTimestamp], h[HeaderSignature], string(s), string(s), string(s), string(s), string(other), string(other))
	cmd := exec.CommandContext(t.Context(), python, "-c", script)
	out, err := cmd.CombinedOutput()
	qt.Check(t, qt.IsNil(err), qt.Commentf("%s", out))
}

func signed(t *testing.T, id string, secrets ...Secret) http.Header {
	t.Helper()
	h, err := Sign(secrets, id, now, []byte("body"))
	qt.Assert(t, qt.IsNil(err))
	out := http.Header{}
	for k, v := range h {
		out.Set(k, v)
	}
	return out
}

func TestVerify(t *testing.T) {
	t.Parallel()
	s, next := NewSecret(), NewSecret()
	qt.Check(t, qt.IsNil(Verify(s, signed(t, "m", s).Get, []byte("body"), now, &Seen{})))
	both := signed(t, "m", next, s)
	qt.Check(t, qt.IsNil(Verify(s, both.Get, []byte("body"), now, &Seen{})), qt.Commentf("while a secret is changed, the old one is good"))
	qt.Check(t, qt.IsNil(Verify(next, both.Get, []byte("body"), now, &Seen{})), qt.Commentf("and the new one"))
	for name, c := range map[string]struct {
		body   string
		at     time.Time
		change func(http.Header)
		secret Secret
	}{
		"another body":            {body: "Body"},
		"another id":              {change: func(h http.Header) { h.Set(HeaderID, "n") }},
		"another time":            {change: func(h http.Header) { h.Set(HeaderTimestamp, fmt.Sprint(now.Unix()+1)) }},
		"a time moved to the id":  {change: func(h http.Header) { h.Set(HeaderID, "m."+h.Get(HeaderTimestamp)) }},
		"a time in another form":  {change: func(h http.Header) { h.Set(HeaderTimestamp, "+"+h.Get(HeaderTimestamp)) }},
		"no id":                   {change: func(h http.Header) { h.Del(HeaderID) }},
		"no time":                 {change: func(h http.Header) { h.Del(HeaderTimestamp) }},
		"no signature":            {change: func(h http.Header) { h.Del(HeaderSignature) }},
		"a signature of no bytes": {change: func(h http.Header) { h.Set(HeaderSignature, "v1,") }},
		"half a signature":        {change: func(h http.Header) { h.Set(HeaderSignature, h.Get(HeaderSignature)[:20]) }},
		"another scheme":          {change: func(h http.Header) { h.Set(HeaderSignature, "v1a"+h.Get(HeaderSignature)[2:]) }},
		"what is old":             {at: now.Add(Tolerance + time.Second)},
		"what is yet to come":     {at: now.Add(-Tolerance - time.Second)},
		"another's secret":        {secret: next},
		"a secret that is none":   {secret: "whsec_"},
	} {
		h := signed(t, "m", s)
		body, at, secret := "body", now, s
		if c.body != "" {
			body = c.body
		}
		if !c.at.IsZero() {
			at = c.at
		}
		if c.secret != "" {
			secret = c.secret
		}
		if c.change != nil {
			c.change(h)
		}
		err := Verify(secret, h.Get, []byte(body), at, &Seen{})
		qt.Check(t, qt.Equals(code.Of(err), "TS8313"), qt.Commentf("%s", name))
		qt.Check(t, qt.IsFalse(errors.Is(err, ErrRepeated)), qt.Commentf("%s", name))
	}
}

func TestNothingIsPlayedAgain(t *testing.T) {
	t.Parallel()
	s := NewSecret()
	var seen Seen
	h := signed(t, "m", s)
	for at := -Tolerance; at <= Tolerance; at += time.Minute {
		err := Verify(s, h.Get, []byte("body"), now.Add(at), &seen)
		qt.Check(t, qt.Equals(err == nil, at == -Tolerance), qt.Commentf("%v: %v", at, err))
		qt.Check(t, qt.Equals(errors.Is(err, ErrRepeated), at != -Tolerance))
	}
	qt.Check(t, qt.IsNotNil(Verify(s, h.Get, []byte("body"), now.Add(Tolerance+time.Minute), &seen)), qt.Commentf("then it is old"))
	qt.Check(t, qt.IsNil(Verify(s, signed(t, "n", s).Get, []byte("body"), now, &seen)))
	bad := signed(t, "o", s)
	qt.Check(t, qt.IsNotNil(Verify(s, bad.Get, []byte("no"), now, &seen)))
	qt.Check(t, qt.IsNil(Verify(s, bad.Get, []byte("body"), now, &seen)), qt.Commentf("a forged one takes no id away"))
	for i := range 10_000 {
		seen.first(fmt.Sprint(i), now.Add(time.Duration(i)*time.Minute))
	}
	qt.Check(t, qt.IsTrue(len(seen.until) < 20), qt.Commentf("%d are remembered", len(seen.until)))
}

func TestSecretsAreNotTold(t *testing.T) {
	t.Parallel()
	s := NewSecret()
	for _, verb := range []string{"%v", "%s", "%+v", "%#v", "%q"} {
		said := fmt.Sprintf(verb, s) + fmt.Sprintf(verb, Channel{Secrets: []Secret{s}})
		qt.Check(t, qt.IsFalse(strings.Contains(said, string(s)[8:20])), qt.Commentf("%s", said))
	}
	qt.Check(t, qt.Equals(s.LogValue().String(), "[redacted]"))
	_, err := Sign(nil, "m", now, nil)
	qt.Check(t, qt.IsNotNil(err))
	_, err = Sign([]Secret{s}, "a.b", now, nil)
	qt.Check(t, qt.IsNotNil(err), qt.Commentf("a dot would let the id take a part of the time"))
}

func TestAttempts(t *testing.T) {
	t.Parallel()
	bad := Outcome{Problem: code.New("TS8311", "", "503")}
	rapid.Check(t, func(rt *rapid.T) {
		d := Deliveries(Channel{ID: "c", To: []string{"a", "b"}}, Message{ID: fmt.Sprint("m", rapid.Int().Draw(rt, "id"))}, now)[1]
		last := time.Duration(0)
		for d.Stage == Waiting {
			at := d.Next
			was := d
			d = d.After(bad, at)
			if d.Stage == Waiting {
				wait := d.Next.Sub(at)
				if wait < 4*time.Second || wait > 5*time.Hour || d.Attempt <= 9 && wait < last {
					rt.Fatalf("attempt %d: %s after %s", d.Attempt, wait, last)
				}
				last = wait
			}
			if again := was.After(bad, at); again.Next != d.Next {
				rt.Fatalf("the same attempt gives another time")
			}
			if d.Attempt > 30 {
				rt.Fatalf("no end")
			}
		}
		if d.Stage != Dead || d.Ended.Sub(now) > GiveUp || d.Ended.Sub(now) < GiveUp/2 || d.Problem == nil {
			rt.Fatalf("%s after %s", d.Stage, d.Ended.Sub(now))
		}
	})

	d := Deliveries(Channel{ID: "c", To: []string{"a"}}, Message{ID: "m"}, now)[0]
	qt.Check(t, qt.Equals(d.After(Outcome{}, now).Stage, Delivered))
	later := d.After(bad, now).After(Outcome{}, now)
	qt.Check(t, qt.IsTrue(later.Stage == Delivered && later.Problem == nil && later.Attempt == 2))
	qt.Check(t, qt.Equals(d.After(Outcome{Problem: bad.Problem, Final: true}, now).Stage, Dead))
	qt.Check(t, qt.IsTrue(d.After(Outcome{Problem: bad.Problem, After: time.Hour}, now).Next.Equal(now.Add(time.Hour))))
	qt.Check(t, qt.IsTrue(d.After(Outcome{Problem: bad.Problem, After: 9000 * time.Hour}, now).Next.Equal(now.Add(mostAfter))))
	other := Deliveries(Channel{ID: "c", To: []string{"b"}}, Message{ID: "m"}, now)[0]
	qt.Check(t, qt.Not(qt.Equals(d.ID, other.ID)))
}

// FuzzVerify: only what was signed is taken, whatever somebody sends.
func FuzzVerify(f *testing.F) {
	s := vectorSecret
	f.Add(vectorID, "1614265330", vectorSign, []byte(vectorBody))
	f.Add(vectorID, "1614265330", "v1, v1,= "+vectorSign, []byte(vectorBody))
	f.Add("", "-1", "", []byte{})
	f.Fuzz(func(t *testing.T, id, stamp, signature string, body []byte) {
		h := map[string]string{HeaderID: id, HeaderTimestamp: stamp, HeaderSignature: signature}
		err := Verify(s, func(k string) string { return h[k] }, body, vectorTime, &Seen{})
		if err != nil {
			if code.Of(err) != "TS8313" {
				t.Fatal(err)
			}
			return
		}
		at, convErr := strconv.ParseInt(stamp, 10, 64)
		if convErr != nil {
			t.Fatal(convErr)
		}
		want, signErr := Sign([]Secret{s}, id, time.Unix(at, 0), body)
		if strings.Contains(id, ".") {
			t.Skip() // a receiver takes such ids of other senders
		}
		if signErr != nil || !strings.Contains(signature, want[HeaderSignature]) {
			t.Fatalf("taken: %q %q %q", id, stamp, signature)
		}
	})
}
