// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-quicktest/qt"
	"pgregory.net/rapid"

	"github.com/tsugi-project/tsugi/internal/api"
)

// send gives a body to the handlers without a connection.
func (s *site) send(path, credential string, body []byte) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, path, bytes.NewReader(body))
	if credential != "" {
		r.Header.Set("Authorization", "Bearer "+credential)
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

// answered holds what every answer to foreign bytes must be: a success, or a
// refusal that says why. Never a defect.
func answered(t testing.TB, w *httptest.ResponseRecorder, body []byte) {
	t.Helper()
	if w.Code < 400 {
		return
	}
	var e api.Error
	if w.Code >= 500 || w.Header().Get("Content-Type") != "application/problem+json" || json.Unmarshal(w.Body.Bytes(), &e) != nil ||
		e.Code == "" || e.Fix == "" || e.Status != w.Code {
		t.Fatalf("HTTP status %d for %.300q: %.500s", w.Code, body, w.Body)
	}
}

func quietSite(t testing.TB) *site {
	return newSite(t, func(o *Options) { o.Log = slog.New(slog.DiscardHandler) })
}

func fullCheckIn() api.CheckIn {
	c := checkInOf("a")
	c.Patch = api.Patch{ID: "debian-6.1.0-55-amd64-v3", Name: "tsugi_v3", Version: 3, State: api.Blocked, Since: 1, Problem: &api.Problem{Code: "TS9201", Why: "it is taint"}}
	c.Modules = []api.Module{{Name: "ext4", BuildID: "0123456789abcdef"}, {Name: "nfs"}}
	c.ModulesDigest = modulesDigest(c.Modules)
	c.Problems = []api.Problem{{Code: "TS9202", What: "no", Where: "x", Why: "y", Fix: "z"}}
	return c
}

func fullReports() api.Reports {
	return api.Reports{Reports: []api.Report{
		{ID: "0192", Time: 1, Kind: api.ReportState, BootID: "b", Kernel: testKernel, Patch: fullCheckIn().Patch, Transition: 5, Stalls: []api.Stall{{PID: 1, Comm: "init", Function: "f"}}, Detail: "d"},
		{ID: "0193", Time: 2, Kind: api.ReportCrash, BootID: "b", Kernel: testKernel, Patch: api.Patch{ID: "debian-6.1.0-55-amd64-v3", Version: 3, State: api.Quarantined}},
	}}
}

func jsonOfValue(t testing.TB, v any) []byte {
	b, err := json.Marshal(v)
	qt.Assert(t, qt.IsNil(err))
	return b
}

func FuzzCheckIn(f *testing.F) {
	s := quietSite(f)
	credential := s.enroll(s.token().Secret, "a").enrolled.Credential
	f.Add(jsonOfValue(f, fullCheckIn()))
	f.Add(jsonOfValue(f, checkInOf("a")))
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"agent":"\u0000"}`))
	f.Fuzz(func(t *testing.T, b []byte) { answered(t, s.send("/v1/machine/check-in", credential, b), b) })
}

func FuzzReports(f *testing.F) {
	s := quietSite(f)
	credential := s.enroll(s.token().Secret, "a").enrolled.Credential
	f.Add(jsonOfValue(f, fullReports()))
	f.Add([]byte(`{"reports":[{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) { answered(t, s.send("/v1/machine/reports", credential, b), b) })
}

func FuzzEnroll(f *testing.F) {
	s := quietSite(f)
	in, _ := enrollment(f, s.token().Secret, "a")
	f.Add(jsonOfValue(f, in))
	in.Previous = api.NewCredential(api.MachineCredential)
	f.Add(jsonOfValue(f, in))
	f.Add([]byte(`{"token":"tst_"}`))
	f.Fuzz(func(t *testing.T, b []byte) { answered(t, s.send("/v1/enroll", "", b), b) })
}

// TestMutatedRequestsAreRefusedClearly sends thousands of damaged check-ins,
// reports and enrolments.
func TestMutatedRequestsAreRefusedClearly(t *testing.T) {
	t.Parallel()
	s := quietSite(t)
	token := s.token().Secret
	credential := s.enroll(token, "a").enrolled.Credential
	in, _ := enrollment(t, token, "b")
	rounds := 4000
	if testing.Short() {
		rounds = 500
	}
	random := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		path, credential string
		body             []byte
	}{
		{"/v1/machine/check-in", credential, jsonOfValue(t, fullCheckIn())},
		{"/v1/machine/reports", credential, jsonOfValue(t, fullReports())},
		{"/v1/enroll", "", jsonOfValue(t, in)},
	} {
		refusals := 0
		for range rounds {
			b := mutate(random, c.body)
			w := s.send(c.path, c.credential, b)
			answered(t, w, b)
			if w.Code >= 400 {
				refusals++
			}
		}
		qt.Check(t, qt.IsTrue(refusals > rounds/2), qt.Commentf("%s: %d of %d refused", c.path, refusals, rounds))
	}
	a := s.send("/v1/machine/check-in", credential, jsonOfValue(t, fullCheckIn()))
	qt.Check(t, qt.Equals(a.Code, 200)) // it still works
}

