// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/google/go-cmp/cmp"
)

func TestPlansThatBreakARuleAreRefused(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"another format", `{"format":2,"steps":[],"log_level":0}`, ".*format 2.*"},
		{"a step with no id", `{"format":1,"steps":[{"do":"x"}],"log_level":0}`, ".*no id"},
		{"a step with no verb", `{"format":1,"steps":[{"id":"x"}],"log_level":0}`, ".*no verb"},
		{"two steps with one id", `{"format":1,"steps":[{"id":"x","do":"x"},{"id":"x","do":"x"}],"log_level":0}`, ".*twice"},
		{"a field that nobody knows", `{"format":1,"steps":[],"log_level":0,"more":1}`, ".*unknown field.*"},
		{"two values", `{"format":1,"steps":[],"log_level":0} {}`, ".*more than one.*"},
		{"a level above debug", `{"format":1,"steps":[],"log_level":8}`, ".*log level.*"},
		{"time that runs backwards", `{"format":1,"steps":[{"id":"x","do":"x","timeout":-1}],"log_level":0}`, ".*duration.*"},
		{"nothing", ``, ".*EOF.*"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParsePlan([]byte(c.text))
			qt.Assert(t, qt.ErrorMatches(err, c.want))
		})
	}
}

func TestAnIndexNamesWhatItNeeds(t *testing.T) {
	_, err := ParseModuleIndex([]byte(`{"modules":[{"name":"a","path":"/a","needs":["b"]}]}`))
	qt.Assert(t, qt.ErrorMatches(err, ".*a needs b.*"))
}

func read(t testing.TB, r *Reader) []Event {
	var out []Event
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		qt.Assert(t, qt.IsNil(err))
		out = append(out, *e)
	}
}

func TestTheReaderSkipsWhatIsNoEvent(t *testing.T) {
	in := strings.Join([]string{
		"SeaBIOS (version 1.16.2)",
		`{"seq":1,"time":5,"kind":"hello"}` + "\r",
		`{"seq":2,"time":6,"kind":"nonsense"}`,
		`{"seq":2,"time":6,"kind":"note","data":"x"}`,
		strings.Repeat("x", MaxLine+10),
		`{"seq":5,"time":7,"kind":"bye"}`,
		`{"seq":6,"time":8,"kind":"bye"`,
	}, "\n")
	r := NewReader(strings.NewReader(in))
	got := read(t, r)
	want := []Event{
		{Seq: 1, Time: 5, Kind: Hello},
		{Seq: 2, Time: 6, Kind: Note, Data: json.RawMessage(`"x"`)},
		{Seq: 5, Time: 7, Kind: Bye},
	}
	qt.Assert(t, qt.Equals(cmp.Diff(want, got), ""))
	qt.Check(t, qt.Equals(r.Lost, 2))
	qt.Check(t, qt.IsTrue(r.Skipped > MaxLine))
}

func FuzzReader(f *testing.F) {
	f.Add([]byte(`{"seq":1,"time":5,"kind":"hello"}` + "\n"))
	f.Add([]byte("{\n}\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(bytes.NewReader(b))
		for range b {
			e, err := r.Next()
			if (err == nil) != (e != nil) {
				t.Fatal("neither an event nor an error, or both")
			}
			if err != nil {
				return
			}
			if e.Seq == 0 || e.Kind == "" {
				t.Fatalf("event %+v", e)
			}
		}
	})
}

func FuzzParsePlan(f *testing.F) {
	f.Add([]byte(`{"format":1,"steps":[{"id":"x","do":"script","args":{"text":"true"},"timeout":5}],"log_level":7}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePlan(b)
		if (err == nil) != (p != nil) {
			t.Fatal("neither a plan nor an error, or both")
		}
		if p == nil {
			return
		}
		again, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParsePlan(again); err != nil {
			t.Fatalf("%s: %v", again, err)
		}
	})
}

func FuzzParseModuleIndex(f *testing.F) {
	f.Add([]byte(`{"modules":[{"name":"a","path":"/a","needs":["b"],"aliases":["fs-a"]},{"name":"b","path":"/b"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := ParseModuleIndex(b)
		if (err == nil) != (x != nil) {
			t.Fatal("neither an index nor an error, or both")
		}
	})
}

func TestStepsThatARunningGuestTakes(t *testing.T) {
	s := NewStep("x", "script", map[string]string{"text": "true"})
	line, err := StepLine(s)
	qt.Assert(t, qt.IsNil(err))
	got, err := ParseStep(bytes.TrimSpace(line))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(got, s))
	_, err = StepLine(NewStep("x", "script", strings.Repeat("x", 4096)))
	qt.Check(t, qt.ErrorMatches(err, ".*put it in a file"))
	for _, bad := range []string{"", "{}", `{"id":"x"}`, `{"do":"x"}`, `{"id":"x","do":"y"} {}`, `{"id":"x","do":"y","z":1}`} {
		_, err := ParseStep([]byte(bad))
		qt.Check(t, qt.ErrorMatches(err, "step: .*"), qt.Commentf("%s", bad))
	}
}

func FuzzParseStep(f *testing.F) {
	f.Add([]byte(`{"id":"x","do":"script","args":{"text":"true"},"timeout":5}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseStep(b)
		if (err == nil) != (s.ID != "") {
			t.Fatal("neither a step nor an error, or both")
		}
	})
}
