// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"bytes"
	"strings"
	"testing"
	"unicode"

	"github.com/go-quicktest/qt"
	"pgregory.net/rapid"
)

func TestATerminalObeysNobodyElse(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"web-1\tup\n":                 "web-1\tup\n",
		"サーバー é\n":                    "サーバー é\n",
		"\x1b]0;title\x07x":           "␛]0;title␇x",
		"a\r\x1b[2Kb":                 "a␍␛[2Kb",
		"\x1b[8mhidden":               "␛[8mhidden",
		"\x1b[1;31mred\x1b[m":         "\x1b[1;31mred\x1b[m",
		"\x1b[":                       "␛[",
		"\x1b[31":                     "␛[31",
		"\u009b2J \u202egnp.exe \x7f": "\ufffd2J \ufffdgnp.exe ␡",
		"\x9b2J \xff":                 "\ufffd2J \ufffd",
		"a\x00b":                      "a␀b",
	} {
		qt.Check(t, qt.Equals(clean(s), want))
	}
	own := Table([]string{"name", "state"}, [][]string{{Bold("a"), Good("fine")}, {Dim("b"), Bad("broken")}, {"c", Warn("late")}})
	qt.Check(t, qt.Equals(clean(own), own), qt.Commentf("the styles of this package"))
	out := new(bytes.Buffer)
	term := New(out, out, []string{"TERM=xterm-256color"}, Options{})
	term.Print("name \x1b[2J")
	term.Say("%s", "\x1b]0;title\x07")
	qt.Check(t, qt.Equals(out.String(), "name ␛[2J\n␛]0;title␇\n"))
}

func TestCleanTextStaysClean(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := rapid.String().Draw(rt, "s")
		got := clean(s)
		if again := clean(got); again != got {
			rt.Fatalf("%q, and again %q", got, again)
		}
		left := strings.NewReplacer("\n", "", "\t", "").Replace(got)
		for {
			at := strings.IndexByte(left, 0x1b)
			if at < 0 {
				break
			}
			n := colour(left[at:])
			if n == 0 {
				rt.Fatalf("%q is left", left[at:])
			}
			left = left[:at] + left[at+n:]
		}
		if strings.ContainsFunc(left, unicode.IsControl) {
			rt.Fatalf("%q", left)
		}
	})
}
