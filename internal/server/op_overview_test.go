// SPDX-License-Identifier: Apache-2.0

package server

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
)

// ask asks the server as a browser does.
func (s *site) ask(path, credential, accept string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Header.Set("Accept", accept)
	if credential != "" {
		r.Header.Set("Authorization", "Bearer "+credential)
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

func TestTheOverviewCountsTheFleet(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	token := s.token()
	s.enroll(token.Secret, "web-1")
	s.enroll(token.Secret, "web-2")
	s.pushFixes(1, 2, 9)

	w := s.ask("/v1/overview", s.secret, "application/json")
	qt.Assert(t, qt.Equals(w.Code, http.StatusOK), qt.Commentf("%s", w.Body))
	var o api.Overview
	qt.Assert(t, qt.IsNil(json.Unmarshal(w.Body.Bytes(), &o)))
	qt.Check(t, qt.Equals(o.Machines, 2))
	qt.Check(t, qt.Equals(o.Protections[api.NotCovered], 2))
	qt.Check(t, qt.Equals(o.Protections[api.Protected], 0))
	qt.Check(t, qt.HasLen(o.Jobs, 5))
	qt.Check(t, qt.IsTrue(o.Counted > 0))
	counted := 0
	for _, n := range o.Choices {
		counted += n
	}
	qt.Check(t, qt.Equals(counted, 1), qt.Commentf("%v", o.Choices))

	qt.Check(t, qt.Equals(s.ask("/v1/overview", "", "application/json").Code, http.StatusUnauthorized))
}

// TestTheConsoleIsServed holds what internal/console can't see: that the
// server's own headers do not stand in its way, nor the server's words for
// what there is not in that of people.
func TestTheConsoleIsServed(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	w := s.ask("/console/machines", "", "text/html")
	qt.Check(t, qt.Equals(w.Code, http.StatusOK))
	csp := w.Header().Values("Content-Security-Policy")
	qt.Assert(t, qt.HasLen(csp, 1))
	qt.Check(t, qt.StringContains(csp[0], "script-src 'self'; style-src 'self' 'nonce-"))
	for _, path := range []string{"/", "/console"} {
		w := s.ask(path, "", "text/html")
		qt.Check(t, qt.Equals(w.Code, http.StatusSeeOther))
		qt.Check(t, qt.Equals(w.Header().Get("Location"), "/console/"))
	}
	w = s.ask("/nosuch", "", "text/html")
	qt.Check(t, qt.Equals(w.Code, http.StatusNotFound))
	qt.Check(t, qt.IsTrue(strings.Contains(w.Body.String(), "TS7605")))
	qt.Check(t, qt.StringContains(w.Header().Get("Content-Security-Policy"), "default-src 'none'"))
}

// TestTheOverviewNamesGroups: those that machines are in, to who may see them.
func TestTheOverviewNamesGroups(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	hosts := map[string]*host{}
	for _, g := range []string{"web", "db", "", "night"} {
		hosts[g] = s.enroll(s.token(func(n *api.NewToken) { n.Group = g }).Secret, "of-"+g)
	}
	s.token(func(n *api.NewToken) { n.Group = "planned" }) // nobody came with it yet
	groups := func(b *browser) (o api.Overview) {
		t.Helper()
		s.metrics.fleet.mu.Lock()
		s.metrics.fleet.last = nil // counts are shared for a while
		s.metrics.fleet.mu.Unlock()
		b.do("GET", "/v1/overview", nil, 200, &o)
		return o
	}
	ann := s.person("anna", api.Grant{Role: "viewer"})
	some := s.person("webber", api.Grant{Role: "operator", Groups: []string{"web"}}, api.Grant{Role: "viewer", Groups: []string{"night", "elsewhere"}})
	qt.Check(t, qt.DeepEquals(groups(ann).Groups, []string{"db", "night", "web"}))
	o := groups(some)
	qt.Check(t, qt.DeepEquals(o.Groups, []string{"night", "web"}))
	qt.Check(t, qt.Equals(o.Machines, 2))

	qt.Assert(t, qt.IsNil(s.admin.Decommission(t.Context(), hosts["night"].enrolled.Machine)))
	db := "db"
	_, err := s.admin.ChangeMachine(t.Context(), hosts["web"].enrolled.Machine, api.MachineChange{Group: &db})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(groups(ann).Groups, []string{"db"}))
	o = groups(some)
	qt.Check(t, qt.HasLen(o.Groups, 0))
	qt.Check(t, qt.Equals(o.Machines, 0))
}
