// SPDX-License-Identifier: Apache-2.0

// Package wire is what the host and the guest of a virtual machine say to
// each other: a plan, which travels in the initramfs as one JSON file, and
// events, which come back as JSON lines over the second serial port.
//
// Both sides are the same program at the same commit, so there is no
// negotiation; the format number only catches a stale guest binary. Both
// readers are strict and bounded: a plan with an unknown field is an error,
// and a line that is not an event is counted and skipped, because a serial
// port may carry what firmware or a dying kernel wrote to it.
package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tsugi-project/tsugi/internal/strict"
)

// Format is the number of this version of plans and events.
const Format = 1

// Paths inside the guest that both sides rely on.
const (
	PlanPath    = "/tsugi/plan.json"    // the plan
	ModulesPath = "/tsugi/modules.json" // a ModuleIndex
	ModuleDir   = "/lib/modules/tsugi"  // the .ko files that the index names
	// CmdlineMark on the kernel command line is what makes a program that
	// finds itself as process 1 behave as a guest.
	CmdlineMark = "tsugi.guest=1"
)

const (
	maxPlan  = 8 << 20
	maxSteps = 10_000
)

// Plan is the list of steps that a guest executes in order.
type Plan struct {
	Format int    `json:"format"`
	Steps  []Step `json:"steps"`
	// LogLevel limits the kernel log records that are streamed to the host:
	// records of a syslog level above it are dropped. 7 streams everything.
	LogLevel int `json:"log_level"`
	// Output is the block device that dumps are written to, such as
	// "/dev/vdb". Without it dumps travel as events.
	Output string `json:"output,omitempty"`
	// Serve makes the guest take more steps when it is through with these: one
	// line of JSON each, over the port that carries its events, until the verb
	// EndVerb. A step that failed ends the plan's own steps, but not those.
	Serve bool `json:"serve,omitempty"`
}

// EndVerb is the step that ends a guest that takes steps from the host.
const EndVerb = "end"

// ReadyForSteps is the note with which a guest says that steps may be sent:
// what comes before would be taken as typed at a terminal.
const ReadyForSteps = "ready for steps"

// Step is one action. Do names a verb that the guest program knows, Args are
// that verb's own. A step that fails ends the plan unless KeepGoing is set;
// the guest then powers off in order.
type Step struct {
	ID        string          `json:"id"`
	Do        string          `json:"do"`
	Args      json.RawMessage `json:"args,omitempty"`
	Timeout   Duration        `json:"timeout,omitempty"` // 0: the verb's own limit
	KeepGoing bool            `json:"keep_going,omitempty"`
}

// NewStep makes a step of a verb and its arguments. It panics when the
// arguments cannot be JSON, which is a programming error.
func NewStep(id, do string, args any) Step {
	s := Step{ID: id, Do: do}
	if args != nil {
		b, err := json.Marshal(args)
		if err != nil {
			panic(fmt.Sprintf("wire: arguments of step %s: %v", id, err))
		}
		s.Args = b
	}
	return s
}

// Duration is a time.Duration that is written in milliseconds.
type Duration time.Duration

// MarshalJSON writes milliseconds.
func (d Duration) MarshalJSON() ([]byte, error) {
	return json.Marshal(time.Duration(d).Milliseconds())
}

// UnmarshalJSON reads milliseconds between 0 and a day.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var ms int64
	if err := json.Unmarshal(b, &ms); err != nil {
		return err
	}
	if ms < 0 || ms > (24*time.Hour).Milliseconds() {
		return fmt.Errorf("duration of %d ms: outside 0 to one day", ms)
	}
	*d = Duration(time.Duration(ms) * time.Millisecond)
	return nil
}

// maxStep limits a step that the host sends to a running guest: a terminal
// takes that much before somebody reads it.
const maxStep = 2 << 10

// StepLine is a step as it travels to a running guest.
func StepLine(s Step) ([]byte, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("step %s: %w", s.ID, err)
	}
	if len(b) >= maxStep {
		return nil, fmt.Errorf("step %s: %d bytes, more than a running guest takes (%d): put it in a file", s.ID, len(b), maxStep)
	}
	return append(b, '\n'), nil
}

// ParseStep reads a line of StepLine.
func ParseStep(line []byte) (Step, error) {
	var s Step
	if len(line) > maxStep {
		return s, fmt.Errorf("step: %d bytes, more than %d", len(line), maxStep)
	}
	if err := strict.JSON(line, &s); err != nil {
		return Step{}, fmt.Errorf("step: %w", err)
	}
	if s.ID == "" || s.Do == "" {
		return Step{}, errors.New("step: an id and a verb are needed")
	}
	return s, nil
}

// ParsePlan reads a plan and checks that its steps are named, unique and
// have a verb.
func ParsePlan(b []byte) (*Plan, error) {
	if len(b) > maxPlan {
		return nil, fmt.Errorf("plan: %d bytes, more than %d", len(b), maxPlan)
	}
	var p Plan
	if err := strict.JSON(b, &p); err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	if err := p.Check(); err != nil {
		return nil, err
	}
	return &p, nil
}

// Check holds for every plan that ParsePlan returns.
func (p *Plan) Check() error {
	switch {
	case p.Format != Format:
		return fmt.Errorf("plan: format %d, this program knows %d", p.Format, Format)
	case len(p.Steps) > maxSteps:
		return fmt.Errorf("plan: %d steps, more than %d", len(p.Steps), maxSteps)
	case p.LogLevel < 0 || p.LogLevel > 7:
		return fmt.Errorf("plan: log level %d outside 0 to 7", p.LogLevel)
	}
	seen := make(map[string]bool, len(p.Steps))
	for i, s := range p.Steps {
		switch {
		case s.ID == "":
			return fmt.Errorf("plan: step %d: no id", i)
		case s.Do == "":
			return fmt.Errorf("plan: step %s: no verb", s.ID)
		case seen[s.ID]:
			return fmt.Errorf("plan: step %s: twice", s.ID)
		}
		seen[s.ID] = true
	}
	return nil
}

// ModuleIndex tells the guest which stored modules to load for a name.
type ModuleIndex struct {
	Modules []StoredModule `json:"modules"`
}

// StoredModule is one .ko file in the initramfs.
type StoredModule struct {
	Name    string   `json:"name"`              // as the kernel shows it, with underscores
	Path    string   `json:"path"`              // in the guest
	Needs   []string `json:"needs,omitempty"`   // all modules to load before, in order
	Aliases []string `json:"aliases,omitempty"` // modinfo alias patterns
}

// ParseModuleIndex reads an index; every module that one needs must be in it.
func ParseModuleIndex(b []byte) (*ModuleIndex, error) {
	var x ModuleIndex
	if err := strict.JSON(b, &x); err != nil {
		return nil, fmt.Errorf("module index: %w", err)
	}
	known := make(map[string]bool, len(x.Modules))
	for _, m := range x.Modules {
		known[m.Name] = true
	}
	for _, m := range x.Modules {
		for _, n := range m.Needs {
			if !known[n] {
				return nil, fmt.Errorf("module index: %s needs %s, which is not stored", m.Name, n)
			}
		}
	}
	return &x, nil
}
