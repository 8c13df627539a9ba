// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"pgregory.net/rapid"
)

// said are events in a few words.
func said(events []Event) string {
	var out []string
	for _, e := range events {
		s := string(e.Level()) + " " + e.Title
		if e.Ends {
			s = "over " + strings.TrimPrefix(e.Title, "Over: ")
		}
		out = append(out, s)
	}
	return strings.Join(out, "; ")
}

func TestWatch(t *testing.T) {
	t.Parallel()
	day := 24 * time.Hour
	for name, c := range map[string]struct {
		facts Facts
		after time.Duration // how long it is so
		want  string
	}{
		"all is well": {facts: Facts{
			Groups: []GroupFacts{{"", 1000, 50, 0, nil}, {"db", 10, 0, 0, nil}, {"empty", 0, 0, 0, nil}}, Roles: []RoleFacts{{"root", now.Add(365 * day), 730 * day, true}, {"timestamp", now.Add(2*day + 23*time.Hour), day, false}},
			Exclusions: []ExclusionFacts{{"p", "CVE-1", "o", now.Add(30 * day), nil}, {"p", "CVE-2", "o", now.Add(-day), nil}}, Exploited: []ExploitedFacts{{"CVE-2026-1", 0, nil}},
		}, after: 2 * day},
		"failing for a moment":       {facts: Facts{Groups: []GroupFacts{{"db", 10, 0, 1, nil}}}, after: 14 * time.Minute},
		"failing":                    {facts: Facts{Groups: []GroupFacts{{"db", 10, 0, 1, nil}}}, after: 15 * time.Minute, want: "warning 1 machine of group db can't take a live patch"},
		"silent, more than some":     {facts: Facts{Groups: []GroupFacts{{"", 1000, 51, 0, nil}}}, after: 30 * time.Minute, want: "warning 51 machines without a group missed three check-ins"},
		"one of ten is silent":       {facts: Facts{Groups: []GroupFacts{{"db", 10, 1, 0, nil}}}, after: 30 * time.Minute, want: "warning 1 machine of group db missed three check-ins"},
		"exploited":                  {facts: Facts{Exploited: []ExploitedFacts{{"CVE-2026-1", 12, nil}}}, after: time.Hour, want: "warning CVE-2026-1 is exploited, and open on 12 machines"},
		"a choice that failed":       {facts: Facts{Choices: []ChoiceFacts{{"p", "debian:6.1", "why", nil}}}, want: "warning What policy p chooses for debian:6.1 could not be built"},
		"an exclusion that ends":     {facts: Facts{Exclusions: []ExclusionFacts{{"p", "CVE-1", "o", now.Add(10 * day), nil}}}, after: 5 * day, want: "info The exclusion of CVE-1 from policy p ends on 2026-12-02"},
		"an approval":                {facts: Facts{Approvals: []ApprovalFacts{{"7", "The promotion of v3 to stable", "ann", "/x", nil}}}, want: "warning The promotion of v3 to stable waits for a second person"},
		"the root, in good time":     {facts: Facts{Roles: []RoleFacts{{"root", now.Add(80 * day), 730 * day, true}}}, want: "warning The root of trust has to be signed again"},
		"the root, nearly too late":  {facts: Facts{Roles: []RoleFacts{{"root", now.Add(13 * day), 730 * day, true}}}, want: "urgent The root of trust has to be signed again"},
		"a timestamp that is late":   {facts: Facts{Roles: []RoleFacts{{"timestamp", now.Add(3 * time.Hour), day, false}}}, want: "warning The server does not renew its signatures of timestamp"},
		"a timestamp that runs out":  {facts: Facts{Roles: []RoleFacts{{"timestamp", now.Add(time.Hour), day, false}}}, want: "urgent The server does not renew its signatures of timestamp"},
		"trouble":                    {facts: Facts{Troubles: []TroubleFacts{{"disk", "The disk is full", nil}}}, want: "urgent The disk is full"},
		"trouble that is not known":  {facts: Facts{Troubles: []TroubleFacts{{"disk", "The disk is full", nil}}, Unknown: []Kind{ServerTrouble}}},
		"what lasts is told daily":   {facts: Facts{Choices: []ChoiceFacts{{"p", "t", "why", nil}}}, after: 25 * time.Hour, want: "warning What policy p chooses for t could not be built; warning What policy p chooses for t could not be built"},
		"the root runs nearer to it": {facts: Facts{Roles: []RoleFacts{{"root", now.Add(14*day + 2*time.Hour), 730 * day, true}}}, after: 3 * time.Hour, want: "warning The root of trust has to be signed again; urgent The root of trust has to be signed again"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var m Memory
			var all, some []Event
			for at := time.Duration(0); at <= c.after; at += time.Minute {
				some, m = Watch(c.facts, m, now.Add(at))
				all = append(all, some...)
				some, m = Watch(c.facts, m, now.Add(at))
				qt.Assert(t, qt.HasLen(some, 0), qt.Commentf("the same facts again"))
			}
			qt.Check(t, qt.Equals(said(all), c.want))
			ids := map[string]bool{}
			for _, e := range all {
				qt.Check(t, qt.IsTrue(e.ID != "" && !ids[e.ID] && !e.Time.IsZero() && link("https://x", e.Path) != ""), qt.Commentf("%s", e.Title))
				ids[e.ID] = true
			}
		})
	}
}

