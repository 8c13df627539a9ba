// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"go.yaml.in/yaml/v3"

	"github.com/tsugi-project/tsugi/internal/code"
)

func TestConfig(t *testing.T) {
	t.Parallel()
	c, err := ParseConfig([]byte(`
proxy: http://proxy.example:3128
ca_file: /etc/ssl/site.pem
timezone: Europe/Berlin
windows: ["Mon-Fri 22:00-04:00", daily 12:00-13:00]
transition: {limit: 90s}
health:
  watch: 1h30m
  command: [/usr/local/bin/healthy, --quick]
log_level: debug
`))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(time.Duration(c.Transition.Limit), 90*time.Second))
	qt.Check(t, qt.Equals(time.Duration(c.Transition.Retry), 5*time.Minute)) // the default stays
	qt.Check(t, qt.Equals(c.Health.Watch.String(), "1h30m"))
	qt.Check(t, qt.HasLen(c.Windows, 2))
	for _, empty := range []string{"", "\n", "# nothing\n", "---\n", "null\n"} {
		c, err := ParseConfig([]byte(empty))
		qt.Check(t, qt.IsNil(err), qt.Commentf("%q", empty))
		qt.Check(t, qt.Equals(c.LogLevel, "info"))
	}
}

func TestConfigSaysWhereItIsWrong(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, where, why string }{
		{"poxy: x\n", "poxy (line 1)", "no such key"},
		{"health:\n  wach: 5s\n", "health.wach (line 2)", "no such key"},
		{"health:\n  watch: soon\n", "health.watch (line 2)", "soon"},
		{"health:\n  watch: [1]\n", "health.watch (line 2)", "a text is expected"},
		{"health: 5s\n", "health (line 1)", "keys with values"},
		{"windows: Mon 1:00-2:00\n", "windows (line 1)", "a list is expected"},
		{"windows:\n- Mon 01:00-02:00\n- Mon-Fri\n", "windows[1] (line 3)", "days and hours"},
		{"windows: [Mon 25:00-26:00]\n", "windows[0] (line 1)", "25:00"},
		{"windows: [Mon 02:00-02:00]\n", "windows[0] (line 1)", "does not end when it begins"},
		{"windows: [Mo 02:00-03:00]\n", "windows[0] (line 1)", "Mo"},
		{"timezone: Mars/Olympus\n", "timezone", "Mars"},
		{"transition: {limit: 1ms}\n", "transition.limit", "not between"},
		{"health: {command: [true]}\n", "health.command[0]", "must begin with /"},
		{"proxy: proxy:3128\n", "proxy", "not a URL"},
		{"ca_file: x.pem\n", "ca_file", "begin with /"},
		{"log_level: loud\n", "log_level", "loud"},
		{"proxy: a\nproxy: b\n", "", ""},
		{"a: &x b\n", "a (line 1)", "no such key"},
		{"proxy: *x\n", "", ""},
		{"{", "", ""},
		{"- x\n", "", "keys with values"},
	} {
		_, err := ParseConfig([]byte(c.text))
		qt.Assert(t, qt.Equals(code.Of(err), code.Code("TS9401")), qt.Commentf("%q: %v", c.text, err))
		p := err.(*code.Problem)
		if c.where != "" {
			qt.Check(t, qt.Equals(p.Where, c.where), qt.Commentf("%q", c.text))
		}
		qt.Check(t, qt.StringContains(p.Error(), c.why), qt.Commentf("%q", c.text))
	}
}

func TestConfigSurvivesItsOwnText(t *testing.T) {
	t.Parallel()
	c := DefaultConfig()
	c.Windows = []Window{windowOf(t, "Sat,Sun 00:00-24:00")}
	b, err := yaml.Marshal(c)
	qt.Assert(t, qt.IsNil(err))
	again, err := ParseConfig(b)
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", b))
	qt.Check(t, qt.DeepEquals(again.Windows[0].String(), "Sat,Sun 00:00-24:00"))
	j, err := json.Marshal(c)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.StringContains(string(j), `"limit":"2m"`))
}

