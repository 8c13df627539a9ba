// SPDX-License-Identifier: Apache-2.0

package fleetfile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/selection"
)

// whole is a file with everything in it; docs/fleet-file.md shows it.
const whole = `version: 1
tiers: [edge, beta, candidate, stable]
policies:
  databases:
    description: machines that run the old backup agent
    min_severity: high
    exclusions:
      - cve: CVE-2026-31431
        reason: io_uring stalls
        owner: dba
        expires: 2026-12-31
groups:
  db: {policy: databases}
  web: {policy: default}
tokens:
  db:
    tier: stable
    group: db
    limit: 50
    expires: 2027-01-31T12:00:00Z
`

func TestParse(t *testing.T) {
	t.Parallel()
	f, err := Parse("fleet.yaml", []byte(whole))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(f.Tiers, []string{"edge", "beta", "candidate", "stable"}))
	p := f.Policies["databases"]
	qt.Check(t, qt.Equals(p.Name, "databases"))
	qt.Assert(t, qt.HasLen(p.Exclusions, 1))
	qt.Check(t, qt.IsTrue(p.Exclusions[0].Expires.Equal(time.Date(2026, 12, 31, 0, 0, 0, 0, time.UTC))))
	qt.Check(t, qt.DeepEquals(f.Groups, map[string]Group{"db": {Policy: "databases"}, "web": {Policy: "default"}}))
	qt.Check(t, qt.DeepEquals(f.Tokens, map[string]Token{
		"db": {Tier: "stable", Group: "db", Limit: 50, Expires: time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC)},
	}))

	f, err = Parse("fleet.yaml", []byte("version: 1\npolicies: {}\ntokens:\n"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(f.Policies != nil), qt.Commentf("an empty section is there"))
	qt.Check(t, qt.IsTrue(f.Tokens == nil && f.Groups == nil && f.Tiers == nil), qt.Commentf("a section without anything is not"))
}

func TestFilesThatAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		code code.Code
		says string
	}{
		"nothing":                       {"", "TS8301", "it is empty"},
		"no version":                    {"tiers: [edge]\n", "TS8301", "version 0"},
		"another version":               {"version: 2\n", "TS8301", "version 2"},
		"no YAML":                       {"version: [\n", "TS8301", "line 1"},
		"two documents":                 {"version: 1\n---\nversion: 1\n", "TS8301", "more than one document"},
		"a misspelt section":            {"version: 1\ntier: [edge]\n", "TS8301", "fleet.yaml line 2: field tier not found"},
		"a misspelt key of a policy":    {"version: 1\npolicies:\n  a: {exclusion: []}\n", "TS8301", "field exclusion not found"},
		"a policy twice":                {"version: 1\npolicies:\n  a: {}\n  a: {}\n", "TS8301", `line 4: mapping key "a" already defined`},
		"a list where names are needed": {"version: 1\ngroups: [db]\n", "TS8301", "line 2: cannot unmarshal seq"},
		"a date that is none":           {"version: 1\ntokens: {a: {expires: soon}}\n", "TS8301", "line 2"},
		"a time from now":               {"version: 1\ntokens: {a: {expires: 30d}}\n", "TS8301", "line 2"},
		"no tiers":                      {"version: 1\ntiers: []\n", "TS8302", "at least one"},
		"a tier that is none":           {"version: 1\ntiers: [Edge]\n", "TS8302", `"Edge"`},
		"a tier twice":                  {"version: 1\ntiers: [edge, edge]\n", "TS8302", "twice"},
		"a policy of another name":      {"version: 1\npolicies: {a: {name: b}}\n", "TS8302", "policies.a"},
		"a policy with a slash":         {"version: 1\npolicies: {a/b: {}}\n", "TS8302", "a/b"},
		"an unknown severity":           {"version: 1\npolicies: {a: {min_severity: awful}}\n", "TS8302", "min_severity"},
		"an exclusion without a reason": {"version: 1\npolicies: {a: {exclusions: [{cve: CVE-2026-0001, owner: o}]}}\n", "TS8302", "no reason"},
		"an exclusion that ended before there were computers": {
			"version: 1\npolicies: {a: {exclusions: [{cve: CVE-2026-0001, owner: o, reason: r, expires: 1970-01-01}]}}\n", "TS8302", "1970-01-01",
		},
		"a long description":        {"version: 1\npolicies: {a: {description: " + strings.Repeat("x", 1001) + "}}\n", "TS8302", "1000 bytes"},
		"a group without a policy":  {"version: 1\ngroups: {db: {}}\n", "TS8302", "groups.db"},
		"a group without a name":    {"version: 1\ngroups: {'': {policy: a}}\n", "TS8302", "1 to 100"},
		"a group with a newline":    {"version: 1\ngroups: {\"a\\nb\": {policy: a}}\n", "TS8302", "groups.a b"},
		"a token for less than one": {"version: 1\ntokens: {a: {limit: -1}}\n", "TS8302", "limit -1"},
		"a token with a long name":  {"version: 1\ntokens: {" + strings.Repeat("x", 101) + ": {}}\n", "TS8302", "1 to 100"},
		"a token of a bad tier":     {"version: 1\ntokens: {a: {tier: ../x}}\n", "TS8302", "../x"},
		"a token of no group":       {"version: 1\ntokens: {a: {group: ' '}}\n", "TS8302", "tokens.a.group"},
		"too many tiers":            {"version: 1\ntiers: [" + strings.Repeat("x,", 33) + "]\n", "TS8302", "33, and 32 at most"},
		"more than it may be":       {"version: 1\n#" + strings.Repeat("x", MaxSize), "TS8301", "4 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse("fleet.yaml", []byte(c.text))
			qt.Assert(t, qt.IsNotNil(err))
			qt.Check(t, qt.Equals(code.Of(err), c.code), qt.Commentf("%v", err))
			qt.Check(t, qt.StringContains(err.Error(), c.says))
			qt.Check(t, qt.IsFalse(strings.Contains(err.Error(), "fleetfile.") || strings.Contains(err.Error(), "!!")), qt.Commentf("%v", err))
		})
	}
}

