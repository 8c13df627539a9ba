// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
)

var monday = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)

// harm is what a live patch does to machines, as chances.
type harm struct {
	crash, refuse, stall, warn float64
	// A crash comes between earliest and latest after the load.
	earliest, latest time.Duration
	forever          float64 // of the crashes: it does not come back
}

// host is a simulated machine: the truth about it, of which the server knows
// what is in its Machine.
type host struct {
	had      bool // began to load it
	loads    int
	downTill time.Time // zero: it is up
	starts   time.Time // when it will begin, if it is admitted then
	healthy  time.Time // when its health watch will be over
	crashes  time.Time // zero: it won't
	unseen   bool      // cut off from the server
	sick     bool      // something came of it that the server was told
}

// world is a fleet, a server, and a rollout.
type world struct {
	t     testing.TB
	rng   *rand.Rand
	plan  Plan
	state *State
	facts Facts
	hosts []host
	index map[string]int
	now   time.Time
	harm  harm
	usual float64 // boots a day of each machine, without any live patch
	had   int
	told  map[string]int // failures that the server was told of for sure and nobody forgave
	// flaky servers die in the middle of a batch of steps and are read back
	// from what they wrote.
	flaky    bool
	recalled bool
	boots    int
	opened   int
}

func newWorld(t testing.TB, seed uint64, n int, plan Plan, h harm) *world {
	w := &world{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), plan: plan, now: monday, harm: h, usual: 1.0 / 60,
		hosts: make([]host, n), index: make(map[string]int, n), told: map[string]int{},
	}
	w.facts = Facts{Machines: make([]Machine, n), Silence: 30 * time.Minute, Listening: monday.Add(-time.Hour)}
	for i := range w.facts.Machines {
		m := &w.facts.Machines[i]
		m.ID, m.Boot, m.Booted, m.Seen = fmt.Sprintf("m%06d", i), fmt.Sprint("b", i), monday.Add(-30*24*time.Hour), monday
		m.Usual = Usual(1, 30)
		w.index[m.ID] = i
	}
	if err := plan.Check("test"); err != nil {
		t.Fatal(err)
	}
	w.state = New(fmt.Sprint("r", seed), &plan, w.now)
	return w
}

// settled makes it a fleet that boots once in half a year and is known for
// three months.
func (w *world) settled() {
	w.usual = 1.0 / 180
	for i := range w.facts.Machines {
		w.facts.Machines[i].Usual = Usual(w.poisson(0.5), 90)
	}
}

func (w *world) chance(p float64) bool { return w.rng.Float64() < p }

func (w *world) within(from, to time.Duration) time.Duration {
	if to <= from {
		return from
	}
	return from + time.Duration(w.rng.Int64N(int64(to-from)))
}

// pass lets time pass: machines do what they do, and the server looks.
func (w *world) pass(d time.Duration) {
	before := w.now
	w.now = w.now.Add(d)
	chaos := w.usual * d.Hours() / 24
	// The boots that would have been anyway: sampled, since fleets are large.
	for range w.poisson(chaos * float64(len(w.hosts))) {
		i := w.rng.IntN(len(w.hosts))
		if w.hosts[i].downTill.IsZero() {
			w.down(i, w.now.Add(-w.within(0, d)), 3*time.Minute)
		}
	}
	for i := range w.hosts {
		w.live(i, before)
	}
	w.serve()
}

func (w *world) poisson(mean float64) int {
	n := 0
	for at := w.rng.ExpFloat64(); at < mean; at += w.rng.ExpFloat64() {
		n++
	}
	return n
}

// down takes a machine down at a time, for some time.
func (w *world) down(i int, at time.Time, d time.Duration) {
	h, m := &w.hosts[i], &w.facts.Machines[i]
	if at.After(m.Seen) {
		m.Seen = at
	}
	h.downTill = at.Add(d)
}

// live is what a machine does until now.
func (w *world) live(i int, before time.Time) {
	h, m := &w.hosts[i], &w.facts.Machines[i]
	if m.Gone {
		return
	}
	if m.State == api.Applied && !h.sick && !h.healthy.After(w.now) && (h.crashes.IsZero() || h.healthy.Before(h.crashes)) &&
		(h.downTill.IsZero() || h.healthy.Before(m.Seen)) {
		m.State = api.Healthy
	}
	if !h.crashes.IsZero() && !h.crashes.After(w.now) && h.downTill.IsZero() {
		d := w.within(2*time.Minute, 10*time.Minute)
		if w.chance(w.harm.forever) {
			d = 1000 * 24 * time.Hour
		}
		w.down(i, h.crashes, d)
		h.crashes = time.Time{}
	}
	if !h.downTill.IsZero() {
		if h.downTill.After(w.now) {
			return
		}
		w.boot(i)
	}
	if h.unseen {
		return
	}
	m.Seen = w.now
	w.follow(i, before)
}

