// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// How is what becomes of an event in a channel.
type How string

// The ways.
const (
	Now  How = "now"    // it is told at once
	Keep How = "digest" // it is kept for the next digest
	Drop How = "drop"   // it is not told
)

// Decision is what becomes of an event in a channel, and why.
type Decision struct {
	How How    `json:"how"`
	Why string `json:"why"`
}

// State is what is remembered of a channel. The zero value is that of one that
// nothing came through yet. It is for one goroutine, and is kept as JSON.
type State struct {
	// Told is when something was last told, or kept to be told, by what it is
	// about; Held how often it was not told again since.
	Told map[string]time.Time `json:"told,omitempty"`
	Held map[string]int       `json:"held,omitempty"`
	// Sent are the times of messages of the last hour that came at once.
	Sent []time.Time `json:"sent,omitempty"`
	// Urgent is when something urgent of a kind last came at once.
	Urgent map[Kind]time.Time `json:"urgent,omitempty"`
	// Kept are events for the next digest, the oldest first; More counts those
	// that found no room, by kind.
	Kept []Event      `json:"kept,omitempty"`
	More map[Kind]int `json:"more,omitempty"`
	// Due is when what is kept is told: the rhythm's next moment, or the end of
	// the hour in which too much came at once.
	Due time.Time `json:"due,omitzero"`
}

const (
	maxKept = 200
	maxTold = 2000
	hour    = time.Hour
)

// Decide says what becomes of an event in a channel, and remembers it. held is
// how often the same was kept back before it. zone is that of the channel's
// digest.
func (s *State) Decide(c Channel, e Event, now time.Time, zone *time.Location) (d Decision, held int) {
	drop := func(why string) (Decision, int) { return Decision{Drop, why}, 0 }
	switch {
	case c.Paused:
		return drop("the channel is paused")
	case e.Kind == Test: // whoever tries a channel wants to see something
		return Decision{Now, "it is a test"}, 0
	case !Matches(c.Kinds, e.Kind):
		return drop("the channel does not want its kind")
	case e.Level().Rank() < c.Least.Rank() && !e.Ends:
		return drop("it is less severe than the channel wants")
	case !concerns(c.Groups, e.Groups):
		return drop("it concerns none of the channel's groups")
	}
	s.forget(c, now)
	if e.Ends {
		known := false
		for _, level := range []Severity{Info, Warning, Urgent} {
			key := keyOf(e.about(), level)
			if _, ok := s.Told[key]; ok {
				known = true
				held += s.Held[key]
			}
			delete(s.Told, key)
			delete(s.Held, key)
		}
		if !known {
			return drop("nobody was told that it began")
		}
		if s.keeps(e.about()) { // whoever reads that it began reads in the same message that it is over
			s.keep(e)
			return Decision{Keep, "it began since the last digest"}, held
		}
		return s.send(c, e, held, now, zone)
	}
	key := e.key()
	told, known := s.Told[key]
	if known && now.Sub(told) < cmp.Or(c.Repeat, DefaultRepeat) {
		if s.Held == nil {
			s.Held = map[string]int{}
		}
		s.Held[key]++
		return drop("the same was told " + ago(now.Sub(told)) + " ago")
	}
	held = s.Held[key]
	delete(s.Held, key)
	if s.Told == nil {
		s.Told = map[string]time.Time{}
	}
	s.Told[key] = now
	return s.send(c, e, held, now, zone)
}

// send tells an event at once, or keeps it for later.
func (s *State) send(c Channel, e Event, held int, now time.Time, zone *time.Location) (Decision, int) {
	if c.Digest.Every != Never && e.Level() != Urgent {
		s.due(c.Digest.Next(now, zone))
		s.keep(e)
		return Decision{Keep, "it can wait for the digest"}, held
	}
	if most := cmp.Or(c.PerHour, DefaultPerHour); len(s.Sent) >= most && !s.first(e, now) {
		s.due(s.Sent[0].Add(hour))
		s.keep(e)
		return Decision{Keep, fmt.Sprintf("%d messages came at once within the hour", most)}, held
	}
	s.Sent = append(s.Sent, now)
	if e.Level() == Urgent {
		if s.Urgent == nil {
			s.Urgent = map[Kind]time.Time{}
		}
		s.Urgent[e.Kind] = now
	}
	return Decision{Now, "the channel wants it"}, held
}

// first tells whether an event is urgent, and the first of its kind to come at
// once within the hour: that a rollout was halted does not wait behind all the
// machines that went down.
func (s *State) first(e Event, now time.Time) bool {
	return e.Level() == Urgent && now.Sub(s.Urgent[e.Kind]) >= hour
}

// concerns tells whether an event about groups is for a channel of groups.
func concerns(channel, event []string) bool {
	return len(channel) == 0 || len(event) == 0 || slices.ContainsFunc(event, func(g string) bool { return slices.Contains(channel, g) })
}

// forget lets go of what means nothing any more.
func (s *State) forget(c Channel, now time.Time) {
	s.Sent = slices.DeleteFunc(s.Sent, func(t time.Time) bool { return now.Sub(t) >= hour })
	if len(s.Told) < maxTold {
		return
	}
	maps.DeleteFunc(s.Told, func(_ string, t time.Time) bool { return now.Sub(t) >= cmp.Or(c.Repeat, DefaultRepeat) })
	if len(s.Told) >= maxTold { // the oldest tenth: it may be told once more
		keys := slices.SortedFunc(maps.Keys(s.Told), func(a, b string) int {
			return cmp.Or(s.Told[a].Compare(s.Told[b]), cmp.Compare(a, b))
		})
		for _, k := range keys[:maxTold/10] {
			delete(s.Told, k)
		}
	}
	maps.DeleteFunc(s.Held, func(k string, _ int) bool { _, ok := s.Told[k]; return !ok })
}

func (s *State) keeps(about string) bool {
	return slices.ContainsFunc(s.Kept, func(e Event) bool { return e.about() == about })
}

func (s *State) keep(e Event) {
	if len(s.Kept) < maxKept {
		s.Kept = append(s.Kept, e)
		return
	}
	if s.More == nil {
		s.More = map[Kind]int{}
	}
	s.More[e.Kind]++
}

// due sets when what is kept is told, at the earlier of two moments.
func (s *State) due(at time.Time) {
	if s.Due.IsZero() || at.Before(s.Due) {
		s.Due = at
	}
}

// Gather takes what is kept when it is due. ok is false when it is not, or
// nothing is there.
func (s *State) Gather(c Channel, now time.Time) (events []Event, more map[Kind]int, ok bool) {
	if c.Paused || s.Due.IsZero() || now.Before(s.Due) || len(s.Kept) == 0 {
		return nil, nil, false
	}
	events, more = s.Kept, s.More
	s.Kept, s.More, s.Due = nil, nil, time.Time{}
	s.forget(c, now)
	return events, more, true
}

func ago(d time.Duration) string {
	switch {
	case d < time.Minute:
		return "less than a minute"
	case d < 2*time.Hour:
		return fmt.Sprintf("%d minutes", int(d.Minutes()))
	}
	return fmt.Sprintf("%d hours", int(d.Hours()))
}
