// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"testing"
	"testing/synctest"

	"github.com/tsugi-project/tsugi/internal/api"
)

func FuzzParseJournal(f *testing.F) {
	yes := true
	var whole []byte
	for i, r := range []Record{
		{Report: &api.Report{ID: "a", Kind: api.ReportState, BootID: "b", Patch: api.Patch{ID: "p", Name: "n", Version: 1, State: api.Loading}}},
		{Report: &api.Report{ID: "c", Kind: api.ReportState, BootID: "b", Patch: api.Patch{ID: "p", Name: "n", Version: 1, State: api.Healthy}}},
		{Hold: &yes},
		{Sent: []string{"a"}},
		{Clear: "p"},
		{Stop: true},
		{ByHand: &yes, Patch: &api.Patch{ID: "p"}},
		{Package: &PackageRef{ID: "l", Target: "debian:libssl3=1"}, Report: &api.Report{ID: "d", Kind: api.ReportState, BootID: "b", Patch: api.Patch{ID: "q", Name: "n", Version: 1, State: api.Loading}}},
		{Package: &PackageRef{ID: "l", Target: "debian:libssl3=1"}, Report: &api.Report{ID: "e", Kind: api.ReportState, BootID: "b", Patch: api.Patch{ID: "q", Name: "n", Version: 1, State: api.Applied}}},
		{Stop: true},
	} {
		r.Seq = int64(i) + 1
		line, err := r.line()
		if err != nil {
			f.Fatal(err)
		}
		whole = append(whole, line...)
		f.Add(bytes.Clone(whole))
		f.Add(whole[:len(whole)-3])
	}
	s, _, err := ParseJournal(whole)
	if err != nil {
		f.Fatal(err)
	}
	base, err := (&Record{Seq: 9, Base: s}).line()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(base)
	f.Add([]byte("00000000 {}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, good, err := ParseJournal(b)
		if (err == nil) != (s != nil) || good < 0 || good > int64(len(b)) {
			t.Fatalf("%v %v %d", s, err, good)
		}
		if err != nil {
			return
		}
		// What is kept reads the same, and goes on.
		again, n, err := ParseJournal(b[:good])
		if err != nil || n != good || !reflect.DeepEqual(s, again) {
			t.Fatalf("%v: %+v, then %+v", err, s, again)
		}
		more, err := (&Record{Seq: s.Seq + 1, Stop: true}).line()
		if err != nil {
			t.Fatal(err)
		}
		if _, n, err := ParseJournal(append(bytes.Clone(b[:good]), more...)); s.Seq+1 > 0 && (err != nil || n != good+int64(len(more))) {
			t.Fatalf("%v at %d of %d", err, n, good)
		}
	})
}

func FuzzParseMachine(f *testing.F) {
	f.Add([]byte(`{"schema":1,"id":"m","server":"https://a:1","credential":"tsm_x","tier":"stable","root":"r","machine_id":"i","enrolled":1}`))
	f.Add([]byte(`{"schema":2}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseMachine(b)
		if (err == nil) != (m != nil) {
			t.Fatalf("%v %v", m, err)
		}
		if m == nil {
			return
		}
		out, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParseMachine(out); err != nil || !reflect.DeepEqual(m, again) {
			t.Fatalf("%v: %+v, then %+v", err, m, again)
		}
	})
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte("proxy: http://a:1\nwindows: [\"Mon-Fri 22:00-04:00\"]\nhealth: {watch: 5s, command: [/x]}\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("? {}\n: x\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseConfig(b)
		if err == nil && c.LogLevel == "" {
			t.Fatal("a configuration without defaults")
		}
		_, _ = SetConfig(b, "transition.limit", "5m")
	})
}

func FuzzEnrollment(f *testing.F) {
	f.Add("tsugi1.eyJ1IjoiaHR0cHM6Ly9hOjEifQ")
	f.Fuzz(func(t *testing.T, s string) {
		e, err := ParseEnrollment(s)
		if err == nil && (e.Server == "" || e.Token == "" || e.RootDigest == "") {
			t.Fatalf("%+v", e)
		}
	})
}

func FuzzCard(f *testing.F) {
	f.Add([]byte(`{"offer":{"id":"p","name":"n","version":1,"sha256":"","size":1},"cipher_sha256":"","key":"k"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseCard(b, "p")
		if (err == nil) != (c != nil) {
			t.Fatalf("%v %v", c, err)
		}
	})
}

// FuzzLocalAPI throws requests at the agent's socket as root would.
func FuzzLocalAPI(f *testing.F) {
	f.Add("POST", "/v1/enroll", []byte(`{"Server":"https://a:1","Token":"t"}`))
	f.Add("POST", "/v1/apply?local=true", []byte("manifest.json\x00"))
	f.Add("POST", "/v1/bundle", []byte("x"))
	f.Add("POST", "/v1/clear?what=all", []byte(nil))
	f.Add("POST", "/v1/hold?on=true", []byte(nil))
	f.Add("GET", "/v1/status", []byte(nil))
	f.Add("PUT", "/v1/%2e%2e/status", []byte(nil))
	f.Fuzz(func(t *testing.T, method, path string, body []byte) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			a := w.open()
			r, err := http.NewRequestWithContext(t.Context(), method, "http://agent"+path, bytes.NewReader(body))
			if err != nil {
				return
			}
			r = r.WithContext(context.WithValue(r.Context(), peerKey{}, int64(os.Geteuid())))
			rec := httptest.NewRecorder()
			a.Handler(t.Context()).ServeHTTP(rec, r)
			if rec.Code == http.StatusOK && !json.Valid(rec.Body.Bytes()) {
				t.Fatalf("%s %s: %q", method, path, rec.Body)
			}
			if len(w.loads) > 0 {
				t.Fatal("something was loaded")
			}
		})
	})
}
