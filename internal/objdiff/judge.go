// SPDX-License-Identifier: Apache-2.0

package objdiff

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/insn"
)

// judge finds what of the change can't be had by replacing functions, and
// what a person should know of the rest.
func (r *Result) judge() {
	required := r.traceRequired()
	for _, a := range r.patched.atoms {
		switch {
		case a.kind == function && a.state == changed && a.parent == nil:
			r.judgeFunction(a, required)
		case a.kind == variable && !a.private:
			r.judgeVariable(a)
		}
		if a.included && a.class.code() {
			r.judgeCode(a)
		}
		if a.included && (a.class == ignored || a.class == bootText || a.class == bootData || a.class == exportData) {
			r.refuse("TS4014", a.name(), "it lies in "+a.sec.Name)
		}
	}
	r.judgeEdits()
	r.judgeRemoved()
}

func (r *Result) judgeFunction(a *atom, traced bool) {
	switch {
	case a.class == bootText:
		why := "it lies in " + a.sec.Name
		if !hasAnyPrefix(a.sec.Name, bootTextPrefixes) {
			why = "it is a constructor or a resolver, which the loader calls once"
		}
		r.refuse("TS4002", a.name(), why)
		return
	case a.class == exitText && r.opt.BuiltIn:
		r.Notes = append(r.Notes, a.name()+": changed, but exit code of built-in objects is not part of the kernel")
		return
	case traced && !r.orig.traceable(a.twin):
		why := "it lies in " + a.sec.Name + " and has no call to the tracer at its entry"
		if table := r.unparted[a]; table != "" {
			why += "; " + table
		}
		r.refuse("TS4001", a.name(), why)
		return
	}
	if why, ok := specialText(a.sec.Name); ok {
		r.risk("TS8002", a.name(), why)
	}
	if why := alwaysRunning(a, r.patched); why != "" {
		r.risk("TS8001", a.name(), why)
	}
	if why := lockDifference(a.twin, a); why != "" {
		r.risk("TS8009", a.name(), why)
	}
}

func (r *Result) judgeVariable(a *atom) {
	switch {
	case a.state == changed && a.class == bootData:
		r.refuse("TS4012", a.name(), a.why+", in "+a.sec.Name)
	case a.state == changed && a.class == data && deviceTable(a) && r.leftOut(a) && r.onlyAdds(a):
		r.risk("TS8013", tableName(a), fmt.Sprintf("%d bytes stay %d", a.size(), a.twin.size()))
	case a.state == changed && a.class == data && a.twin.size() != a.size():
		r.refuse("TS4011", tableName(a), a.why+", in "+a.sec.Name+r.whyNotCopied(a))
	case a.state == changed && a.class == data && r.edited(a):
	case a.state == changed && a.class == data:
		r.refuse("TS4010", a.name(), a.why+", in "+a.sec.Name+"; "+r.unedited[a])
	case a.state == fresh && a.class == bootData:
		switch effect := bootEffect(a.sec.Name); {
		case a.sec.Name == "__param" && r.leftOut(a):
			r.risk("TS8014", strings.TrimPrefix(a.name(), "__param_"), "")
		case effect != "":
			r.refuse("TS4013", a.name(), effect)
		}
	case a.state == fresh && a.class == exportData:
		r.risk("TS8007", strings.TrimPrefix(a.name(), "__ksymtab_"), "")
	}
}

// tableName is the name of a device table that its author gave it.
func tableName(a *atom) string {
	for _, s := range append([]*elfobj.Symbol{a.sym}, a.aliases...) {
		if !strings.HasPrefix(s.Name, "__mod_") {
			return s.Name
		}
	}
	return a.name()
}

// bootEffect says what a new entry of a boot-time section would have done.
func bootEffect(section string) string {
	switch {
	case strings.Contains(section, "initcall"):
		return "a new initcall runs at boot or module load only"
	case section == ".BTF_ids":
		return "a new BTF id is resolved when the kernel is linked"
	case section == "__param":
		return "a new module parameter is registered at boot or module load only"
	case strings.HasPrefix(section, ".init.setup"), strings.HasPrefix(section, "__setup"):
		return "a new command line option is read at boot only"
	case strings.HasPrefix(section, "__tracepoints"), strings.HasPrefix(section, "_ftrace_events"):
		return "a new tracepoint or trace event is registered at boot or module load only"
	case strings.HasPrefix(section, ".pci_fixup"):
		return "a new PCI fixup runs when a device is found only"
	}
	return ""
}

// judgeCode looks at code that the patch carries, changed or new.
func (r *Result) judgeCode(a *atom) {
	if a.undecoded {
		r.refuse("TS4004", a.family().name(), "in "+a.sec.Name)
	}
	for i := range a.refs {
		f := &a.refs[i]
		t := f.to.atom
		if f.implicit && !veneerReaches(a, f) && t != nil {
			r.refuse("TS4005", a.where(f.off), "to "+t.name())
		}
		if t == nil || t.kind != function || f.branch || f.to.off != 0 {
			continue
		}
		if t.state == fresh && t.parent == nil {
			r.risk("TS8004", t.name(), "in "+a.family().name())
		}
	}
}

// judgeRemoved reports variables of functions that the patch no longer knows.
func (r *Result) judgeRemoved() {
	for _, o := range r.orig.atoms {
		if o.kind != variable || o.twin != nil || o.private || o.class != data || !numbered(o.name()) || readOnly(o.sec) {
			continue
		}
		for _, p := range r.patched.atoms {
			if p.included && p.kind == variable && p.state == fresh && canonical(p.name()) == canonical(o.name()) {
				r.risk("TS8005", canonical(o.name()), fmt.Sprintf("%s gives way to %s", o.name(), p.name()))
			}
		}
	}
}

