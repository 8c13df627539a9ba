// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		qt.Assert(t, qt.IsNil(os.MkdirAll("testdata", 0o755)))
		qt.Assert(t, qt.IsNil(os.WriteFile(path, []byte(got), 0o644)))
	}
	want, err := os.ReadFile(path)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(got, string(want)))
}

func text(m Message) string {
	var b strings.Builder
	fmt.Fprintf(&b, "id: %s\nthread: %s\nsubject: %s\n\n%s\n", m.ID, m.Thread, m.Subject, m.Text)
	var v any
	if err := json.Unmarshal(m.Body, &v); err != nil {
		panic(err)
	}
	pretty, _ := json.MarshalIndent(v, "", "  ")
	return b.String() + string(pretty) + "\n"
}

func TestMessages(t *testing.T) {
	t.Parallel()
	c := Channel{ID: "c1", Name: "operators"}
	halt := Event{
		ID: "e1", Kind: RolloutHalted, Time: now, Subject: "rollout/42", Title: "The rollout of debian-6.1.0-55-amd64-v3 to stable was halted in wave 2 of 5",
		Facts: []Fact{{"why", "3 of 40 machines went down; the budget is 1"}, {"machines with it", "120 of 4,000"}, {"群", "データベース"}},
		Path:  "/console/rollouts/42", Groups: []string{"db"},
	}
	golden(t, "halted.txt", text(Of(c, halt, 2, "https://tsugi.example.org/")))
	over := halt
	over.ID, over.Ends, over.Title, over.Facts = "e2", true, "The rollout goes on", nil
	m := Of(c, over, 0, "https://tsugi.example.org")
	qt.Check(t, qt.Equals(m.Subject, "[over] The rollout goes on"))
	qt.Check(t, qt.Equals(m.Thread, Of(c, halt, 0, "").Thread), qt.Commentf("one thing is one thread"))
	qt.Check(t, qt.Not(qt.Equals(m.ID, Of(c, halt, 0, "").ID)))
	qt.Check(t, qt.Equals(Of(c, halt, 0, "").ID, Of(c, halt, 5, "https://elsewhere").ID), qt.Commentf("an event has one id in a channel"))
	qt.Check(t, qt.Not(qt.Equals(Of(Channel{ID: "c2"}, halt, 0, "").ID, Of(c, halt, 0, "").ID)))

	build := Event{ID: "e3", Kind: BuildFailed, Time: now.Add(time.Minute), Subject: "job/7", Title: "The build for debian:6.1.0-55-amd64 failed", Path: "/console/jobs/7"}
	golden(t, "digest.txt", text(Gathered(c, []Event{build, over, halt}, map[Kind]int{MachineCrashed: 812, "new.kind": 1}, "https://tsugi.example.org", now.Add(time.Hour))))
	one := Gathered(c, []Event{build}, nil, "", now)
	qt.Check(t, qt.Equals(one.Subject, "[warning] The build for debian:6.1.0-55-amd64 failed"))
}

// TestForeignWordsStayWords: what machines and people call things comes into
// subjects, lines and chats.
func TestForeignWordsStayWords(t *testing.T) {
	t.Parallel()
	e := Event{
		ID: "e", Kind: MachineCrashed, Time: now, Subject: "machine/1", Path: "//evil.example/",
		Title: "host\r\nBcc: all@example.org\r\n\r\n<!channel> \x1b[31m\u202egnp.exe & \xff" + strings.Repeat("長", 1000),
		Facts: []Fact{{"a\nb", "c\r\nd"}},
	}
	m := Of(Channel{Name: "x\ny"}, e, 0, "https://tsugi.example.org")
	qt.Check(t, qt.IsFalse(strings.ContainsAny(m.Subject, "\r\n\x1b\u202e")))
	qt.Check(t, qt.IsTrue(len([]rune(m.Subject)) <= maxSubject))
	qt.Check(t, qt.IsFalse(strings.ContainsAny(m.Text, "\r\x1b\u202e")))
	qt.Check(t, qt.StringContains(m.Text, "\n  a b  c d\n"))
	qt.Check(t, qt.IsFalse(strings.Contains(m.Text, "evil")), qt.Commentf("a link leads to the console or nowhere"))
	var body struct{ Text string }
	qt.Assert(t, qt.IsNil(json.Unmarshal(m.Body, &body)))
	qt.Check(t, qt.StringContains(body.Text, "&lt;!channel&gt;"))
	qt.Check(t, qt.IsFalse(strings.Contains(body.Text, "<")))
	for _, path := range []string{"", "x", "//x", "/\\x", "/a b", "https://x", "/a\nb"} {
		qt.Check(t, qt.Equals(link("https://tsugi.example.org", path), ""), qt.Commentf("%q", path))
	}
	qt.Check(t, qt.Equals(link("", "/x"), ""))
	many := Event{ID: "e", Kind: Test, Time: now}
	for i := range 60 {
		many.Facts = append(many.Facts, Fact{fmt.Sprint("fact ", i), "x"})
	}
	qt.Check(t, qt.StringContains(Of(Channel{}, many, 0, "").Text, "and 10 more"))
}

