// SPDX-License-Identifier: Apache-2.0

package kload

import (
	"slices"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/hostinfo"
)

// Trouble is a report of the kernel about something that went wrong: an oops,
// a warning, a stall.
type Trouble struct {
	Kind  TroubleKind   `json:"kind"`
	Text  string        `json:"text"` // the line that it is known by
	Time  time.Duration `json:"time"` // since boot
	Lines []string      `json:"lines,omitempty"`
	// Function is the patched function, or function of a live patch, that the
	// report names; "" for a report that is about something else. At tells
	// whether it happened in that function or in one that it called.
	Function string `json:"function,omitempty"`
	At       bool   `json:"at,omitempty"`
}

// Ours tells whether the report names something that a live patch changes.
func (t Trouble) Ours() bool { return t.Function != "" }

// TroubleKind tells reports apart by what they mean.
type TroubleKind string

// The kinds of trouble, worst first.
const (
	Oops    TroubleKind = "oops"    // the kernel crashed in a task, or altogether
	Bug     TroubleKind = "bug"     // it found itself in a state that must not be
	Stall   TroubleKind = "stall"   // something does not get on: soft lock-up, hung task, RCU stall
	Warning TroubleKind = "warning" // WARN
	Patch   TroubleKind = "patch"   // livepatch itself complains
)

// Health finds trouble in the kernel's log. It is a value that records are
// given to in order; it reads nothing and knows no time but theirs.
type Health struct {
	in    frames
	open  []*report // one for each caller that the log tells apart
	found []Trouble
}

// report is a trouble whose lines still come.
type report struct {
	Trouble
	caller string
	last   time.Duration
}

// Bounds of a report: a longer one is cut, and one that does not end is ended.
const (
	maxReport  = 200
	maxTrouble = 256
	maxOpen    = 16 // writers of reports at once
	reportGap  = 2 * time.Second
)

// NewHealth watches for reports that name functions which these live patches
// replace, or anything in their modules.
func NewHealth(patches []hostinfo.Livepatch) *Health { return &Health{in: functions(patches)} }

// Add takes the next record.
func (h *Health) Add(r Record) {
	if !r.Kernel {
		return
	}
	kind := kindOf(r)
	i := slices.IndexFunc(h.open, func(o *report) bool { return o.caller == r.Caller })
	if i >= 0 && (r.Time-h.open[i].last > reportGap || len(h.open[i].Lines) >= maxReport || kind.begins(h.open[i].Kind)) {
		h.end(i)
		i = -1
	}
	switch {
	case i < 0 && kind == "":
		return
	case i < 0:
		if len(h.open) >= maxOpen {
			h.end(0)
		}
		h.open = append(h.open, &report{Trouble: Trouble{Kind: kind, Text: r.Text, Time: r.Time}, caller: r.Caller})
		i = len(h.open) - 1
	case kind != "" && kind.rank() < h.open[i].Kind.rank():
		h.open[i].Kind, h.open[i].Text = kind, r.Text
	}
	o := h.open[i]
	o.last = r.Time
	o.Lines = append(o.Lines, r.Text)
	h.look(&o.Trouble, r.Text)
	if strings.Contains(r.Text, "---[ end trace") || strings.Contains(r.Text, "---[ end Kernel panic") || kind == Patch {
		h.end(i)
	}
}

// Take ends what is still open when now, a time since boot, is long after it,
// and returns what was found since the last call. With a negative time
// everything is ended.
func (h *Health) Take(now time.Duration) []Trouble {
	for i := len(h.open) - 1; i >= 0; i-- {
		if now < 0 || now-h.open[i].last > reportGap {
			h.end(i)
		}
	}
	out := h.found
	h.found = nil
	return out
}

// Ours returns the worst trouble so far that names something which a live patch
// changes, also of a report whose lines still come, and takes nothing away.
func (h *Health) Ours() (Trouble, bool) {
	all := slices.Clone(h.found)
	for _, o := range h.open {
		all = append(all, o.Trouble)
	}
	all = slices.DeleteFunc(all, func(t Trouble) bool { return !t.Ours() })
	if len(all) == 0 {
		return Trouble{}, false
	}
	return slices.MinFunc(all, func(a, b Trouble) int { return a.Kind.rank() - b.Kind.rank() }), true
}

func (h *Health) end(i int) {
	if len(h.found) < maxTrouble {
		h.found = append(h.found, h.open[i].Trouble)
	}
	h.open = slices.Delete(h.open, i, i+1)
}

// look finds a patched function in a line of a report: one of the stack, which
// is indented, or one that says where it happened. Other lines mean nothing.
// The list of modules names every live patch, and lines with the name of a
// task say what its owner wants them to say.
func (h *Health) look(t *Trouble, line string) {
	if t.Kind == Patch { // which names live patches, and functions without an offset
		t.Function = h.in.named(line)
		return
	}
	at := hasPrefix(line, "RIP: ", "WARNING: ", "BUG: KASAN: ", "BUG: KFENCE: ")
	if t.At || !at && !strings.HasPrefix(line, " ") {
		return
	}
	fn, module, ok := ParseFrame(line)
	if !ok || !h.in.modules[module] && !h.in.replaced[module+" "+fn] {
		return
	}
	if t.Function == "" || at {
		t.Function, t.At = fn, at
	}
}

func hasPrefix(s string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}

// named finds the name of a live patch in what livepatch says.
func (f frames) named(line string) string {
	for m := range f.modules {
		if strings.Contains(line, "'"+m+"'") {
			return m
		}
	}
	return ""
}

// kindOf tells whether a line can begin a report. The words are those of
// kernel/panic.c, lib/bug.c, mm, arch/x86/mm/fault.c, arch/x86/kernel/dumpstack.c
// and traps.c, kernel/watchdog.c, kernel/hung_task.c and kernel/rcu.
func kindOf(r Record) TroubleKind {
	s := r.Text
	switch {
	case hasPrefix(s, "Kernel panic - not syncing", "Oops: ", "Oops[", "general protection fault", "stack segment: ", "invalid opcode: ", "double fault: ",
		"int3: ", "divide error: ", "traps: PANIC", "kernel BUG at ", "BUG: unable to handle", "BUG: kernel NULL pointer dereference",
		"unchecked MSR access error", "kernel tried to execute NX-protected page"):
		return Oops
	case hasPrefix(s, "watchdog: BUG: soft lockup", "watchdog: Watchdog detected hard LOCKUP", "NMI watchdog: Watchdog detected hard LOCKUP", "rcu: INFO: ", "BUG: workqueue lockup") ||
		hasPrefix(s, "INFO: task ") && strings.Contains(s, "blocked for more than"):
		return Stall
	case hasPrefix(s, "BUG: ", "BUG kmem", "UBSAN: ", "list_add corruption", "list_del corruption", "kernel stack overflow", "Fixing recursive fault"):
		return Bug
	case hasPrefix(s, "WARNING: "):
		return Warning
	case hasPrefix(s, "livepatch: ") && r.Level <= 4:
		return Patch
	}
	return ""
}

// rank orders kinds, the worst first.
func (k TroubleKind) rank() int {
	return slices.Index([]TroubleKind{Oops, Bug, Stall, Warning, Patch}, k)
}

// begins tells whether a line of this kind starts a report of its own while
// another one is open. A warning, a stall or a complaint of livepatch never
// goes on with another report; an oops has several lines that could each begin
// one, and it begins where a bug is told.
func (k TroubleKind) begins(open TroubleKind) bool {
	if k == "" {
		return false
	}
	return k == Warning || k == Stall || k == Patch || open == Patch || open == Warning || open == Stall
}