func TestEverythingThatIsWrongIsToldAtOnce(t *testing.T) {
	t.Parallel()
	_, err := Parse("fleet.yaml", []byte("version: 1\ntiers: [A, b, b]\ngroups: {db: {}}\ntokens: {t: {limit: -1, tier: B}}\n"))
	for _, s := range []string{`"A"`, "b is there twice", "groups.db", "limit -1", `"B"`} {
		qt.Check(t, qt.ErrorMatches(err, "(?s).*"+s+".*"))
	}
	_, err = Parse("fleet.yaml", []byte("version: 1\nfoo: 1\nbar: 2\n"))
	qt.Check(t, qt.ErrorMatches(err, "(?s).*line 2: field foo.*line 3: field bar.*"))
}

// TestTheDocumentedFileIsRead keeps docs/fleet-file.md true.
func TestTheDocumentedFileIsRead(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "fleet-file.md"))
	qt.Assert(t, qt.IsNil(err))
	var text strings.Builder
	in := false
	for line := range strings.Lines(string(page)) {
		switch {
		case strings.HasPrefix(line, "    version: 1"):
			in = true
		case in && strings.TrimSpace(line) != "" && !strings.HasPrefix(line, "    "):
			in = false
		}
		if in {
			text.WriteString(strings.TrimPrefix(line, "    "))
		}
	}
	f, err := Parse("docs/fleet-file.md", []byte(text.String()))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(len(f.Tiers) > 0 && len(f.Policies) > 0 && len(f.Groups) > 0 && len(f.Tokens) > 0))
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte("version: 1\na: &a [*a]\n"))
	f.Add([]byte("version: 1\ngroups: {\"\\x00\": {policy: !!binary aGk=}}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := Parse("f", b)
		if (file == nil) && err == nil {
			t.Fatal("neither a file nor an error")
		}
		if err != nil {
			if code.Of(err) == "" {
				t.Fatalf("no code: %v", err)
			}
			return
		}
		have := Have{}
		for _, name := range file.Tiers {
			have.Tiers = append(have.Tiers, tier(name, len(have.Tiers)+1))
		}
		if len(have.Tiers) == 0 {
			have.Tiers = append(have.Tiers, tier("edge", 1))
		}
		if _, err := file.Plan(have, time.Unix(1e9, 0), Options{Prune: true}); err != nil && code.Of(err) == "" {
			t.Fatalf("no code: %v", err)
		}
	})
}

func TestWireKeepsEverything(t *testing.T) {
	t.Parallel()
	end := time.Date(2026, 12, 31, 0, 0, 0, 0, time.UTC)
	w := Wire(selection.Policy{
		Name: "a", Description: "d", MinSeverity: "high", Scope: selection.All, Extra: []string{"ours"}, SwapUnused: true,
		Exclusions: []selection.Exclusion{{CVE: "CVE-2026-0001", Reason: "r", Owner: "o", Expires: end}, {Fix: "f", Reason: "r", Owner: "o"}},
	})
	qt.Check(t, qt.Equals(w.Exclusions[0].Expires, end.UnixMilli()))
	qt.Check(t, qt.Equals(w.Exclusions[1].Expires, 0))
	qt.Check(t, qt.IsTrue(w.Name == "a" && w.Description == "d" && w.MinSeverity == "high" && w.Scope == "all" && w.SwapUnused && len(w.Extra) == 1))
}
