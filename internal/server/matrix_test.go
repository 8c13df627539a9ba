// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/authz"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/store"
)

// caller is a column of the matrix: what a request shows, and who the table of
// permissions is told that this is.
type caller struct {
	name       string
	credential string
	cookie     *http.Cookie
	subject    *authz.Subject // nil: nobody, or a machine
}

// callers are one of each kind.
func (s *site) callers() []caller {
	t := s.t
	all := []caller{{name: "nobody"}, {name: "machine", credential: s.enroll(s.token().Secret, "a").enrolled.Credential}}
	program := func(name, role, secret string) {
		all = append(all, caller{name: name, credential: secret, subject: &authz.Subject{Grants: authz.OfKind(role)}})
	}
	for _, role := range []string{store.OperatorWorker, store.OperatorReader} {
		o, err := s.admin.CreateOperator(t.Context(), api.NewOperator{Name: role, Role: role})
		qt.Assert(t, qt.IsNil(err))
		program(role, role, o.Secret)
	}
	program("a/prog", store.OperatorAdmin, s.secret)

	// Whose session is not fresh signs in first, and then time passes.
	stale := s.person("old", api.Grant{Role: "admin"})
	s.shift.Add(int64(time.Hour))
	person := func(name string, grants ...authz.Grant) *browser {
		var given []api.Grant
		for _, g := range grants {
			given = append(given, api.Grant{Role: string(g.Role), Groups: g.Groups})
		}
		b := s.person("p"+strings.NewReplacer("@", ".", "/", ".").Replace(name), given...)
		all = append(all, caller{name: name, cookie: b.cookie, subject: &authz.Subject{Person: "p", Session: true, Fresh: true, Grants: grants}})
		return b
	}
	for _, r := range authz.PeopleRoles() {
		name := strings.TrimSuffix(string(r), "-manager")
		if r == authz.Admin {
			continue
		}
		person(name, authz.Grant{Role: r})
		person(name+"@web", authz.Grant{Role: r, Groups: []string{"web"}})
	}
	admin := []authz.Grant{{Role: authz.Admin}}
	b := person("admin", admin...)
	for name, scopes := range map[string][]string{"a/key": nil, "a/look": {"look"}} {
		var made api.KeyMade
		b.do("POST", "/v1/account/keys", api.NewKey{Name: name[2:], Scopes: scopes}, 201, &made)
		subject := &authz.Subject{Person: "p", Grants: admin}
		for _, p := range scopes {
			subject.Scopes = append(subject.Scopes, authz.Permission(p))
		}
		all = append(all, caller{name: name, credential: made.Secret, subject: subject})
	}
	all = append(all, caller{name: "a/old", cookie: stale.cookie, subject: &authz.Subject{Person: "p", Session: true, Grants: admin}})
	slices.SortStableFunc(all[len(all)-3:len(all)-1], func(a, b caller) int { return strings.Compare(a.name, b.name) })
	return all
}

// wanted is what the table of permissions says of an operation and a caller.
func (c caller) wanted(table *authz.Table, id string) string {
	line, ok := table.Operation(id)
	switch {
	case ok && line.Caller == authz.Anybody, line.Caller == authz.MachinesCaller && c.name == "machine":
		return "yes"
	case c.subject == nil || line.Caller != authz.Subjects:
		return "401"
	}
	d, err := table.Decide(*c.subject, id)
	if err == nil && !d.Whole() {
		return strings.Join(d.Groups, "+")
	}
	return inAWord(200, code.Of(err))
}

// inAWord is an answer in a word.
func inAWord(status int, c code.Code) string {
	if status == http.StatusUnauthorized && (c == "TS7603" || c == "TS8201") {
		return "401"
	}
	if word, ok := map[code.Code]string{"TS8202": "-", "TS8203": "fleet", "TS8204": "scope", "TS8205": "person", "TS8206": "fresh"}[c]; ok {
		return word
	}
	return "yes"
}