func TestChannelsThatAreRefused(t *testing.T) {
	t.Parallel()
	s := NewSecret()
	hook := func(change func(*Channel)) Channel {
		c := Channel{Name: "ops", Type: Webhook, To: []string{"https://chat.example.org/hook/x"}, Secrets: []Secret{s}}
		change(&c)
		return c
	}
	mail := func(to ...string) Channel { return Channel{Name: "ops", Type: Email, To: to} }
	good := []Channel{
		hook(func(*Channel) {}),
		hook(func(c *Channel) { c.Secrets = append(c.Secrets, NewSecret()) }),
		hook(func(c *Channel) {
			c.Kinds, c.Least, c.Groups = []string{"rollout.*", "build.failed", "*"}, Warning, []string{"db"}
		}),
		hook(func(c *Channel) {
			c.Digest = Digest{Every: Weekly, At: "07:30", Weekday: time.Friday, Zone: "Asia/Tokyo"}
		}),
		mail("a@example.org", "b.c+d@mail.example.org"),
	}
	for _, c := range good {
		qt.Check(t, qt.IsNil(c.Check(false)))
	}
	qt.Check(t, qt.IsNil(hook(func(c *Channel) { c.To[0] = "http://10.0.0.1/x" }).Check(true)))
	for name, c := range map[string]Channel{
		"no name":                    hook(func(c *Channel) { c.Name = "" }),
		"a name with a newline":      hook(func(c *Channel) { c.Name = "a\nb" }),
		"no type":                    {Name: "a", To: []string{"x"}},
		"no address":                 hook(func(c *Channel) { c.To = nil }),
		"two URLs":                   hook(func(c *Channel) { c.To = append(c.To, "https://x.example.org") }),
		"no secret":                  hook(func(c *Channel) { c.Secrets = nil }),
		"three secrets":              hook(func(c *Channel) { c.Secrets = []Secret{s, s, s} }),
		"a short secret":             hook(func(c *Channel) { c.Secrets = []Secret{"whsec_c2hvcnQ="} }),
		"a secret without its mark":  hook(func(c *Channel) { c.Secrets = []Secret{s[6:]} }),
		"no TLS":                     hook(func(c *Channel) { c.To[0] = "http://x.example.org" }),
		"a file":                     hook(func(c *Channel) { c.To[0] = "file:///etc/passwd" }),
		"no host":                    hook(func(c *Channel) { c.To[0] = "https://" }),
		"an opaque URL":              hook(func(c *Channel) { c.To[0] = "https:x" }),
		"a password in the URL":      hook(func(c *Channel) { c.To[0] = "https://a:b@x.example.org" }),
		"a fragment":                 hook(func(c *Channel) { c.To[0] = "https://x.example.org/#a" }),
		"a newline in the URL":       hook(func(c *Channel) { c.To[0] = "https://x.example.org/\nx" }),
		"a kind that is none":        hook(func(c *Channel) { c.Kinds = []string{"rollouts.*"} }),
		"a kind that is empty":       hook(func(c *Channel) { c.Kinds = []string{""} }),
		"a severity that is none":    hook(func(c *Channel) { c.Least = "awful" }),
		"a digest that is none":      hook(func(c *Channel) { c.Digest.Every = "year" }),
		"a time of day that is none": hook(func(c *Channel) { c.Digest = Digest{Every: Daily, At: "25:00"} }),
		"an hour with a time of day": hook(func(c *Channel) { c.Digest = Digest{Every: Hourly, At: "09:00"} }),
		"a weekday each day":         hook(func(c *Channel) { c.Digest = Digest{Every: Daily, Weekday: 3} }),
		"a negative repeat":          hook(func(c *Channel) { c.Repeat = -1 }),
		"an address with a name":     mail("Ann <a@example.org>"),
		"an address without domain":  mail("ann"),
		"an address with a header":   mail("a@example.org\r\nBcc: b@example.org"),
		"two addresses in one":       mail("a@example.org, b@example.org"),
		"an address twice":           mail("a@example.org", "a@example.org"),
		"a quoted address":           mail("\"a b\"@example.org"),
		"an address of no ASCII":     mail("ä@example.org"),
	} {
		err := c.Check(false)
		qt.Check(t, qt.Equals(code.Of(err), "TS8312"), qt.Commentf("%s: %v", name, err))
	}
}

func TestEveryKindHasATitleAndASeverity(t *testing.T) {
	t.Parallel()
	seen := map[Kind]bool{}
	for _, k := range Kinds() {
		qt.Check(t, qt.IsTrue(k.Title != "" && k.Severity.Rank() >= 0 && !seen[k.Kind]), qt.Commentf("%s", k.Kind))
		qt.Check(t, qt.Equals(Event{Kind: k.Kind}.Level(), k.Severity))
		seen[k.Kind] = true
	}
	qt.Check(t, qt.Equals(Event{Kind: "new.kind"}.Level(), Info))
}
