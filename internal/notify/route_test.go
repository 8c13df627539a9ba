// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"encoding/json"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"pgregory.net/rapid"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func halted(subject string) Event {
	return Event{ID: "e-" + subject, Kind: RolloutHalted, Time: now, Subject: subject, Title: "rollout " + subject + " was halted", Groups: []string{"db"}}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	failed := Event{ID: "b", Kind: BuildFailed, Time: now, Subject: "job/1", Title: "a build failed"}
	daily := Digest{Every: Daily, At: "18:00"}
	told := func(e Event, before time.Duration) State {
		return State{Told: map[string]time.Time{e.key(): now.Add(-before)}}
	}
	busy := State{}
	for i := range 20 {
		busy.Sent = append(busy.Sent, now.Add(-time.Duration(50-i)*time.Minute))
	}
	alarmed := busy
	alarmed.Urgent = map[Kind]time.Time{RolloutHalted: now.Add(-59 * time.Minute)}
	ends := halted("1")
	ends.Ends = true
	for name, c := range map[string]struct {
		channel Channel
		state   State
		event   Event
		want    How
		why     string
		held    int
		due     time.Time
	}{
		"all that happens":                           {event: failed, want: Now, why: "wants it"},
		"a paused channel":                           {channel: Channel{Paused: true}, event: halted("1"), want: Drop, why: "paused"},
		"an area that is wanted":                     {channel: Channel{Kinds: []string{"rollout.*"}}, event: halted("1"), want: Now},
		"an area that is not":                        {channel: Channel{Kinds: []string{"rollout.*"}}, event: failed, want: Drop, why: "kind"},
		"a kind that is wanted":                      {channel: Channel{Kinds: []string{"key.expiring", "build.failed"}}, event: failed, want: Now},
		"too little for the channel":                 {channel: Channel{Least: Urgent}, event: failed, want: Drop, why: "severe"},
		"severe enough":                              {channel: Channel{Least: Warning}, event: failed, want: Now},
		"a severity of its own":                      {channel: Channel{Least: Urgent}, event: Event{Kind: BuildFailed, Severity: Urgent}, want: Now},
		"another group":                              {channel: Channel{Groups: []string{"web"}}, event: halted("1"), want: Drop, why: "groups"},
		"one of the groups":                          {channel: Channel{Groups: []string{"web", "db"}}, event: halted("1"), want: Now},
		"what concerns all groups":                   {channel: Channel{Groups: []string{"web"}}, event: failed, want: Now},
		"the same again":                             {state: told(failed, 3*time.Hour), event: failed, want: Drop, why: "180 minutes|3 hours"},
		"the same again, later":                      {state: told(failed, 4*time.Hour), event: failed, want: Now},
		"the same, and the channel wants it earlier": {channel: Channel{Repeat: time.Hour}, state: told(failed, time.Hour), event: failed, want: Now},
		"another of its kind":                        {state: told(halted("2"), time.Minute), event: halted("1"), want: Now},
		"the end of what was told":                   {state: told(ends, 90*time.Hour), event: ends, want: Now},
		"the end of what was less severe":            {state: told(Event{Kind: ends.Kind, Severity: Warning, Subject: ends.Subject}, time.Hour), event: ends, want: Now},
		"what becomes more severe":                   {state: told(failed, time.Minute), event: Event{Kind: failed.Kind, Severity: Urgent, Subject: failed.Subject}, want: Now},
		"the end of what was not":                    {event: ends, want: Drop, why: "began"},
		"a test, whatever the channel wants":         {channel: Channel{Kinds: []string{"key.expiring"}, Least: Urgent}, event: Event{Kind: Test}, want: Now},
		"what can wait":                              {channel: Channel{Digest: daily}, event: failed, want: Keep, why: "wait", due: now.Add(6 * time.Hour)},
		"what can't wait":                            {channel: Channel{Digest: daily}, event: halted("1"), want: Now},
		"too much at once":                           {state: busy, event: failed, want: Keep, why: "20 messages", due: now.Add(10 * time.Minute)},
		"too much at once, and this is urgent":       {state: busy, event: halted("1"), want: Now},
		"too much that is urgent":                    {state: alarmed, event: halted("1"), want: Keep, why: "20 messages", due: now.Add(10 * time.Minute)},
		"less than the channel stands":               {channel: Channel{PerHour: 21}, state: busy, event: halted("1"), want: Now},
		"how often it was held back": {
			state: State{Told: map[string]time.Time{failed.key(): now.Add(-5 * time.Hour)}, Held: map[string]int{failed.key(): 7}}, event: failed, want: Now, held: 7,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, held := c.state.Decide(c.channel, c.event, now, time.UTC)
			qt.Check(t, qt.Equals(d.How, c.want), qt.Commentf("%s", d.Why))
			qt.Check(t, qt.Matches(d.Why, ".*("+c.why+").*"))
			qt.Check(t, qt.Equals(held, c.held))
			qt.Check(t, qt.IsTrue(c.state.Due.Equal(c.due)), qt.Commentf("%v", c.state.Due))
		})
	}
}