const matrixHead = `# Every operation over HTTP as every caller: go test ./internal/server -run EveryOperationAs -update
#
# 401: who are you?   yes: let through   web: let through, for machines of that group
# -: not that role    fleet: the role is for some groups    scope: not that key
# person: only a person, or with a session    fresh: prove again who you are
#
# worker, reader, a/prog: keys of programs. The roles are sessions of people, @web: for group web alone.
# a/key, a/look: an admin's API keys, the second of scope look. a/old: a session of an hour ago.

`

// TestEveryOperationAsEveryCaller asks a real server for every operation of its
// document as everybody. The table of permissions says what must come, and the
// golden file is what a reviewer reads.
func TestEveryOperationAsEveryCaller(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(o *Options) { o.SignIns = Rate{Burst: 1 << 20, Every: time.Second} })
	s.failures = newFailures(Rate{Burst: 1 << 20, Every: time.Second})
	all, table := s.callers(), authz.NewTable()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	ask := func(c caller, method, url string) string {
		req, err := http.NewRequestWithContext(t.Context(), method, s.web.URL+url, strings.NewReader("{"))
		qt.Assert(t, qt.IsNil(err))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Last-Event-ID", strings.Repeat("9", 30)) // no stream: it would not end
		if c.credential != "" {
			req.Header.Set("Authorization", "Bearer "+c.credential)
		}
		if c.cookie != nil {
			req.AddCookie(&http.Cookie{Name: api.SessionCookie, Value: c.cookie.Value})
		}
		res, err := transport.RoundTrip(req)
		qt.Assert(t, qt.IsNil(err))
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		qt.Assert(t, qt.IsNil(err))
		var e api.Error
		_ = json.Unmarshal(body, &e) // not every answer is a problem
		return inAWord(res.StatusCode, e.Code)
	}
	var doc struct {
		Paths map[string]map[string]struct {
			ID string `json:"operationId"`
		} `json:"paths"`
	}
	_, text := do(t, "GET", s.web.URL+"/openapi.json", "", "", nil)
	qt.Assert(t, qt.IsNil(json.Unmarshal(text, &doc)))
	rows := [][]string{{"operation"}}
	for _, c := range all {
		rows[0] = append(rows[0], c.name)
	}
	seen := []string{}
	for path, methods := range doc.Paths {
		for method, o := range methods {
			seen = append(seen, o.ID)
			url := path
			for strings.Contains(url, "{") {
				before, rest, _ := strings.Cut(url, "{")
				_, after, _ := strings.Cut(rest, "}")
				url = before + "none" + after
			}
			if strings.HasSuffix(path, "/wait") {
				url += "?timeout=0"
			}
			row := []string{o.ID}
			for _, c := range all {
				want := c.wanted(table, o.ID)
				if (o.ID == "unenroll" || o.ID == "sign-out") && want == "yes" {
					row = append(row, want) // it would be somebody else for the rows that follow; see below
					continue
				}
				got := ask(c, strings.ToUpper(method), url)
				if want == "web" && got == "yes" {
					got = want
				}
				qt.Check(t, qt.Equals(got, want), qt.Commentf("%s as %s", o.ID, c.name))
				row = append(row, got)
			}
			rows = append(rows, row)
		}
	}
	for _, id := range table.IDs() {
		qt.Check(t, qt.SliceContains(seen, id), qt.Commentf("in the table of permissions, and not served"))
	}
	for _, c := range all {
		if c.cookie != nil {
			qt.Check(t, qt.Equals(ask(c, "POST", "/v1/sign-out"), "yes"))
			qt.Check(t, qt.Equals(ask(c, "GET", "/v1/account"), "401"), qt.Commentf("%s signed out", c.name))
		}
	}
	slices.SortFunc(rows[1:], func(a, b []string) int { return strings.Compare(a[0], b[0]) })
	var out bytes.Buffer
	out.WriteString(matrixHead)
	for _, row := range rows {
		line := fmt.Sprintf("%-26s", row[0])
		for i, word := range row[1:] {
			line += fmt.Sprintf(" %-*s", max(len(rows[0][i+1]), 6), word)
		}
		out.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	golden(t, "matrix.golden", out.String())
}
