// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"pgregory.net/rapid"

	"github.com/tsugi-project/tsugi/internal/code"
)

var update = flag.Bool("update", false, "rewrite the golden matrix")

// served are the ids of the operations that the server has, from its document.
func served(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../../docs/openapi.yaml")
	qt.Assert(t, qt.IsNil(err))
	var ids []string
	for _, m := range regexp.MustCompile(`(?m)^ +operationId: (\S+)$`).FindAllSubmatch(text, -1) {
		ids = append(ids, string(m[1]))
	}
	qt.Assert(t, qt.IsTrue(len(ids) > 60))
	return ids
}

// TestEveryOperationHasALine: what the server serves is in the table, so that
// nothing is served that nobody thought about.
func TestEveryOperationHasALine(t *testing.T) {
	t.Parallel()
	table := NewTable()
	for _, id := range served(t) {
		_, ok := table.Operation(id)
		qt.Check(t, qt.IsTrue(ok), qt.Commentf("%s", id))
	}
}

// TestLinesAheadOfTheServer: lines for which the server has no
// operation yet are those of the people's API.
func TestLinesAheadOfTheServer(t *testing.T) {
	t.Parallel()
	table, there := NewTable(), served(t)
	for _, id := range table.IDs() {
		op, _ := table.Operation(id)
		if !slices.Contains(there, id) {
			people := op.Caller == Anybody || op.Needs == Own || op.Needs == People || op.Needs == Approve || id == "ask-approval"
			qt.Check(t, qt.IsTrue(people), qt.Commentf("%s is in the table and nowhere served", id))
		}
	}
}

// caller is a column of the matrix.
type caller struct {
	name    string
	subject Subject
}

func callers() []caller {
	all := []caller{{name: "nobody"}}
	short := map[Role]string{ReleaseManager: "release"}
	for _, r := range Roles() {
		name := cmp.Or(short[r], string(r))
		all = append(all, caller{name, Subject{Person: "p", Session: true, Fresh: true, Grants: []Grant{{Role: r}}}})
		if r != Worker && r != Admin {
			all = append(all, caller{name + "@web", Subject{Person: "p", Session: true, Fresh: true, Grants: []Grant{{Role: r, Groups: []string{"web"}}}}})
		}
	}
	return append(all,
		caller{"a/key", Subject{Person: "p", Grants: []Grant{{Role: Admin}}}},
		caller{"a/prog", Subject{Grants: []Grant{{Role: Admin}}}},
		caller{"a/look", Subject{Person: "p", Grants: []Grant{{Role: Admin}}, Scopes: []Permission{Look}}},
		caller{"a/old", Subject{Person: "p", Session: true, Grants: []Grant{{Role: Admin}}}})
}

func mark(d Decision, err error) string {
	switch c := code.Of(err); {
	case c != "":
		return map[code.Code]string{"TS8202": "-", "TS8203": "fleet", "TS8204": "scope", "TS8205": "person", "TS8206": "fresh"}[c]
	case d.Whole():
		return "yes"
	}
	return strings.Join(d.Groups, "+")
}

const matrixHead = `# Every operation as every caller: go test ./internal/authz -run Golden -update
#
# yes     allowed            -       the role has not the permission
# web     for that group     fleet   it concerns the whole fleet, the role some groups
# scope   the key's scopes do not hold it        person  only a person, or with a session
# fresh   only who proved a moment ago who they are
#
# The roles are those of people with a fresh session. @web: the role for group web alone.
# a/key: an admin's API key; a/prog: an admin's key that is no person's (the
# operators of before); a/look: an admin's key of scope look; a/old: an admin
# whose session is not fresh.

`

func TestGoldenMatrix(t *testing.T) {
	t.Parallel()
	table, all := NewTable(), callers()
	rows := [][]string{{"operation", "needs"}}
	for _, c := range all {
		rows[0] = append(rows[0], c.name)
	}
	for _, id := range table.IDs() {
		op, _ := table.Operation(id)
		needs := string(op.Needs)
		if op.Caller != Subjects {
			needs = "(" + string(op.Caller) + ")"
		}
		row := []string{id, needs}
		for _, c := range all {
			row = append(row, mark(table.Decide(c.subject, id)))
		}
		rows = append(rows, row)
	}
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], len(cell))
		}
	}
	var b strings.Builder
	b.WriteString(matrixHead)
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			fmt.Fprintf(&line, "%-*s  ", width[i], cell)
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	const path = "testdata/matrix.golden"
	if *update {
		qt.Assert(t, qt.IsNil(os.WriteFile(path, []byte(b.String()), 0o644)))
	}
	want, err := os.ReadFile(path)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(b.String(), string(want)))
}