// boot brings a machine up again.
func (w *world) boot(i int) {
	h, m := &w.hosts[i], &w.facts.Machines[i]
	w.boots++
	m.Boot, m.Booted, h.downTill = fmt.Sprint("b", i, "-", w.boots), h.downTill, time.Time{}
	switch m.State {
	case api.Loading, api.Transitioning, api.Applied:
		if h.loads > 0 {
			// The agent finds an intent that nobody confirmed.
			m.State = api.Quarantined
			m.Events = append(m.Events, Event{m.Booted, Crashed})
			w.tell(m.ID, true)
		}
	}
}

func (w *world) tell(id string, grave bool) {
	if grave {
		w.told[id] = 2
	} else {
		w.told[id] = max(w.told[id], 1)
	}
}

// follow is the agent: it loads what it may, and confirms it.
func (w *world) follow(i int, before time.Time) {
	h, m := &w.hosts[i], &w.facts.Machines[i]
	switch {
	case w.recalled && has(m.State):
		m.State, m.Has, h.crashes = api.Reverted, false, time.Time{}
	case m.State == api.Applied && !h.healthy.After(w.now):
		if h.sick {
			m.State = api.Quarantined
			m.Has = false
			m.Events = append(m.Events, Event{w.now, Warned})
			w.tell(m.ID, true)
			return
		}
		m.State = api.Healthy
	case m.State == "" || m.State == api.Waiting:
		w.consider(i, before)
	}
}

// consider begins to load it, if the machine may.
func (w *world) consider(i int, before time.Time) {
	h, m := &w.hosts[i], &w.facts.Machines[i]
	if w.recalled || m.Held || m.Out != "" || w.facts.Blocked != "" || w.state.Phase == Done || !w.state.Admits(m.ID) {
		// After the rollout machines take it as they come: not simulated.
		h.starts = time.Time{}
		return
	}
	if h.starts.IsZero() {
		h.starts = w.now.Add(w.within(0, 20*time.Minute))
	}
	if h.starts.After(w.now) || m.Unable != "" {
		return
	}
	at := h.starts
	if at.Before(before) {
		at = before
	}
	switch {
	case w.chance(w.harm.refuse):
		m.Unable, m.State = "preflight", api.Blocked
		m.Events = append(m.Events, Event{w.now, Refused})
		w.tell(m.ID, false)
		return
	case w.chance(w.harm.stall):
		w.load(h)
		if m.Begun.IsZero() {
			m.Begun, m.BegunBoot = at, m.Boot
		}
		m.State = api.Waiting
		m.Events = append(m.Events, Event{w.now, Stalled})
		w.tell(m.ID, false)
		h.starts = w.now.Add(time.Hour)
		return
	}
	w.load(h)
	m.State, m.Has = api.Applied, true
	if m.Begun.IsZero() {
		m.Begun, m.BegunBoot = at, m.Boot
	}
	h.healthy = at.Add(time.Minute)
	h.sick = w.chance(w.harm.warn)
	if w.chance(w.harm.crash) {
		h.crashes = at.Add(w.within(w.harm.earliest, w.harm.latest))
	}
}

func (w *world) load(h *host) {
	h.loads++
	if !h.had {
		h.had = true
		w.had++
	}
}

// serve is the server: it looks and takes steps until none comes.
func (w *world) serve() {
	w.facts.Recalled = w.recalled
	for round := 0; ; round++ {
		if round > 40 {
			w.t.Fatalf("%s: no rest after %d rounds", w.now, round)
		}
		steps := Next(&w.plan, w.state, &w.facts, w.now)
		if len(steps) == 0 {
			return
		}
		if w.flaky && w.chance(0.1) {
			steps = steps[:w.rng.IntN(len(steps)+1)] // killed after these
			defer func() { w.reread() }()
		}
		for _, st := range steps {
			w.check(st)
			w.state.Take(st, w.now)
			if st.What == Recall {
				w.recalled = true
			}
		}
		if w.flaky && w.chance(0.05) {
			return // and killed here
		}
	}
}