func TestWhatComesAndGoesIsOneThing(t *testing.T) {
	t.Parallel()
	bad := Facts{Groups: []GroupFacts{{"db", 10, 0, 2, nil}}}
	var m Memory
	var all, some []Event
	for i := range 120 { // it flaps for two hours
		f := bad
		if i%7 == 6 {
			f = Facts{}
		}
		some, m = Watch(f, m, now.Add(time.Duration(i)*time.Minute))
		all = append(all, some...)
	}
	for i := range 30 {
		some, m = Watch(Facts{}, m, now.Add(time.Duration(120+i)*time.Minute))
		all = append(all, some...)
	}
	// Before it was told, each gap begins its patience anew: seven minutes are
	// never enough.
	qt.Check(t, qt.Equals(said(all), ""))
	for i := range 120 {
		f := bad
		if i > 20 && i%7 == 6 {
			f = Facts{}
		}
		some, m = Watch(f, m, now.Add(time.Duration(i)*time.Minute))
		all = append(all, some...)
	}
	qt.Check(t, qt.Equals(said(all), "warning 2 machines of group db can't take a live patch"))
	for i := range 30 {
		some, m = Watch(Facts{Unknown: []Kind{MachinesFailing}}, m, now.Add(time.Duration(120+i)*time.Minute))
		qt.Assert(t, qt.HasLen(some, 0), qt.Commentf("nobody knows"))
	}
	for i := range 30 {
		some, m = Watch(Facts{}, m, now.Add(time.Duration(150+i)*time.Minute))
		all = append(all, some...)
	}
	qt.Check(t, qt.Equals(said(all), "warning 2 machines of group db can't take a live patch; over 2 machines of group db can't take a live patch"))
	qt.Check(t, qt.HasLen(m, 0))
}

// TestWhatBeginsEndsOnce holds for any course of things, also when what is
// remembered is written down and read again, and when two servers watch.
func TestWhatBeginsEndsOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		m := Memory{}
		open := map[string]bool{}
		ids := map[string]bool{}
		at := now
		check := func(f Facts) {
			events, next := Watch(f, m, at)
			twin, _ := Watch(f, m, at)
			if said(events) != said(twin) || len(events) > 0 && events[0].ID != twin[0].ID {
				rt.Fatalf("two that watch see two things")
			}
			b, err := json.Marshal(next)
			if err != nil {
				rt.Fatal(err)
			}
			m = nil
			if err := json.Unmarshal(b, &m); err != nil {
				rt.Fatal(err)
			}
			for _, e := range events {
				if ids[e.ID] {
					rt.Fatalf("id of %s twice", e.Title)
				}
				ids[e.ID] = true
				key := e.about()
				if e.Ends && !open[key] {
					rt.Fatalf("%s is over and was not told", e.Title)
				}
				open[key] = !e.Ends
			}
		}
		for i := range rapid.IntRange(1, 60).Draw(rt, "steps") {
			var f Facts
			for g := range 3 {
				if n := rapid.IntRange(-3, 3).Draw(rt, "failing"); n > 0 {
					f.Groups = append(f.Groups, GroupFacts{Group: fmt.Sprint("g", g), Machines: 10, Silent: n - 1, Failing: n})
				}
			}
			if rapid.Bool().Draw(rt, "root") {
				f.Roles = []RoleFacts{{"root", at.Add(time.Duration(rapid.IntRange(1, 100).Draw(rt, "days")) * 24 * time.Hour), 0, true}}
			}
			if rapid.IntRange(0, 4).Draw(rt, "unknown") == 0 {
				f.Unknown = []Kind{MachinesFailing}
			}
			check(f)
			at = at.Add(time.Duration(rapid.IntRange(0, 40).Draw(rt, fmt.Sprint("minutes ", i))) * time.Minute)
		}
		for range 3 {
			at = at.Add(time.Hour)
			check(Facts{})
		}
		for key, is := range open {
			if is {
				rt.Fatalf("%s has no end", key)
			}
		}
		if len(m) > 0 {
			rt.Fatalf("%d conditions are remembered", len(m))
		}
	})
}