func TestSetConfig(t *testing.T) {
	t.Parallel()
	text := "# ours\nproxy: http://a:1 # why\nhealth:\n  watch: 5s\n"
	b, err := SetConfig([]byte(text), "proxy", "http://b:2")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(string(b), "# ours\nproxy: http://b:2 # why\nhealth:\n  watch: 5s\n"))
	b, err = SetConfig(b, "transition.limit", "3m")
	qt.Assert(t, qt.IsNil(err))
	b, err = SetConfig(b, "windows", `["Mon-Fri 22:00-04:00"]`)
	qt.Assert(t, qt.IsNil(err))
	c, err := ParseConfig(b)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(c.Transition.Limit.String(), "3m"))
	qt.Check(t, qt.HasLen(c.Windows, 1))
	b, err = SetConfig(b, "health.watch", "")
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", b))
	_, err = SetConfig(nil, "no.such", "1")
	qt.Check(t, qt.Equals(code.Of(err), code.Code("TS9401")))
	b, err = SetConfig(nil, "log_level", "debug")
	qt.Assert(t, qt.IsNil(err))
	b, err = SetConfig(b, "log_level", "")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(string(b), ""))
}

func windowOf(t testing.TB, s string) Window {
	t.Helper()
	var w Window
	qt.Assert(t, qt.IsNil(w.UnmarshalText([]byte(s))))
	return w
}

func TestWindows(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		window, zone, at string // RFC 3339
		open             bool
		next             string // in UTC
	}{
		{"Mon-Fri 22:00-04:00", "UTC", "2026-11-23T22:00:00Z", true, "2026-11-24T22:00:00Z"}, // a Monday
		{"Mon-Fri 22:00-04:00", "UTC", "2026-11-23T21:59:59Z", false, "2026-11-23T22:00:00Z"},
		{"Mon-Fri 22:00-04:00", "UTC", "2026-11-24T03:59:59Z", true, "2026-11-24T22:00:00Z"},
		{"Mon-Fri 22:00-04:00", "UTC", "2026-11-24T04:00:00Z", false, "2026-11-24T22:00:00Z"},
		{"Mon-Fri 22:00-04:00", "UTC", "2026-11-28T02:00:00Z", true, "2026-11-30T22:00:00Z"}, // Saturday: Friday's night
		{"Mon-Fri 22:00-04:00", "UTC", "2026-11-29T02:00:00Z", false, "2026-11-30T22:00:00Z"},
		{"Mon-Fri 22:00-04:00", "UTC", "2026-11-23T02:00:00Z", false, "2026-11-23T22:00:00Z"}, // Monday morning: Sunday's night is none
		{"Sat,Sun 00:00-24:00", "UTC", "2026-11-29T23:59:59Z", true, "2026-12-05T00:00:00Z"},
		{"Fri-Mon 10:00-11:00", "UTC", "2026-11-22T10:30:00Z", true, "2026-11-23T10:00:00Z"},
		{"daily 02:00-03:00", "Europe/Berlin", "2026-11-22T01:30:00Z", true, "2026-11-23T01:00:00Z"},
		{"daily 02:00-03:00", "Europe/Berlin", "2026-06-22T01:30:00Z", false, "2026-06-23T00:00:00Z"},
		// The night when 02:30 does not exist, and the one when it comes twice.
		{"daily 02:30-02:45", "Europe/Berlin", "2026-03-29T01:35:00Z", false, "2026-03-30T00:30:00Z"},
		{"daily 02:30-02:45", "Europe/Berlin", "2026-10-25T00:35:00Z", true, "2026-10-25T01:30:00Z"},
		{"daily 02:30-02:45", "Europe/Berlin", "2026-10-25T01:35:00Z", true, "2026-10-26T01:30:00Z"},
	} {
		cfg := Config{Windows: []Window{windowOf(t, c.window)}, Timezone: c.zone}
		at, err := time.Parse(time.RFC3339, c.at)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(cfg.InWindow(at), c.open), qt.Commentf("%s at %s", c.window, c.at))
		qt.Check(t, qt.Equals(cfg.NextWindow(at).UTC().Format(time.RFC3339), c.next), qt.Commentf("%s at %s", c.window, c.at))
	}
	none := Config{}
	qt.Check(t, qt.IsTrue(none.InWindow(time.Now())))
	qt.Check(t, qt.IsTrue(none.NextWindow(time.Now()).IsZero()))
}

func TestServerURL(t *testing.T) {
	t.Parallel()
	for s, ok := range map[string]bool{
		"https://a:8443": true, "https://a/": true, "http://127.0.0.1:1": true, "http://[::1]:1": true, "http://localhost": true,
		"http://a:8443": false, "a:8443": false, "": false, "https://": false, "https://u:p@a": false, "https://a?x=1": false, "ftp://a": false,
	} {
		got, err := ServerURL(s)
		qt.Check(t, qt.Equals(err == nil, ok), qt.Commentf("%s: %v", s, err))
		if ok {
			qt.Check(t, qt.IsFalse(strings.HasSuffix(got, "/")))
		}
	}
}
