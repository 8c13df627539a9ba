// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Health is a rollout against its budget, in numbers of machines.
type Health struct {
	Machines int             `json:"machines"` // in scope, those that were offered it included
	Offered  int             `json:"offered"`  // may have it, and have not begun
	Begun    int             `json:"begun"`    // load it, or are watched until they settle
	Well     int             `json:"well"`
	Failed   map[Failure]int `json:"failed"` // that are not forgiven
	Late     int             `json:"late"`
	Had      int             `json:"had"`       // have begun at some time
	Forgiven int             `json:"forgiven"`  // of them: failed before a person resumed
	WaveUsed int             `json:"wave_used"` // places that are taken in this wave and those before it
	WaveSize int             `json:"wave_size"` // were offered it in this wave
	WaveWell int             `json:"wave_well"` // of them: well
	// Crashes and Failures are what the budget is held against: no whole
	// numbers, where what is usual is taken off. MayCrash and MayFail are the
	// budget.
	Crashes  float64 `json:"crashes"`
	Failures float64 `json:"failures"`
	MayCrash float64 `json:"may_crash"`
	MayFail  float64 `json:"may_fail"`
	// Span are the boots and silences that were counted, or else all of them.
	// Control is how many machines without it they were compared with; 0: too few.
	Span    Span `json:"span"`
	Control int  `json:"control"`
	// Over says why it is over its budget; "" is that it is not.
	Over string `json:"over,omitempty"`

	last time.Time // when a machine was last offered it, or settled
}

// Span is what befell machines within some time of loading the live patch.
type Span struct {
	Within Duration `json:"within"`
	Events int      `json:"events"` // boots and silences
	Usual  float64  `json:"usual"`  // that such machines would have had anyway
}

const (
	// unlikely is how often boots and silences that are chance alone may be
	// taken for the live patch's doing.
	unlikely = 0.005
	// forgotten is how long a machine says nothing until no rollout waits for it.
	forgotten = 30 * 24 * time.Hour
	// minControl is how many machines without the live patch it takes for
	// their boots and silences to say something.
	minControl = 20
)

// Assess holds a rollout against its budget.
//
// Boots and silences happen without any live patch. What the machines' own
// past lets expect of them in the time that they were watched, or what befalls
// the machines that do not have it at the same time, if that is more, is
// usual. As long as chance alone would bring as many in one of two
// hundred looks, none counts; else all above the usual do. Since what a live patch
// does it mostly does soon, and what is usual has no hurry, they are counted by
// how long after the load they came as well: two boots within a quarter of an
// hour are telling where two in a day are not.
func Assess(p *Plan, s *State, f *Facts, now time.Time) Health {
	h := Health{Failed: map[Failure]int{}}
	for _, r := range s.Records {
		h.count(r, s.Wave)
	}
	spans := h.compare(p, s, f, now)
	hard, all := 0, 0
	for kind, n := range h.Failed {
		if !kind.usual() {
			all += n
			if kind.grave() {
				hard += n
			}
		}
	}
	over := 0.0
	for i, sp := range spans {
		// Half of the chance is for the first span, a quarter for the next.
		if more := float64(sp.Events) - sp.Usual; more > over && atLeast(sp.Events, sp.Usual) < math.Ldexp(unlikely, -1-i) {
			over, h.Span = more, sp
		}
	}
	if over == 0 {
		h.Span = spans[len(spans)-1]
	}
	n := h.Had - h.Forgiven
	h.Crashes, h.Failures = float64(hard)+over, float64(all)+over
	h.MayCrash, h.MayFail = p.Budget.Crashes.Of(n), p.Budget.Failures.Of(n+h.Failed[Refused])
	switch {
	case h.Crashes > h.MayCrash:
		h.Over = h.sentence(true, n, over, h.Crashes, h.MayCrash)
	case h.Failures > h.MayFail:
		h.Over = h.sentence(false, n, over, h.Failures, h.MayFail)
	}
	return h
}

// count takes a record into the tally.
func (h *Health) count(r *Record, wave int) {
	if !r.Begun.IsZero() {
		h.Had++
	}
	if r.Status != Left || !r.Begun.IsZero() {
		h.Machines++
	}
	if r.counts() {
		h.WaveUsed++
	}
	for _, at := range [2]time.Time{r.Offered, r.Settled} {
		if at.After(h.last) {
			h.last = at
		}
	}
	if r.Wave == wave {
		h.WaveSize++
	}
	switch r.Status {
	case Offered:
		h.Offered++
	case Begun:
		h.Begun++
	case Well:
		h.Well++
		if r.Wave == wave {
			h.WaveWell++
		}
	case Late:
		h.Late++
	}
	if r.failed() {
		h.Failed[r.Failure]++
	}
	if r.broken() {
		h.Failed[r.Break]++
	}
	if !r.Begun.IsZero() && (r.Forgiven || r.Excused) {
		h.Forgiven++
	}
}