// specialText says what a code section of the kernel's own means for a copy
// of its code elsewhere.
func specialText(section string) (string, bool) {
	switch {
	case strings.HasPrefix(section, ".sched.text"):
		return "it lies in .sched.text: the kernel hides such frames when it tells where a task sleeps (wchan), and will not hide the copy", true
	case strings.HasPrefix(section, ".kprobes.text"):
		return "it lies in .kprobes.text: kprobes are forbidden in it, and are not in the copy", true
	case strings.HasPrefix(section, ".cpuidle.text"):
		return "it lies in .cpuidle.text: NMI backtraces skip idle CPUs by its address, and will not in the copy", true
	case strings.HasPrefix(section, ".irqentry.text"), strings.HasPrefix(section, ".softirqentry.text"):
		return "it lies in " + section + ": stack traces are cut there by address, and are not in the copy", true
	case strings.HasPrefix(section, ".noinstr.text"), strings.HasPrefix(section, ".entry.text"):
		return "it lies in " + section + ": it may run where tracing is not allowed", true
	}
	return "", false
}

// sleepers are functions on the stack of some task at nearly every moment: a
// transition that has to wait for them may never end.
var sleepers = map[string]string{
	"schedule": "every sleeping task", "__schedule": "every sleeping task", "schedule_timeout": "most sleeping tasks",
	"schedule_hrtimeout_range": "tasks in poll and select", "schedule_hrtimeout_range_clock": "tasks in poll and select",
	"do_idle": "every idle CPU's task", "cpu_startup_entry": "every idle CPU's task", "ret_from_fork": "every kernel thread",
	"kthread": "every kernel thread", "worker_thread": "every workqueue worker", "rescuer_thread": "workqueue rescuers",
	"kthreadd": "the thread daemon", "smpboot_thread_fn": "per-CPU threads", "kthread_worker_fn": "kthread workers",
	"do_poll": "tasks in poll", "do_sys_poll": "tasks in poll", "do_select": "tasks in select", "core_sys_select": "tasks in select",
	"ep_poll": "tasks in epoll_wait", "do_epoll_wait": "tasks in epoll_wait", "futex_wait": "tasks that wait for a lock",
	"futex_wait_queue": "tasks that wait for a lock", "do_futex": "tasks that wait for a lock", "do_nanosleep": "sleeping tasks",
	"hrtimer_nanosleep": "sleeping tasks", "do_wait": "tasks that wait for children", "kernel_wait4": "tasks that wait for children",
	"rcu_gp_kthread": "the RCU thread", "kswapd": "the reclaim thread", "khugepaged": "the huge page thread",
	"do_syscall_64": "every task in a system call", "pipe_read": "tasks that read pipes", "n_tty_read": "terminals' readers",
	"wait_woken": "tasks that wait for sockets", "inet_csk_accept": "tasks in accept", "do_sigtimedwait": "tasks that wait for signals",
	"unix_stream_read_generic": "tasks that read local sockets", "__skb_wait_for_more_packets": "tasks that wait for packets",
}

// alwaysRunning says why a function may hold up a transition.
func alwaysRunning(a *atom, o *object) string {
	if who := sleepers[canonical(a.name())]; who != "" && !o.opt.Userland {
		return "it is on the stack of " + who
	}
	if o.arch.Decode == nil || a.undecoded {
		return ""
	}
	if loops(a, o) {
		return "it never returns"
	}
	return ""
}

// loops reports whether no instruction of a function or its cold part leaves
// it for good and yet it branches back: the body of a kernel thread.
func loops(a *atom, o *object) bool {
	back := false
	for _, part := range append([]*atom{a}, a.children...) {
		for _, s := range steps(part, o.arch.Decode) {
			switch s.Kind {
			case insn.Ret, insn.IndirectJump:
				return false
			case insn.Jump:
				if len(s.ref) > 0 {
					if t := s.ref[0].to.atom; t == nil || t.family() != a {
						return false // a tail call, or the return thunk
					}
				}
				back = back || s.Rel < 0
			case insn.CondJump:
				back = back || s.Rel < 0
			}
		}
	}
	return back
}

// lockDifference compares which locking functions two versions call how often.
func lockDifference(o, p *atom) string {
	was, is := lockCalls(o), lockCalls(p)
	var out []string
	names := slices.Sorted(maps.Keys(was))
	for n := range is {
		if _, ok := was[n]; !ok {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	for _, n := range names {
		if was[n] != is[n] {
			out = append(out, fmt.Sprintf("%s %d times instead of %d", n, is[n], was[n]))
		}
	}
	if len(out) == 0 {
		return ""
	}
	return "it calls " + strings.Join(out, ", ")
}

func lockCalls(a *atom) map[string]int {
	out := map[string]int{}
	for _, part := range append([]*atom{a}, a.children...) {
		for i := range part.refs {
			r := &part.refs[i]
			if !r.branch || r.to.extern == nil {
				continue
			}
			n := r.to.extern.Name
			if strings.Contains(n, "lock") && !strings.Contains(n, "block") && !strings.Contains(n, "clock") ||
				strings.HasPrefix(n, "down_") || strings.HasPrefix(n, "up_") {
				out[n]++
			}
		}
	}
	return out
}
