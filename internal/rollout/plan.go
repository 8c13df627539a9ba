// SPDX-License-Identifier: Apache-2.0

// Package rollout says how a live patch goes through the machines of a tier:
// in waves, behind a health gate, so that what is bad about it is seen on a
// few machines. It is pure: a plan, what was decided so far (State), facts and
// a time in; the next steps with their reasons out. Who carries the steps out
// writes each into the store with State.Take's change before its effect, and
// asks State.Admits whether a machine may have the content key; so a server
// that dies in the middle neither loses a step nor does one twice.
//
// The order of machines is that of a hash of machine and rollout: another one
// for each rollout, the same for each server and at all times.
package rollout

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Plan is how a rollout goes. Zero fields mean what Filled puts there.
type Plan struct {
	Waves []Wave `yaml:"waves,omitempty" json:"waves,omitempty"`
	// Flight is how many machines may be on their way at a time: offered the
	// live patch, or watched until they settle.
	Flight Amount `yaml:"max_in_flight,omitempty" json:"max_in_flight,omitzero"`
	// Ramp bounds that too, in percent of the machines that are well with it
	// already, but not below ten: what is at risk at any time is small against
	// what is proven.
	Ramp float64 `yaml:"ramp,omitempty" json:"ramp,omitempty"`
	// Settle is how long a machine has to be well before it counts as such and
	// makes room for another. Watch is how long what befalls it is held against
	// the live patch.
	Settle Duration `yaml:"settle,omitempty" json:"settle,omitempty"`
	Watch  Duration `yaml:"watch,omitempty" json:"watch,omitempty"`
	// Patience is how long an offer waits for a machine, and how long a machine
	// may take from the first step to being well.
	Patience Duration         `yaml:"patience,omitempty" json:"patience,omitempty"`
	Times    `yaml:",inline"` // when machines are offered something
	Start    time.Time        `yaml:"start,omitempty" json:"start,omitzero"` // not before
	Budget   *Budget          `yaml:"budget,omitempty" json:"budget,omitempty"`
	// Revert takes the live patch out of all machines when the rollout halts
	// because it is over its budget.
	Revert bool `yaml:"revert,omitempty" json:"revert,omitempty"`
	// Emergency offers it to all machines at once, whatever waves, windows and
	// freezes say. Two people have to approve. The health gate stays: over
	// budget nobody else gets it.
	Emergency bool `yaml:"emergency,omitempty" json:"emergency,omitempty"`
	Approvals int  `yaml:"approvals,omitempty" json:"approvals,omitempty"` // people who have to approve before it begins
}

// Wave is a part of the machines.
type Wave struct {
	// Upto is how many machines have been offered it when the wave is full,
	// those of earlier waves included.
	Upto Amount `yaml:"upto" json:"upto"`
	// Soak is how long the rollout waits when all machines of the wave have
	// settled.
	Soak Duration `yaml:"soak,omitempty" json:"soak,omitempty"`
}

// Budget is what may go wrong. A wave does not begin over budget, and a
// rollout that comes over it halts.
type Budget struct {
	// Crashes are machines that went down, fell silent, whose kernel warned or
	// whose health watch failed, as far as this is not usual for such machines.
	Crashes Limit `yaml:"crashes" json:"crashes"`
	// Failures are these, and machines that refused it, could not end the
	// transition, or where a person took it out.
	Failures Limit `yaml:"failures" json:"failures"`
}

// Limit is the greater of a count, and a percentage of the machines that have
// had the live patch.
type Limit struct {
	Count   int     `yaml:"count" json:"count"`
	Percent float64 `yaml:"percent,omitempty" json:"percent,omitempty"`
}

// Of is the limit for so many machines.
func (l Limit) Of(n int) float64 {
	return max(float64(l.Count), math.Floor(l.Percent*float64(n)/100+1e-9))
}

// Amount is a number of machines: "5", or "0.5%" of those in scope.
type Amount struct {
	Count   int
	Percent float64
}

// Of is the amount of n machines, at least one if it is a percentage.
func (a Amount) Of(n int) int {
	if a.Percent > 0 {
		return min(n, max(1, int(math.Ceil(a.Percent*float64(n)/100-1e-9))))
	}
	return a.Count
}

