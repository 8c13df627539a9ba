// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Facts are how things stand at a moment, as far as people are told of what
// lasts. What happens at once (a rollout that is halted, a machine that goes
// down) is an Event of whoever sees it.
type Facts struct {
	Groups     []GroupFacts
	Exploited  []ExploitedFacts
	Choices    []ChoiceFacts
	Exclusions []ExclusionFacts
	Roles      []RoleFacts
	Approvals  []ApprovalFacts
	Troubles   []TroubleFacts
	// Unknown are kinds of which nothing could be found out this time: what was
	// is taken to be still so.
	Unknown []Kind
}

// GroupFacts are the machines of a group; "" is that of those without one.
type GroupFacts struct {
	Group                     string
	Machines, Silent, Failing int
	Packages                  []string // targets that some of them fail with
}

// ExploitedFacts is a vulnerability that is known to be exploited, and open.
type ExploitedFacts struct {
	CVE      string
	Machines int
	Groups   []string
}

// ChoiceFacts is a choice of a policy that could not be built.
type ChoiceFacts struct {
	Policy, Target, Why string
	Groups              []string
}

// ExclusionFacts is an exclusion that is in force and ends.
type ExclusionFacts struct {
	Policy, Name, Owner string
	Ends                time.Time
	Groups              []string
}

// RoleFacts is a role of the TUF repository, or a certificate, with how long it
// is good when it is new.
type RoleFacts struct {
	Name    string
	Expires time.Time
	Life    time.Duration
	ByHand  bool // nobody renews it but a person, as the root
}

// ApprovalFacts is something that waits for a second person.
type ApprovalFacts struct {
	ID, What, By, Path string
	Groups             []string
}

// TroubleFacts is what is wrong with the service itself.
type TroubleFacts struct {
	Subject, Title string
	Facts          []Fact
}

// Condition is something that is so and may last.
type Condition struct {
	Event Event     `json:"event"` // as it is told next
	Since time.Time `json:"since"`
	Last  time.Time `json:"last"`           // when it was last so
	Told  time.Time `json:"told,omitzero"`  // when it was last told
	Times int       `json:"times,omitzero"` // how often
	Worst Severity  `json:"worst,omitzero"` // as which it was told at most
}

// Memory is what Watch remembers, by what conditions are about. It is kept as
// JSON.
type Memory map[string]Condition

// When conditions are told.
const (
	silentShare = 0.05                // of a group's machines
	endsWithin  = 14 * 24 * time.Hour // exclusions
	rootSoon    = 90 * 24 * time.Hour
	rootNow     = 14 * 24 * time.Hour
	// remind is how long after it was told what is still so is told again.
	remind = 24 * time.Hour
	// settle is how long something is not so before it is told to be over: what
	// comes and goes is one thing.
	settle = 10 * time.Minute
)

// patience is how long something is so before anybody is told.
func patience(k Kind) time.Duration {
	switch k {
	case MachinesFailing:
		return 15 * time.Minute
	case MachinesSilent:
		return 30 * time.Minute
	case CVEOpen:
		return time.Hour
	}
	return 0
}

// once tells which kinds are told once and have no end that is worth a word.
func once(k Kind) bool { return k == ExclusionEnding }

// Watch compares how things stand with what is remembered, and returns what
// people are told, with what to remember then. The same facts again give
// nothing new. Events have the same ids whoever watches, so that of two servers
// with one memory one is heard.
func Watch(f Facts, m Memory, now time.Time) ([]Event, Memory) {
	next := maps.Clone(m)
	if next == nil {
		next = Memory{}
	}
	var events []Event
	for _, e := range f.events(now) {
		key := e.about()
		c, known := next[key]
		if !known {
			c.Since = now
		}
		e.Time = now
		c.Event, c.Last = e, now
		told := !c.Told.IsZero()
		if !told && now.Sub(c.Since) >= patience(e.Kind) || told && (e.Level().Rank() > c.Worst.Rank() || !once(e.Kind) && now.Sub(c.Told) >= remind) {
			c.Times++
			c.Told = now
			if e.Level().Rank() > c.Worst.Rank() {
				c.Worst = e.Level()
			}
			e.ID = id("w", key, fmt.Sprint(c.Since.UnixMilli()), fmt.Sprint(c.Times))
			if c.Times > 1 {
				e.Facts = append(slices.Clone(e.Facts), Fact{Name: "since", Value: minute(c.Since)})
			}
			events = append(events, e)
		}
		next[key] = c
	}
	for _, key := range slices.Sorted(maps.Keys(next)) {
		c := next[key]
		told := !c.Told.IsZero()
		if c.Last.Equal(now) || slices.Contains(f.Unknown, c.Event.Kind) || told && now.Sub(c.Last) < settle {
			continue
		}
		delete(next, key)
		if !told || once(c.Event.Kind) {
			continue
		}
		e := c.Event
		e.ID, e.Time, e.Ends, e.Severity = id("w", key, fmt.Sprint(c.Since.UnixMilli()), "over"), now, true, c.Worst
		e.Title, e.Facts = "Over: "+e.Title, []Fact{{Name: "since", Value: minute(c.Since)}, {Name: "until", Value: minute(c.Last)}}
		events = append(events, e)
	}
	return events, next
}