func TestAnIncidentIsToldOnceAndItsEndToo(t *testing.T) {
	t.Parallel()
	c := Channel{Digest: Digest{Every: Hourly}}
	var s State
	var d Decision
	var held int
	for i := range 10 {
		d, _ = s.Decide(c, halted("1"), now.Add(time.Duration(i)*time.Minute), time.UTC)
		qt.Check(t, qt.Equals(d.How == Now, i == 0))
	}
	end := halted("1")
	end.Ends = true
	d, held = s.Decide(c, end, now.Add(time.Hour), time.UTC)
	qt.Check(t, qt.Equals(d.How, Now), qt.Commentf("what was told at once ends at once"))
	qt.Check(t, qt.Equals(held, 9))
	d, _ = s.Decide(c, end, now.Add(time.Hour), time.UTC)
	qt.Check(t, qt.Equals(d.How, Drop), qt.Commentf("it ended already"))
	d, held = s.Decide(c, halted("1"), now.Add(time.Hour), time.UTC)
	qt.Check(t, qt.Equals(d.How, Now), qt.Commentf("another time is another incident"))
	qt.Check(t, qt.Equals(held, 0))
}

func TestWhatBeganAndEndedBeforeTheDigestIsInItTwice(t *testing.T) {
	t.Parallel()
	c := Channel{ID: "c", Name: "ops", Digest: Digest{Every: Hourly}}
	silent := Event{ID: "1", Kind: MachinesSilent, Subject: "group/db", Title: "3 machines are silent", Time: now}
	var s State
	s.Decide(c, silent, now, time.UTC)
	_, _, ok := s.Gather(c, now)
	qt.Check(t, qt.IsFalse(ok), qt.Commentf("it is not due"))
	silent.Ends, silent.ID, silent.Title = true, "2", "they answer again"
	d, _ := s.Decide(c, silent, now.Add(time.Minute), time.UTC)
	qt.Check(t, qt.Equals(d.How, Keep))
	events, _, ok := s.Gather(c, now.Add(time.Hour))
	qt.Assert(t, qt.IsTrue(ok))
	qt.Check(t, qt.HasLen(events, 2))
	qt.Check(t, qt.IsTrue(s.Due.IsZero()))
	_, _, ok = s.Gather(c, now.Add(3*time.Hour))
	qt.Check(t, qt.IsFalse(ok), qt.Commentf("nothing is left"))
}

// TestAStormIsBounded is a bad hour of a fleet of 100,000: whatever happens,
// a channel gets no more than it stands, and everything is accounted for.
func TestAStormIsBounded(t *testing.T) {
	t.Parallel()
	c := Channel{ID: "c", Name: "ops"}
	var s State
	messages, accounted, largest := 0, 0, 0
	gather := func(at time.Time) {
		events, more, ok := s.Gather(c, at)
		if !ok {
			return
		}
		messages++
		accounted += len(events)
		for _, n := range more {
			accounted += n
		}
		m := Gathered(c, events, more, "https://console", at)
		largest = max(largest, len(m.Body))
	}
	const machines = 20_000
	for i := range machines {
		at := now.Add(time.Duration(i) * time.Hour / machines)
		gather(at)
		d, _ := s.Decide(c, Event{ID: fmt.Sprint(i), Kind: MachineCrashed, Subject: fmt.Sprint("machine/", i), Title: "a machine went down", Time: at}, at, time.UTC)
		if d.How == Now {
			messages++
			accounted++
		}
	}
	gather(now.Add(2 * time.Hour))
	qt.Check(t, qt.Equals(accounted, machines))
	qt.Check(t, qt.IsTrue(messages <= DefaultPerHour+2), qt.Commentf("%d messages", messages))
	qt.Check(t, qt.IsTrue(largest < 200<<10), qt.Commentf("%d bytes", largest))
	qt.Check(t, qt.IsTrue(len(s.Told) <= maxTold+1))
}