// UnmarshalText reads an amount.
func (a *Amount) UnmarshalText(b []byte) error {
	s := strings.TrimSpace(string(b))
	if p, ok := strings.CutSuffix(s, "%"); ok {
		v, err := strconv.ParseFloat(strings.TrimSpace(p), 64)
		if err != nil || !(v > 0 && v <= 100) {
			return fmt.Errorf("%q: a percentage is above 0 and at most 100", s)
		}
		*a = Amount{Percent: v}
		return nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > maxCount {
		return fmt.Errorf(`%q: an amount is a number of machines such as 5, or a share such as 0.5%%`, s)
	}
	*a = Amount{Count: n}
	return nil
}

// MarshalText writes an amount as it is read; the zero one is "".
func (a Amount) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

func (a Amount) String() string {
	switch {
	case a.Percent > 0:
		return strconv.FormatFloat(a.Percent, 'f', -1, 64) + "%"
	case a.Count > 0:
		return strconv.Itoa(a.Count)
	}
	return ""
}

// IsZero reports whether there is none, for yaml and json.
func (a Amount) IsZero() bool { return a == Amount{} }

// Duration is a time.Duration that people write as 90s, 15m, 4h or 2d.
type Duration time.Duration

// UnmarshalText reads a duration that is not negative.
func (d *Duration) UnmarshalText(b []byte) error {
	s := string(b)
	v, err := time.ParseDuration(s)
	if n, ok := strings.CutSuffix(s, "d"); ok {
		var days uint64
		if days, err = strconv.ParseUint(n, 10, 12); err == nil {
			v = time.Duration(days) * 24 * time.Hour
		}
	}
	if err != nil || v < 0 {
		return fmt.Errorf("%q: durations are such as 90s, 15m, 4h or 2d", s)
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes a duration as it is read.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

func (d Duration) String() string {
	v := time.Duration(d)
	if day := 24 * time.Hour; v >= 2*day && v%day == 0 {
		return strconv.Itoa(int(v/day)) + "d"
	}
	s := v.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

const (
	maxPlan  = 1 << 16 // bytes of its text
	maxWaves = 50
	maxCount = 10_000_000
	// minFlight is what Ramp never goes below: a rollout has to begin somewhere.
	minFlight = 10
	// minEmergency is how many people approve that all machines get it at once.
	minEmergency = 2
	maxTime      = 90 * 24 * time.Hour
)

// Filled is the plan with a value in each field that must have one.
func (p Plan) Filled() Plan {
	hour := Duration(time.Hour)
	if len(p.Waves) == 0 {
		p.Waves = []Wave{
			{Upto: Amount{Count: 5}, Soak: hour},
			{Upto: Amount{Percent: 1}, Soak: 4 * hour},
			{Upto: Amount{Percent: 10}, Soak: 24 * hour},
			{Upto: Amount{Percent: 50}, Soak: 24 * hour},
			{Upto: Amount{Percent: 100}},
		}
	}
	if p.Flight.IsZero() {
		p.Flight = Amount{Percent: 5}
	}
	if p.Ramp == 0 {
		p.Ramp = 10
	}
	for d, v := range map[*Duration]Duration{&p.Settle: hour / 4, &p.Watch: 24 * hour, &p.Patience: 24 * hour} {
		if *d == 0 {
			*d = v
		}
	}
	p.Watch = max(p.Watch, p.Settle)
	if p.Budget == nil {
		p.Budget = &Budget{Crashes: Limit{Percent: 0.05}, Failures: Limit{Count: 2, Percent: 2}}
	}
	return p
}

// ParsePlan reads a plan in YAML, fills it and checks it. A key that it does
// not know is an error: a misspelt limit must not be lost. name is for messages.
func ParsePlan(name string, b []byte) (Plan, error) {
	if len(b) > maxPlan {
		return Plan{}, badPlan(name, "it is longer than %d bytes", maxPlan)
	}
	var p Plan
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&p); err != nil && !errors.Is(err, io.EOF) {
		return Plan{}, badPlan(name, "%s", err)
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return Plan{}, badPlan(name, "there is more than one document in it")
	}
	p = p.Filled()
	if err := p.Check(name); err != nil {
		return Plan{}, err
	}
	return p, nil
}

// Check holds for every plan that is used; it has to be filled.
func (p *Plan) Check(name string) error {
	bad := func(format string, args ...any) error { return badPlan(name, format, args...) }
	if n := len(p.Waves); n == 0 || n > maxWaves {
		return bad("waves: %d; there are 1 to %d", n, maxWaves)
	}
	for i, w := range p.Waves {
		switch {
		case w.Upto.IsZero():
			return bad("waves[%d].upto: how many machines?", i)
		case w.Soak < 0 || time.Duration(w.Soak) > maxTime:
			return bad("waves[%d].soak: %s is not between 0 and %s", i, w.Soak, Duration(maxTime))
		}
		for _, before := range p.Waves[:i] {
			if u := before.Upto; u.Percent > 0 && u.Percent >= w.Upto.Percent && w.Upto.Percent > 0 ||
				u.Count > 0 && u.Count >= w.Upto.Count && w.Upto.Count > 0 {
				return bad("waves[%d].upto: %s after %s: each wave goes further than those before it", i, w.Upto, u)
			}
		}
	}
	if last := p.Waves[len(p.Waves)-1].Upto; last.Percent != 100 {
		return bad("waves: the last one goes up to %s, not to 100%%", last)
	}
	if p.Flight.IsZero() {
		return bad("max_in_flight: none")
	}
	if !(p.Ramp > 0 && p.Ramp <= 1000) {
		return bad("ramp: %v is not a percentage above 0, at most 1000", p.Ramp)
	}
	for _, d := range []struct {
		name string
		d    Duration
	}{{"settle", p.Settle}, {"watch", p.Watch}, {"patience", p.Patience}} {
		if time.Duration(d.d) < time.Minute || time.Duration(d.d) > maxTime {
			return bad("%s: %s is not between 1m and %s", d.name, d.d, Duration(maxTime))
		}
	}
	if p.Watch < p.Settle {
		return bad("watch: %s is shorter than settle", p.Watch)
	}
	if err := p.checkBudget(bad); err != nil {
		return err
	}
	return p.Times.check(bad)
}

func (p *Plan) checkBudget(bad func(string, ...any) error) error {
	if p.Budget == nil {
		return bad("budget: none")
	}
	for _, l := range []struct {
		name string
		Limit
	}{{"crashes", p.Budget.Crashes}, {"failures", p.Budget.Failures}} {
		if l.Count < 0 || l.Count > maxCount || !(l.Percent >= 0 && l.Percent <= 100) {
			return bad("budget.%s: a count, and a percentage up to 100", l.name)
		}
	}
	if p.Approvals < 0 || p.Approvals > 10 {
		return bad("approvals: %d is not 0 to 10", p.Approvals)
	}
	return nil
}

func badPlan(name, format string, args ...any) *code.Problem {
	return code.New("TS8101", name, fmt.Sprintf(format, args...))
}