// compare looks at boots and silences within Settle of the load, four times
// that, and so on to Watch, and adds up what is usual in these times. It counts
// the machines in scope, too.
func (h *Health) compare(p *Plan, s *State, f *Facts, now time.Time) []Span {
	var spans []Span
	for d := p.Settle; d < p.Watch; d *= 4 {
		spans = append(spans, Span{Within: d})
	}
	spans = append(spans, Span{Within: p.Watch})
	for _, r := range s.Records {
		if r.broken() {
			took := Duration(r.BreakAt.Sub(r.Begun))
			for i := range spans {
				if took <= spans[i].Within || i == len(spans)-1 {
					spans[i].Events++
				}
			}
		}
	}
	type watched struct {
		took  time.Duration
		usual float64
	}
	var all []watched
	c := control{p: p, s: s, f: f, now: now, from: now.Add(-time.Duration(p.Watch))}
	if s.First.After(c.from) {
		c.from = s.First
	}
	for i := range f.Machines {
		m := &f.Machines[i]
		switch r := s.Records[m.ID]; {
		case (r == nil || r.Status == Left && r.Begun.IsZero()) && m.Out == "" && !m.Gone && !m.Has && now.Sub(m.Seen) < forgotten:
			h.Machines++
			c.look(m)
		case r != nil && !r.Begun.IsZero() && !r.Excused:
			all = append(all, watched{max(0, now.Sub(r.Begun)), m.Usual})
		}
	}
	rate := c.rate()
	if c.size >= minControl {
		h.Control = c.size
	}
	for _, w := range all {
		for k := range spans {
			took := min(w.took, time.Duration(spans[k].Within))
			spans[k].Usual -= math.Expm1(-max(w.usual, rate) * took.Hours() / 24)
		}
	}
	return spans
}

// control are the machines in scope that were never offered the live patch:
// what befalls them at the same time is not its doing.
type control struct {
	p            *Plan
	s            *State
	f            *Facts
	now, from    time.Time
	size, events int
}

func (c *control) look(m *Machine) {
	if c.s.First.IsZero() || m.Seen.Before(c.from) {
		return // it was silent before, and shows nothing
	}
	c.size++
	if m.Booted.After(c.from) || c.f.silent(m, c.now) {
		c.events++
	}
}

// rate is how often a day they booted or fell silent.
func (c *control) rate() float64 {
	took := c.now.Sub(c.from)
	if c.size < minControl || took <= 0 {
		return 0
	}
	return float64(c.events) / float64(c.size) / took.Hours() * 24
}

// atLeast is the chance of k or more events where mean are expected (Poisson).
func atLeast(k int, mean float64) float64 {
	switch {
	case k <= 0 || float64(k) <= mean:
		return 1 // more than a third, which is all that is asked
	case mean <= 0:
		return 0
	}
	// The terms from k on fall, for k is above the mean.
	lg, _ := math.Lgamma(float64(k) + 1)
	term := math.Exp(float64(k)*math.Log(mean) - mean - lg)
	sum := 0.0
	for i := k; term > sum*1e-12 && term > 0; i++ {
		sum += term
		term *= mean / float64(i+1)
	}
	return sum
}

// sentence says why it is over budget.
func (h *Health) sentence(grave bool, n int, soft, is, may float64) string {
	var parts []string
	for _, k := range slices.Backward(failures()) {
		if h.Failed[k] > 0 && (!grave || k.grave()) && !k.usual() {
			parts = append(parts, fmt.Sprintf("%d %s", h.Failed[k], k.words()))
		}
	}
	if soft > 0 {
		parts = append(parts, fmt.Sprintf("%d fell silent or came back with a new boot within %s, where %.2g would be usual", h.Span.Events, h.Span.Within, h.Span.Usual))
	}
	return fmt.Sprintf("of %s that had it %s; this counts as %.4g, and the budget is %.4g", machines(n), strings.Join(parts, ", "), is, may)
}

func machines(n int) string { return some(n, "") }

// some is a number of machines with a verb: "1 machine is", "3 machines are".
func some(n int, verb string) string {
	one := map[string]string{"are": " is", "have": " has", "have been": " has been", "": ""}
	if n == 1 {
		return "1 machine" + one[verb]
	}
	return strings.TrimSuffix(number(n)+" machines "+verb, " ")
}

// number writes 100000 as 100,000.
func number(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return number(n/1000) + fmt.Sprintf(",%03d", n%1000)
}
