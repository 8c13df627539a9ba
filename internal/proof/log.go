// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"regexp"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/vm"
)

// complaints are the first lines of the reports with which a kernel says that
// something is wrong with it, whatever their level. What only a slow or busy
// host makes it say (hrtimer, clocksource, workqueue) is not among them.
var complaints = regexp.MustCompile(strings.Join([]string{
	`^WARNING: `, `^BUG: `, `^kernel BUG at `, `^Oops: `, `^general protection fault`,
	`^invalid opcode: `, `^stack segment: `, `^double fault`, `^Unable to handle kernel`,
	`^INFO: task .* blocked for more than`, `^INFO: possible `, `^INFO: trying to register`,
	`^INFO: rcu.* detected`, `rcu: INFO: .* (stall|detected)`,
	`^Kernel panic`, `^list_(add|del) corruption`, `^refcount_t: `, `^unchecked MSR access`,
	`^Unpatched return thunk`, `^kobject: .* (tried|is not initialized)`, `^sysfs: cannot create duplicate`,
	`^Bad page `, `^page:.* dumped because`, `^KASAN: `, `^UBSAN: `, `^KCSAN: `, `^KFENCE: `,
	`^watchdog: BUG`, `soft lockup`, `hard LOCKUP`,
	`^DEBUG_LOCKS_WARN_ON`, `^possible deadlock`, `^livepatch: (failed|sysfs|symbol|object|invalid|unsupported)`,
	`^module: .*(existing value is nonzero|Skipping invalid relocation|overflow in relocation)`,
	`(existing value is nonzero|Skipping invalid relocation target|Unknown rela relocation)`,
	`: (disagrees about version of symbol|no symbol version for|Unknown symbol)`,
	`^ftrace (failed|bug)`, `^------------\[ ftrace bug`, `^jump_label: Fatal`, `^static_call`,
	`^Unsupported .*relocation`, `^missing .*ENDBR`, `^traps: Missing ENDBR`,
}, "|"))

// oopsed are the complaints after which a task does not come back.
var oopsed = regexp.MustCompile(`^(?:BUG: (?:unable to handle|kernel NULL pointer|stack guard page)|kernel BUG at |Oops: |general protection fault|invalid opcode: |stack segment: |double fault)`)

// faults are what a kernel says of a process that a signal of the processor has
// ended (arch/x86/kernel/traps.c, mm/fault.c).
var faults = regexp.MustCompile(`^(?:traps: )?[^ ].*\[\d+\]:? (?:segfault at |general protection fault|trap |bad frame in )`)

// maxNotes bounds what is only good to know.
const maxNotes = 200

// expectedLines are what a kernel says when an unsigned live patch is loaded,
// applied, reverted and unloaded, and nothing is wrong. NAME is the patch's.
var expectedLines = []string{
	`NAME: loading out-of-tree module taints kernel\.`,
	`NAME: module verification failed: signature and/or required key missing - tainting kernel`,
	`NAME: tainting kernel with TAINT_LIVEPATCH`,
	`livepatch: enabling patch 'NAME'`,
	`livepatch: 'NAME': initializing (patching|unpatching) transition`,
	`livepatch: 'NAME': starting (patching|unpatching) transition`,
	`livepatch: 'NAME': (patching|unpatching) complete`,
	`livepatch: 'NAME': completing (patching|unpatching) transition`,
	`livepatch: applying patch 'NAME' to loading module '\w+'`,
	`livepatch: reverting patch 'NAME' on unloading module '\w+'`,
	`livepatch: signaling remaining tasks`,
}

func expectedForm(names ...string) *regexp.Regexp {
	quoted := make([]string, 0, len(names))
	for _, n := range names {
		if n != "" {
			quoted = append(quoted, regexp.QuoteMeta(n))
		}
	}
	alt := strings.ReplaceAll(strings.Join(expectedLines, "|"), "NAME", "(?:"+strings.Join(quoted, "|")+")")
	return regexp.MustCompile("^(?:" + alt + ")$")
}

// variable is what differs between two reports of the same thing.
var variable = regexp.MustCompile(`0x[0-9a-f]+|\b[0-9a-f]{8,}\b|\d+`)

func generic(s string) string { return variable.ReplaceAllString(s, "#") }

// judgeLog sorts the patched machine's log. Excused are the lines that a
// kernel without the patch says too: what either machine said before its
// reproducer began or the patch was loaded, and, for lines that are not
// complaints, what the reproducer makes the unpatched kernel say. What comes
// after the step lastStep is not judged: the reproducer is then meant to fail.
func judgeLog(r *Request, before, after *vm.Outcome) Log {
	excused, known := map[string]bool{}, map[string]bool{}
	if before != nil {
		for _, r := range before.Log {
			known[generic(r.Text)] = true
			if r.Step != stepReproduce {
				excused[generic(r.Text)] = true
			}
		}
	}
	var l Log
	if after == nil {
		return l
	}
	want, ofPackage := expectedForm(r.Patch.Name, r.Previous.Name), r.Package != nil
	for _, r := range after.Log {
		if r.Step == "" || r.Step == stepDisks || r.Step == stepModules || r.Step == stepChanged {
			known[generic(r.Text)], excused[generic(r.Text)] = true, true
			continue
		}
		if r.Step == stepShown {
			break
		}
		switch {
		case want.MatchString(r.Text):
			if !slices.Contains(l.Expected, r.Text) {
				l.Expected = append(l.Expected, r.Text)
			}
		case complaints.MatchString(r.Text), ofPackage && faults.MatchString(r.Text):
			if !excused[generic(r.Text)] {
				l.New = append(l.New, r.Text)
			}
		case r.Level <= 4 && len(l.Notes) < maxNotes && !known[generic(r.Text)]:
			l.Notes = append(l.Notes, r.Text)
		}
	}
	// A crash ends the stream of records; the console still has it.
	if c := after.Crash; c != nil && !after.Began(stepShown) && !slices.Contains(l.New, c.Title) {
		l.New = append(l.New, crashDetail(c))
	}
	return l
}

// complained returns the first complaint that a step made, or "".
func complained(o *vm.Outcome, step string) string {
	for _, r := range o.Log {
		if r.Step == step && complaints.MatchString(r.Text) {
			return r.Text
		}
	}
	return ""
}