func minute(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// events are what is so, in order.
func (f Facts) events(now time.Time) []Event {
	var out []Event
	add := func(e Event) {
		if !slices.Contains(f.Unknown, e.Kind) {
			e.Severity = e.Level()
			out = append(out, e)
		}
	}
	for _, t := range f.Troubles {
		add(Event{Kind: ServerTrouble, Subject: t.Subject, Title: t.Title, Facts: t.Facts, Path: "/console/settings"})
	}
	for _, r := range f.Roles {
		if severity, ok := r.soon(now); ok {
			e := Event{Kind: KeyExpiring, Severity: severity, Subject: "role/" + r.Name, Facts: []Fact{{"runs out", minute(r.Expires)}}, Path: "/console/settings"}
			e.Title = "The server does not renew its signatures of " + r.Name
			if r.ByHand {
				e.Title = "The " + r.Name + " of trust has to be signed again"
			}
			add(e)
		}
	}
	for _, x := range f.Exploited {
		if x.Machines > 0 {
			add(Event{
				Kind: CVEOpen, Subject: "cve/" + x.CVE, Title: fmt.Sprintf("%s is exploited, and open on %s", x.CVE, count(x.Machines, "machine")), Groups: x.Groups,
				Path: "/console/machines?cve=" + x.CVE,
			})
		}
	}
	for _, g := range f.Groups {
		name, groups := "without a group", []string(nil)
		if g.Group != "" {
			name, groups = "of group "+g.Group, []string{g.Group}
		}
		if g.Failing > 0 {
			facts := []Fact{{"machines", fmt.Sprintf("%d of %d", g.Failing, g.Machines)}}
			if len(g.Packages) > 0 {
				facts = append(facts, Fact{"packages", strings.Join(g.Packages, ", ")})
			}
			add(Event{
				Kind: MachinesFailing, Subject: "group/" + g.Group, Title: fmt.Sprintf("%s %s can't take a live patch", count(g.Failing, "machine"), name), Groups: groups,
				Facts: facts, Path: "/console/machines?protection=failing",
			})
		}
		if float64(g.Silent) > silentShare*float64(g.Machines) {
			add(Event{
				Kind: MachinesSilent, Subject: "group/" + g.Group, Title: fmt.Sprintf("%s %s missed three check-ins", count(g.Silent, "machine"), name), Groups: groups,
				Facts: []Fact{{"machines", fmt.Sprintf("%d of %d", g.Silent, g.Machines)}}, Path: "/console/machines?protection=silent",
			})
		}
	}
	for _, c := range f.Choices {
		add(Event{
			Kind: BuildFailed, Subject: "choice/" + c.Policy + "/" + c.Target, Title: "What policy " + c.Policy + " chooses for " + c.Target + " could not be built",
			Facts: []Fact{{"why", c.Why}}, Groups: c.Groups, Path: "/console/policies/" + c.Policy,
		})
	}
	for _, a := range f.Approvals {
		add(Event{
			Kind: ApprovalNeeded, Subject: "approval/" + a.ID, Title: a.What + " waits for a second person", Facts: []Fact{{"asked by", a.By}}, Groups: a.Groups, Path: a.Path,
		})
	}
	for _, x := range f.Exclusions {
		if in := x.Ends.Sub(now); in > 0 && in <= endsWithin {
			add(Event{
				Kind: ExclusionEnding, Subject: strings.Join([]string{"exclusion", x.Policy, x.Name, x.Ends.UTC().Format(time.RFC3339)}, "/"),
				Title: "The exclusion of " + x.Name + " from policy " + x.Policy + " ends on " + x.Ends.UTC().Format(time.DateOnly), Facts: []Fact{{"owner", x.Owner}},
				Groups: x.Groups, Path: "/console/policies/" + x.Policy,
			})
		}
	}
	return out
}

// soon tells how urgent it is that a role runs out. What renews itself does so
// with a third of its life left: at a sixth something keeps it from that.
func (r RoleFacts) soon(now time.Time) (Severity, bool) {
	left := r.Expires.Sub(now)
	if r.ByHand {
		switch {
		case left < rootNow:
			return Urgent, true
		case left < rootSoon:
			return Warning, true
		}
		return "", false
	}
	switch {
	case left < r.Life/12:
		return Urgent, true
	case left < r.Life/6:
		return Warning, true
	}
	return "", false
}

func count(n int, noun string) string {
	return fmt.Sprintf("%d %s", n, cmp.Or(map[bool]string{true: noun}[n == 1], noun+"s"))
}
