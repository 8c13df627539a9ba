// SPDX-License-Identifier: Apache-2.0

package update

import (
	"fmt"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/series"
)

// TestEvidence: a vulnerability belongs to a fix that what is told of it
// evidently means, and to none else. What looks alike is not attributed.
func TestEvidence(t *testing.T) {
	t.Parallel()
	source := func(fn string, n int) string { return fmt.Sprintf("int\n%s (int x)\n{\n  return x + %d;\n}\n", fn, n) }
	files := map[string]string{}
	changed := func(name string, fn string, same ...string) {
		rest := ""
		for _, s := range same {
			rest += "\n" + source(s, 7)
		}
		files["old/"+name], files["new/"+name] = source(fn, 1)+rest, source(fn, 2)+rest
	}
	changed("malloc/malloc.c", "_int_memalign", "_int_free")
	changed("posix/regcomp.c", "parse_bracket_exp", "regcomp", "regfree")
	changed("posix/wordexp.c", "libc_hidden_def (wordfree)\nint wordexp")
	changed("net/lookup.c", "__getnetbyaddr_r")
	changed("p12/p12_utl.c", "uni2utf8")
	changed("rand/egd.c", "query_egd_bytes")
	changed("net/connect.c", "connect")
	changed("ts/verify.c", "get_signing_cert", "TS_verify_response")
	changed("a/first.c", "first_one", "shared_static")
	changed("b/second.c", "second_one", "shared_static")
	for _, c := range []struct{ subject, news, want string }{
		{"Fix an integer overflow in _int_memalign", "", "certain malloc-malloc"},
		{"Fix double-free after allocation failure in regcomp", "", "possible posix-regcomp"},
		{"Fix bug in wordexp, which could return uninitialized memory", "", "possible posix-wordexp"},
		{"Missing validation in TS_verify_response() function", "", "possible ts-verify"},
		{"Something in responses", "An application calling `TS_verify_response()` may crash.", "possible ts-verify"},
		// The function that is named is not the one that was wrong, and does not change.
		{"Out of bounds write in PKCS12_get_friendlyname() UTF-8 conversion", "", "none"},
		{"Unauthenticated trailing bytes with low-level OCB calls", "", "none"},
		{"Stack contents leak in getnetbyaddr", "", "none net/lookup.c"},
		{"Clients that connect to a server may crash", "", "none"},
		{"Wrong result of shared_static", "", "none 2"},
		{"Wrong results", "first_one() and second_one() may be wrong", "none 2"},
		// What the entry names counts more than what the news explain.
		{"Wrong result in first_one()", "It is called by TS_verify_response()", "certain a-first"},
		{"first_one(): check the result", "", "certain a-first"},
		// But another half of it may be what they explain.
		{"Wrong result in first_one()", "second_one() calls first_one()", "possible a-first"},
		// It is called, which does not say that it is wrong.
		{"A crash when first_one() is called", "", "possible a-first"},
		{"Wrong result in first_one_more and of first_one", "", "possible a-first"},
	} {
		entries := []Item{{Subject: c.subject, CVEs: []string{"CVE-2026-1"}}}
		groups, err := Split(delta(t, files), nil)
		qt.Assert(t, qt.IsNil(err))
		s, err := PackageSeries("1", "2", groups, nil, entries, map[string]string{"CVE-2026-1": c.news}, nil)
		qt.Assert(t, qt.IsNil(err))
		got := ""
		for _, f := range s.Fixes {
			if len(f.CVEs) > 0 {
				got += string(f.Entries[0].Confidence) + " " + f.ID
			}
		}
		if want, where, _ := strings.Cut(c.want, " "); want == "none" {
			qt.Check(t, qt.Equals(got, ""), qt.Commentf("%s", c.subject))
			qt.Assert(t, qt.HasLen(s.Unattributed, 1))
			qt.Check(t, qt.StringContains(s.Unattributed[0].Why, "not attributed: "))
			qt.Check(t, qt.StringContains(s.Unattributed[0].Why, where), qt.Commentf("%s", c.subject))
		} else {
			qt.Check(t, qt.Equals(got, c.want), qt.Commentf("%s", c.subject))
		}
	}
}