// mutate damages a body: single bits and bytes, cut, doubled and moved parts,
// values of another kind, numbers that overflow, deep nesting.
func mutate(r *rand.Rand, body []byte) []byte {
	b := bytes.Clone(body)
	for range 1 + r.IntN(3) {
		at := r.IntN(len(b))
		switch r.IntN(9) {
		case 0:
			b[at] ^= 1 << r.IntN(8)
		case 1:
			b[at] = byte(r.IntN(256))
		case 2:
			b = b[:at+1]
		case 3:
			end := min(len(b), at+r.IntN(64))
			b = append(b[:end:end], b[at:]...)
		case 4:
			end := min(len(b), at+1+r.IntN(16))
			b = append(b[:at:at], b[end:]...)
		case 5:
			words := []string{`null`, `-1`, `1e400`, `99999999999999999999`, `"\u0000"`, `[]`, `{}`, `true`, strings.Repeat("[", 2000), "\xff\xfe", `"` + strings.Repeat("x", 5000) + `"`}
			b = append(b[:at:at], append([]byte(words[r.IntN(len(words))]), b[at:]...)...)
		case 6:
			if i := bytes.IndexByte(b[at:], ':'); i >= 0 {
				at += i + 1
				b = append(b[:at:at], append([]byte(`null,"x":`), b[at:]...)...)
			}
		case 7:
			b = bytes.Replace(b, []byte(`true`), []byte(`"yes"`), 1)
		case 8:
			b = bytes.Replace(b, []byte(`:1`), fmt.Appendf(nil, ":%d", -r.Int64()), 1)
		}
		if len(b) == 0 {
			return []byte{0}
		}
	}
	return b
}

// TestTheChecksAreWhatTheDocumentSays: for check-ins, which huma does not
// serve, our checks refuse whatever breaks the schema of docs/openapi.yaml.
func TestTheChecksAreWhatTheDocumentSays(t *testing.T) {
	t.Parallel()
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	schema := huma.SchemaFromType(registry, reflect.TypeFor[api.CheckIn]())
	rapid.Check(t, func(rt *rapid.T) {
		c := fullCheckIn()
		length := rapid.SampledFrom([]int{0, 1, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 300})
		text := func(name string) string { return strings.Repeat("a", length.Draw(rt, name)) }
		switch rapid.IntRange(0, 8).Draw(rt, "field") {
		case 0:
			c.Agent = text("agent")
		case 1:
			c.BootID = text("boot")
		case 2:
			c.Run = text("run")
		case 3:
			c.Kernel.Release = text("release")
		case 4:
			c.Kernel.BuildID = text("build-id")
		case 5:
			c.Kernel.Arch = text("arch")
		case 6:
			c.Patch.ID, c.Patch.Name = text("id"), text("name")
		case 7:
			c.Patch.Version = rapid.IntRange(-2, 2).Draw(rt, "version")
		case 8:
			c.Problems = make([]api.Problem, rapid.IntRange(30, 40).Draw(rt, "problems"))
		}
		b, err := json.Marshal(c)
		qt.Assert(t, qt.IsNil(err))
		var v any
		qt.Assert(t, qt.IsNil(json.Unmarshal(b, &v)))
		var res huma.ValidateResult
		huma.Validate(registry, schema, huma.NewPathBuffer([]byte{}, 0), huma.ModeWriteToServer, v, &res)
		if len(res.Errors) > 0 && checkCheckIn(&c) == nil {
			rt.Fatalf("the schema refuses what is accepted: %v: %s", res.Errors, b)
		}
	})
}