// reread is a server that was killed and comes back, or another replica.
func (w *world) reread() {
	b, err := json.Marshal(w.state)
	if err != nil {
		w.t.Fatal(err)
	}
	var s State
	if err := json.Unmarshal(b, &s); err != nil {
		w.t.Fatal(err)
	}
	w.state = &s
}

// check holds a step against what must never happen, by what the simulation
// knows and not by what package rollout counts.
func (w *world) check(st Step) {
	w.t.Helper()
	switch st.What {
	case Offer, Open, Finish:
	default:
		return
	}
	had, crashes, failures, flight := 0, 0, 0, 0
	for id, r := range w.state.Records {
		if !r.Begun.IsZero() && !r.Forgiven && !r.Excused || r.Failure == Refused && !r.Forgiven {
			had++
		}
		if r.Status == Offered || r.Status == Begun {
			flight++
		}
		if g := w.told[id]; g > 0 && !r.Forgiven {
			failures++
			crashes += g - 1
		}
	}
	if may := max(float64(w.plan.Budget.Crashes.Count), w.plan.Budget.Crashes.Percent*float64(had)/100); float64(crashes) > may {
		w.t.Fatalf("%s: %s of wave %d with %d crashes of %d; %v are allowed", w.now, st.What, st.Wave, crashes, had, may)
	}
	if may := max(float64(w.plan.Budget.Failures.Count), w.plan.Budget.Failures.Percent*float64(had)/100); float64(failures) > may {
		w.t.Fatalf("%s: %s of wave %d with %d failures of %d; %v are allowed", w.now, st.What, st.Wave, failures, had, may)
	}
	if st.What != Offer {
		w.opened++
		w.checkFull(st)
		return
	}
	why, _ := w.plan.Closed(w.now)
	urgent := w.state.urgent(&w.plan)
	if why != "" && !urgent {
		w.t.Fatalf("%s: an offer although %s", w.now, why)
	}
	if w.state.Phase != Running {
		w.t.Fatalf("%s: an offer while %s", w.now, w.state.Phase)
	}
	scope := 0
	for i := range w.facts.Machines {
		if m := &w.facts.Machines[i]; m.Out == "" && !m.Gone || w.state.Records[m.ID] != nil {
			scope++
		}
	}
	if most := int(math.Ceil(w.plan.Flight.Percent * float64(scope) / 100)); !urgent && w.plan.Flight.Percent > 0 && flight+len(st.Machines) > max(most, 1) {
		w.t.Fatalf("%s: %d on their way and %d more; at most %d of %d may", w.now, flight, len(st.Machines), most, scope)
	}
	seen := map[string]bool{}
	for _, mark := range st.Machines {
		h, m := &w.hosts[w.index[mark.Machine]], &w.facts.Machines[w.index[mark.Machine]]
		switch {
		case h.had:
			w.t.Fatalf("%s: %s is offered it again", w.now, mark.Machine)
		case seen[mark.Machine]:
			w.t.Fatalf("%s: %s is offered it twice in a step", w.now, mark.Machine)
		case m.Out != "" || m.Gone || m.Held || m.Other != "":
			w.t.Fatalf("%s: %s is offered it although %+v", w.now, mark.Machine, m)
		}
		seen[mark.Machine] = true
	}
}

// checkFull: no wave is left before half of its machines could be given it.
func (w *world) checkFull(st Step) {
	w.t.Helper()
	given, scope := 0, 0
	for i := range w.facts.Machines {
		m := &w.facts.Machines[i]
		r := w.state.Records[m.ID]
		if r != nil && (w.hosts[i].had || r.Status == Failed) {
			given++
		}
		if r != nil && !r.Begun.IsZero() || m.Out == "" && !m.Gone {
			scope++
		}
	}
	upto := 0
	for _, wave := range w.plan.Waves[:w.state.Wave+1] {
		upto = max(upto, wave.Upto.Count, int(wave.Upto.Percent*float64(scope)/100))
	}
	if upto = min(upto, scope); 2*given < upto-1 && !w.state.Skip && !w.state.urgent(&w.plan) && w.state.Soaking.IsZero() {
		w.t.Fatalf("%s: %s of wave %d when %d of %d had it", w.now, st.What, st.Wave, given, upto)
	}
}

func stateText(s *State) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}