// TestNothingIsCertainOfHalf: an entry of two vulnerabilities may tell of two
// fixes, and two entries of one vulnerability do.
func TestNothingIsCertainOfHalf(t *testing.T) {
	t.Parallel()
	source := func(n int) string { return fmt.Sprintf("int\nfirst_one (int x)\n{\n  return x + %d;\n}\n", n) }
	of := func(entries ...Item) string {
		groups, err := Split(delta(t, map[string]string{"old/a.c": source(1), "new/a.c": source(2)}), nil)
		qt.Assert(t, qt.IsNil(err))
		s, err := PackageSeries("1", "2", groups, nil, entries, nil, nil)
		qt.Assert(t, qt.IsNil(err))
		got := ""
		for _, e := range s.Fixes[0].Entries {
			got += fmt.Sprintln(e.Confidence, e.CVEs)
		}
		return got
	}
	const subject = "Wrong result in first_one()"
	one := Item{Subject: subject, CVEs: []string{"CVE-2026-1"}}
	qt.Check(t, qt.Equals(of(one), "certain [CVE-2026-1]\n"))
	qt.Check(t, qt.Equals(of(Item{Subject: subject + " and elsewhere", CVEs: []string{"CVE-2026-1", "CVE-2026-2"}}), "possible [CVE-2026-1 CVE-2026-2]\n"))
	qt.Check(t, qt.Equals(of(one, Item{Subject: "More of it in the server", CVEs: []string{"CVE-2026-1"}}), "possible [CVE-2026-1]\n"))
}

// TestTwinsOfEvidence: a fix that makes the same edit in another file carries
// the CVE too, so that half of it is not taken for all.
func TestTwinsOfEvidence(t *testing.T) {
	t.Parallel()
	source := func(fn, check string) string {
		return fmt.Sprintf("int %s(int length)\n{\n%s\treturn length;\n}\n", fn, check)
	}
	check := "\tif (length > maximum_length)\n\t\treturn -overflow_error;\n"
	files := map[string]string{}
	for name, fn := range map[string]string{"net/ipmr.c": "route_one", "net/ip6mr.c": "route_six"} {
		files["old/"+name], files["new/"+name] = source(fn, ""), source(fn, check)
	}
	groups, err := Split(delta(t, files), nil)
	qt.Assert(t, qt.IsNil(err))
	s, err := PackageSeries("1", "2", groups, nil, []Item{{Subject: "Overflow in route_one()", CVEs: []string{"CVE-2026-1"}}}, nil, nil)
	qt.Assert(t, qt.IsNil(err))
	got := map[string]series.Confidence{}
	for _, f := range s.Fixes {
		for _, e := range f.Entries {
			got[f.ID] = e.Confidence
		}
	}
	qt.Check(t, qt.DeepEquals(got, map[string]series.Confidence{"net-ipmr": series.Certain, "net-ip6mr": series.Possible}))
}

// TestNews: items that name a CVE, whatever they begin with, and no lists.
func TestNews(t *testing.T) {
	t.Parallel()
	got := News([]byte(`### Changes between 1 and 2

 * Fixed a write in ` + "`f_one()`" + `.

   Issue summary: more of it.

   ([CVE-2026-1111])

   *Somebody*

 * Another thing.

Security related changes:

  CVE-2026-2222: When g_two() fails, it does not
  allocate enough.

  [123] Fix h_three (CVE-2026-3333)
  [124] No more of it

Many: CVE-2026-1111 CVE-2026-2222 CVE-2026-4444
 * CVE-2026-5555, CVE-2026-6666, CVE-2026-7777
`))
	qt.Check(t, qt.HasLen(got, 3))
	qt.Check(t, qt.StringContains(got["CVE-2026-1111"], "f_one()"))
	qt.Check(t, qt.StringContains(got["CVE-2026-1111"], "more of it"))
	qt.Check(t, qt.Not(qt.StringContains(got["CVE-2026-1111"], "Another")))
	qt.Check(t, qt.Equals(got["CVE-2026-2222"], "  CVE-2026-2222: When g_two() fails, it does not\n  allocate enough.\n"))
	qt.Check(t, qt.Equals(got["CVE-2026-3333"], "  [123] Fix h_three (CVE-2026-3333)\n"))
}