// TestNothingIsLostOrToldTwice holds for whatever happens to any channel: each
// event is told, kept and then told, or dropped with a reason; the same is not
// told again before its time; a state survives being written down.
func TestNothingIsLostOrToldTwice(t *testing.T) {
	t.Parallel()
	kinds := []Kind{RolloutHalted, BuildFailed, PatchPublished, MachinesSilent}
	rapid.Check(t, func(rt *rapid.T) {
		c := Channel{
			ID: "c", Name: "ops", PerHour: rapid.IntRange(1, 4).Draw(rt, "per hour"), Least: rapid.SampledFrom([]Severity{"", Warning, Urgent}).Draw(rt, "least"),
			Repeat: time.Duration(rapid.IntRange(0, 3).Draw(rt, "repeat")) * 30 * time.Minute,
			Digest: Digest{Every: rapid.SampledFrom([]Every{Never, Hourly, Daily}).Draw(rt, "every")},
		}
		repeat := c.Repeat
		if repeat == 0 {
			repeat = DefaultRepeat
		}
		var s State
		at := now
		waiting := map[string]bool{} // kept and not told yet
		last := map[string]time.Time{}
		inHour := []time.Time{}
		for i := range rapid.IntRange(1, 60).Draw(rt, "events") {
			at = at.Add(time.Duration(rapid.IntRange(0, 40).Draw(rt, "minutes")) * time.Minute)
			if events, _, ok := s.Gather(c, at); ok {
				for _, e := range events {
					if !waiting[e.ID] {
						rt.Fatalf("%s was gathered and not kept", e.ID)
					}
					delete(waiting, e.ID)
				}
			}
			e := Event{
				ID: fmt.Sprint("e", i), Kind: rapid.SampledFrom(kinds).Draw(rt, "kind"), Subject: rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "subject"),
				Ends: rapid.IntRange(0, 3).Draw(rt, "ends") == 0, Time: at, Title: "t",
			}
			d, _ := s.Decide(c, e, at, time.UTC)
			b, err := json.Marshal(s)
			if err != nil {
				rt.Fatal(err)
			}
			s = State{}
			if err := json.Unmarshal(b, &s); err != nil {
				rt.Fatal(err)
			}
			if d.Why == "" {
				rt.Fatalf("no reason")
			}
			if d.How == Drop {
				continue
			}
			if e.Level().Rank() < c.Least.Rank() && !e.Ends {
				rt.Fatalf("%s is too little", e.Level())
			}
			if was, ok := last[e.key()]; ok && !e.Ends && at.Sub(was) < repeat {
				rt.Fatalf("%s again after %s", e.key(), at.Sub(was))
			}
			if e.Ends {
				for _, level := range []Severity{Info, Warning, Urgent} {
					delete(last, keyOf(e.about(), level))
				}
			} else {
				last[e.key()] = at
			}
			if d.How == Keep {
				waiting[e.ID] = true
				if s.Due.IsZero() || !s.Due.After(at) && len(waiting) == 1 {
					rt.Fatalf("kept for no time: %v at %v", s.Due, at)
				}
				continue
			}
			if c.Digest.Every != Never && e.Level() != Urgent {
				rt.Fatalf("%s could have waited", e.Kind)
			}
			inHour = append(inHour, at)
			for len(inHour) > 0 && at.Sub(inHour[0]) >= time.Hour {
				inHour = inHour[1:]
			}
			if len(inHour) > c.PerHour+1 { // and one that is urgent
				rt.Fatalf("%d within an hour", len(inHour))
			}
		}
		if events, _, ok := s.Gather(c, at.AddDate(0, 0, 2)); ok {
			for _, e := range events {
				delete(waiting, e.ID)
			}
		}
		if len(waiting) > 0 {
			rt.Fatalf("lost: %v", maps.Keys(waiting))
		}
	})
}

func TestDigestsComeAtTheirTime(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	qt.Assert(t, qt.IsNil(err))
	tokyo, err := time.LoadLocation("Asia/Tokyo")
	qt.Assert(t, qt.IsNil(err))
	for name, c := range map[string]struct {
		d     Digest
		zone  *time.Location
		after string
		want  string
	}{
		"none":                        {Digest{}, time.UTC, "2026-11-22T12:00:00Z", "0001-01-01T00:00:00Z"},
		"the full hour":               {Digest{Every: Hourly}, time.UTC, "2026-11-22T12:00:00Z", "2026-11-22T13:00:00Z"},
		"within the hour":             {Digest{Every: Hourly}, time.UTC, "2026-11-22T12:59:59Z", "2026-11-22T13:00:00Z"},
		"today":                       {Digest{Every: Daily, At: "18:30"}, time.UTC, "2026-11-22T12:00:00Z", "2026-11-22T18:30:00Z"},
		"tomorrow, for it is now":     {Digest{Every: Daily, At: "12:00"}, time.UTC, "2026-11-22T12:00:00Z", "2026-11-23T12:00:00Z"},
		"nine, if nobody says":        {Digest{Every: Daily}, time.UTC, "2026-11-22T12:00:00Z", "2026-11-23T09:00:00Z"},
		"in Tokyo it is tomorrow":     {Digest{Every: Daily}, tokyo, "2026-11-22T20:00:00Z", "2026-11-23T00:00:00Z"},
		"next Monday":                 {Digest{Every: Weekly, Weekday: time.Monday}, time.UTC, "2026-11-22T12:00:00Z", "2026-11-23T09:00:00Z"},
		"Sunday a week from now":      {Digest{Every: Weekly, Weekday: time.Sunday}, time.UTC, "2026-11-22T12:00:00Z", "2026-11-29T09:00:00Z"},
		"at an hour that is left out": {Digest{Every: Daily, At: "02:30"}, berlin, "2026-03-28T12:00:00Z", "2026-03-29T01:30:00Z"},
		"the day after":               {Digest{Every: Daily, At: "02:30"}, berlin, "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"},
		"at an hour that comes twice": {Digest{Every: Daily, At: "02:30"}, berlin, "2026-10-24T12:00:00Z", "2026-10-25T01:30:00Z"},
		"and once only":               {Digest{Every: Daily, At: "02:30"}, berlin, "2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			after, err := time.Parse(time.RFC3339, c.after)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(c.d.Next(after, c.zone).UTC().Format(time.RFC3339), c.want))
			qt.Check(t, qt.Equals(c.d.check(), ""))
		})
	}
}
