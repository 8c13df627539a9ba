// SPDX-License-Identifier: Apache-2.0

package kload

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/tsugi-project/tsugi/internal/hostinfo"
	"github.com/tsugi-project/tsugi/internal/order"
)

// MaxTasks bounds the tasks that a Transition lists.
const MaxTasks = 32

// Task is a task that has not switched yet.
type Task struct {
	PID    int      `json:"pid"` // of the process
	TID    int      `json:"tid"` // of the thread
	Comm   string   `json:"comm"`
	State  string   `json:"state"`            // letter of proc(5): R, S, D, T, …
	Kernel bool     `json:"kernel,omitempty"` // a kernel thread
	Stack  []string `json:"stack,omitempty"`  // as /proc/PID/stack shows it, innermost first
	// Function is the first function on the stack that the transition switches;
	// "" when none is seen there.
	Function string `json:"function,omitempty"`
}

// String names a task as a person would.
func (t Task) String() string {
	s := fmt.Sprintf("%s (%d)", t.Comm, t.TID)
	if t.Function != "" {
		s += " is in " + t.Function
	}
	return s + ", " + t.Why()
}

// Why explains what a task in this state waits for, and what ends it.
func (t Task) Why() string {
	switch {
	case t.State == "D":
		return "waiting for a device or a server and not to be woken (state D): it switches when that answers"
	case t.State == "R" && t.Kernel:
		return "a kernel thread that is running: it switches when it sleeps or leaves the function"
	case t.State == "R":
		return "running: it switches when it returns from the kernel"
	case t.State == "T" || t.State == "t":
		return "stopped: it switches when it is continued"
	case t.State == "Z" || t.State == "X":
		return "ending"
	case t.Kernel && t.Function != "":
		return "a kernel thread that sleeps there: it switches when work wakes it"
	case t.Kernel:
		return "a kernel thread that sleeps"
	case t.Function != "":
		return "sleeping there: the kernel wakes it by a fake signal each 15 seconds, and it switches if the wait can be interrupted"
	}
	return "sleeping"
}

// frames are the functions that a transition switches, by the object that
// stack traces name.
type frames struct {
	replaced map[string]bool // "object function", where vmlinux is ""
	modules  map[string]bool // of live patches
}

// functions: a task that has not switched towards patched is in a function
// that is replaced, or in the replacement by an older live patch; one that has
// not switched back is in a function of the live patch itself.
func functions(patches []hostinfo.Livepatch) frames {
	f := frames{replaced: map[string]bool{}, modules: map[string]bool{}}
	for _, p := range patches {
		f.modules[p.Name] = true
		for _, o := range p.Objects {
			obj := o.Name
			if obj == "vmlinux" {
				obj = ""
			}
			for _, fn := range o.Functions {
				f.replaced[obj+" "+fn.Name] = true
			}
		}
	}
	return f
}

// find returns the innermost function of the stack that is one of them.
func (f frames) find(stack []string) string {
	for _, l := range stack {
		fn, module, ok := ParseFrame(l)
		if ok && (f.modules[module] || f.replaced[module+" "+fn]) {
			return fn
		}
	}
	return ""
}

// ParseFrame reads a line of a stack, "[<0>] FUNCTION+0xOFF/0xSIZE [MODULE]",
// in the forms of /proc/PID/stack and of oops reports. Frames that an oops
// marks with "?" are guesses and not ok.
func ParseFrame(line string) (function, module string, ok bool) {
	f := strings.Fields(line)
	for i, w := range f {
		name, off, found := strings.Cut(strings.TrimRight(w, ",:"), "+0x")
		if segment, rest, ok := strings.Cut(name, ":"); ok && isHexNumber(segment) {
			name = rest // "RIP: 0010:f+0x1/0x2"
		}
		size, isSize := strings.CutPrefix(after(off, '/'), "0x")
		if !found || name == "" || !isSize || !isHexNumber(size) || !isHexNumber(before(off, '/')) {
			continue
		}
		if i > 0 && f[i-1] == "?" {
			return "", "", false
		}
		if i+1 < len(f) && strings.HasPrefix(f[i+1], "[") {
			// A build-id may follow the name: "[ext4 0123…]".
			module = strings.Trim(f[i+1], "[],")
		}
		return name, module, true
	}
	return "", "", false
}

func before(s string, c byte) string { a, _, _ := strings.Cut(s, string(c)); return a }
func after(s string, c byte) string  { _, b, _ := strings.Cut(s, string(c)); return b }

func isHexNumber(s string) bool {
	_, err := strconv.ParseUint(s, 16, 64)
	return err == nil
}

// holders lists the tasks that have not switched, those whose stack tells why
// first, and counts all.
func (l *Loader) holders(name string, want Direction) ([]Task, int) {
	patches, _, _ := hostinfo.Livepatches(l.root)
	if want == Unpatched {
		patches = slices.DeleteFunc(patches, func(p hostinfo.Livepatch) bool { return p.Name != ModuleName(name) })
		for i := range patches {
			patches[i].Objects = nil // the originals are where it leads to
		}
	}
	in := functions(patches)
	files, _ := filepath.Glob(filepath.Join(l.root, "proc/[0-9]*/task/[0-9]*/patch_state"))
	var out []Task
	waiting := 0
	for _, f := range files {
		// -1: the task takes no part, because no transition is under way.
		if s := value(f); s == "" || s == "-1" || s == want.state() {
			continue
		}
		t := task(filepath.Dir(f))
		t.Function = in.find(t.Stack)
		// The state is read again: a task that switched meanwhile is no holder.
		if s := value(f); s == "" || s == "-1" || s == want.state() {
			continue
		}
		waiting++
		if len(out) < MaxTasks || t.Function != "" {
			out = append(out, t)
		}
	}
	order.SortStable(out, func(a, b Task) int {
		return cmp.Or(cmp.Compare(b2i(a.Function == ""), b2i(b.Function == "")), cmp.Compare(a.TID, b.TID))
	})
	return out[:min(len(out), MaxTasks)], waiting
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// task reads what /proc shows of a thread.
func task(dir string) Task {
	t := Task{Comm: value(filepath.Join(dir, "comm"))}
	t.TID, _ = strconv.Atoi(filepath.Base(dir))
	t.PID, _ = strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(dir))))
	t.State, t.Kernel = ParseStat(value(filepath.Join(dir, "stat")))
	for l := range strings.Lines(value(filepath.Join(dir, "stack"))) {
		if len(t.Stack) < 64 {
			t.Stack = append(t.Stack, strings.TrimSpace(l))
		}
	}
	return t
}

// ParseStat takes a task's state and whether it is a kernel thread off
// /proc/PID/stat. The second field is a name in parentheses that may hold
// anything, parentheses too.
func ParseStat(stat string) (state string, kernel bool) {
	i := strings.LastIndexByte(stat, ')')
	if i < 0 {
		return "", false
	}
	f := strings.Fields(stat[i+1:])
	if len(f) < 7 {
		return "", false
	}
	const kthread = 0x00200000 // PF_KTHREAD
	flags, err := strconv.ParseUint(f[6], 10, 64)
	return f[0], err == nil && flags&kthread != 0
}
