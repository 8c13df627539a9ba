// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/store"
)

func TestStreams(t *testing.T) {
	t.Parallel()
	s := newStreams(100)
	change := func(seq int64, kind store.Kind, id string) {
		s.tell([]store.Change{{Seq: seq, Kind: kind, ID: id}})
	}
	told := func(l *stream) string {
		c, seq := s.take(l)
		b, err := json.Marshal(c)
		qt.Assert(t, qt.IsNil(err))
		return fmt.Sprint(seq, " ", string(b))
	}
	fresh := s.join("a", "")
	qt.Check(t, qt.Equals(told(fresh), `100 {"kinds":{}}`))
	change(101, store.KindMachine, "m1")
	change(102, store.KindMachine, "m1")
	change(103, store.KindUser, "u1") // no ids of people
	change(104, store.KindMachine, "m2")
	qt.Check(t, qt.Equals(told(fresh), `104 {"kinds":{"machine":["m1","m2"],"user":[]}}`))
	qt.Check(t, qt.Equals(told(fresh), `104 {"kinds":{}}`))
	for i := range 3 * maxChangedIDs {
		change(int64(105+i), store.KindMachine, fmt.Sprint("m", i))
	}
	qt.Check(t, qt.Equals(told(fresh), `164 {"kinds":{"machine":[]}}`)) // too many to name

	for heard, want := range map[string]string{
		"164":                  `164 {"kinds":{}}`,
		"103":                  `164 {"kinds":{"machine":[]}}`,
		"100":                  `164 {"kinds":{"machine":[],"user":[]}}`,
		"99":                   `164 {"all":true,"kinds":{"machine":[],"user":[]}}`, // before this server was started
		"165":                  `164 {"all":true,"kinds":{}}`,                       // another server's, which is ahead
		"x":                    `164 {"all":true,"kinds":{"machine":[],"user":[]}}`,
		"-1":                   `164 {"all":true,"kinds":{"machine":[],"user":[]}}`,
		"99999999999999999999": `164 {"all":true,"kinds":{}}`,
	} {
		l := s.join("b", heard)
		qt.Check(t, qt.Equals(told(l), want), qt.Commentf("%s", heard))
		s.leave(l)
	}

	s.leave(fresh)
	qt.Check(t, qt.HasLen(s.byName, 0))
	for range maxStreamsOf {
		qt.Assert(t, qt.IsNotNil(s.join("a", "")))
	}
	qt.Check(t, qt.IsNil(s.join("a", "")))
	qt.Check(t, qt.IsNotNil(s.join("b", "")))
}

// listen opens the stream of events and returns what gives them, one a call,
// and "end".
func (s *site) listen(t *testing.T, credential, heard string) (next func() string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.web.URL+"/v1/events", nil)
	qt.Assert(t, qt.IsNil(err))
	r.Header.Set("Authorization", "Bearer "+credential)
	if heard != "" {
		r.Header.Set("Last-Event-ID", heard)
	}
	res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { _ = res.Body.Close() })
	qt.Assert(t, qt.Equals(res.StatusCode, http.StatusOK))
	qt.Check(t, qt.Equals(res.Header.Get("Content-Type"), "text/event-stream"))
	qt.Check(t, qt.Equals(res.Header.Get("Cache-Control"), "no-store"))
	lines := bufio.NewScanner(res.Body)
	return func() string {
		id := ""
		for lines.Scan() {
			if n, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
				id = n
			}
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				return id + " " + data
			}
		}
		return "end"
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	next := s.listen(t, s.secret, "")
	id, data, _ := strings.Cut(next(), " ")
	qt.Check(t, qt.Equals(data, `{"kinds":{}}`))

	_, err := s.admin.CreateTier(t.Context(), api.NewTier{Name: "canary", After: "edge"})
	qt.Assert(t, qt.IsNil(err))
	_, data, _ = strings.Cut(next(), " ")
	var got api.Changed
	qt.Assert(t, qt.IsNil(json.Unmarshal([]byte(data), &got)))
	qt.Check(t, qt.DeepEquals(got.Kinds["tier"], []string{"canary"}))

	// Who lost the connection hears what it missed.
	again := s.listen(t, s.secret, id)
	_, data, _ = strings.Cut(again(), " ")
	got = api.Changed{}
	qt.Assert(t, qt.IsNil(json.Unmarshal([]byte(data), &got)))
	qt.Check(t, qt.IsNotNil(got.Kinds["tier"]))
	qt.Check(t, qt.IsFalse(got.All))

	res, _ := do(t, http.MethodGet, s.web.URL+"/v1/events", "", "", nil)
	qt.Check(t, qt.Equals(res.StatusCode, http.StatusUnauthorized))
}

// TestWhoIsRevokedHearsNoMore, at once.
func TestWhoIsRevokedHearsNoMore(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	eve, err := s.admin.CreateOperator(t.Context(), api.NewOperator{Name: "eve", Role: "reader"})
	qt.Assert(t, qt.IsNil(err))
	next := s.listen(t, eve.Secret, "")
	qt.Check(t, qt.Not(qt.Equals(next(), "end")))
	qt.Assert(t, qt.IsNil(s.admin.RevokeOperator(t.Context(), eve.ID)))
	for got := next(); got != "end"; got = next() {
		qt.Check(t, qt.StringContains(got, "operator")) // of her being made
	}
	eventually(t, "the stream is forgotten", func() bool { return s.streams.number() == 0 })
}

// TestStreamsEndWithTheServer: it would not stop otherwise.
func TestStreamsEndWithTheServer(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	next := s.listen(t, s.secret, "")
	next()
	s.closed.Do(func() { close(s.closing) })
	qt.Check(t, qt.Equals(next(), "end"))
}