// TestOldCredentialsKeepTheirRights holds what admin, reader and worker could
// do before there were people.
func TestOldCredentialsKeepTheirRights(t *testing.T) {
	t.Parallel()
	table := NewTable()
	for _, id := range served(t) {
		op, _ := table.Operation(id)
		if op.Caller != Subjects || op.Proof != Credential { // what is for persons alone is younger
			continue
		}
		can := func(kind string) bool {
			_, err := table.Decide(Subject{Grants: OfKind(kind)}, id)
			return err == nil
		}
		qt.Check(t, qt.IsTrue(can("admin")), qt.Commentf("admin: %s", id))
		qt.Check(t, qt.Equals(can("reader"), op.Needs == Look || op.Needs == Own), qt.Commentf("reader: %s", id))
		qt.Check(t, qt.Equals(can("worker"), op.Needs == Work || op.Needs == Own), qt.Commentf("worker: %s", id))
		qt.Check(t, qt.IsFalse(can("other")), qt.Commentf("%s", id))
	}
}

func TestNoGrantWidensAnother(t *testing.T) {
	t.Parallel()
	table := NewTable()
	ids := append(table.IDs(), "no-such-operation")
	rapid.Check(t, func(t *rapid.T) {
		grant := rapid.Custom(func(t *rapid.T) Grant {
			return Grant{Role: rapid.SampledFrom(Roles()).Draw(t, "role"), Groups: rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c"}), 0, 2).Draw(t, "groups")}
		})
		s := Subject{
			Person: rapid.SampledFrom([]string{"", "p"}).Draw(t, "person"), Session: rapid.Bool().Draw(t, "session"), Fresh: rapid.Bool().Draw(t, "fresh"),
			Grants: rapid.SliceOfN(grant, 0, 4).Draw(t, "grants"),
		}
		id := rapid.SampledFrom(ids).Draw(t, "id")
		d, err := table.Decide(s, id)
		// What is allowed for a group is allowed by a grant that names it, or
		// one for the fleet.
		if op, ok := table.Operation(id); err == nil && op.Caller == Subjects {
			if !ok {
				t.Fatalf("%s is not in the table and allowed", id)
			}
			for _, group := range []string{"a", "b", "c", ""} {
				by := slices.ContainsFunc(s.Grants, func(g Grant) bool {
					return g.Role.Has(op.Needs) && (len(g.Groups) == 0 || op.Reach == Nothing || group != "" && op.Reach == Groups && slices.Contains(g.Groups, group))
				})
				if d.Covers(group) != by {
					t.Fatalf("%s of group %q: %v, by its grants %v", id, group, d.Covers(group), by)
				}
			}
		}
		// Scopes only narrow.
		narrow := s
		narrow.Scopes = rapid.SliceOf(rapid.SampledFrom(Permissions())).Draw(t, "scopes")
		if nd, nerr := table.Decide(narrow, id); nerr == nil && (err != nil || !slices.Equal(nd.Groups, d.Groups)) {
			t.Fatalf("%s with scopes: %v, without: %v, %v", id, nd, d, err)
		}
	})
}

func TestGrantsAndScopesThatMeanNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		want code.Code
	}{
		{"viewer", ""},
		{"operator:web, db", ""},
		{"admin", ""},
		{"admin:web", "TS8224"},
		{"worker", "TS8224"},
		{"root", "TS8224"},
		{"", "TS8224"},
		{"viewer:", "TS8224"},
		{"viewer:a,,b", "TS8224"},
		{"viewer:" + strings.Repeat("x", 101), "TS8224"},
	} {
		_, err := ParseGrant(c.text)
		qt.Check(t, qt.Equals(code.Of(err), c.want), qt.Commentf("%q", c.text))
	}
	g, err := ParseGrant("operator:web, db")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(g.String(), "operator of web, db"))
	qt.Check(t, qt.IsNil(CheckGrants(nil)))
	qt.Check(t, qt.Equals(code.Of(CheckGrants(make([]Grant, 21))), "TS8224"))
	qt.Check(t, qt.IsNil(CheckScopes(Permissions())))
	qt.Check(t, qt.Equals(code.Of(CheckScopes([]Permission{"everything"})), "TS8219"))
	qt.Check(t, qt.ErrorMatches(Decision{Groups: []string{"web"}}.Refuse(""), "TS8203: .*it is of no group, and you have web"))
}
