// SPDX-License-Identifier: Apache-2.0

package objdiff

import (
	"cmp"
	"debug/elf"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tsugi-project/tsugi/internal/insn"
)

// A live patch may be unloaded once no task runs in it. Pointers are another
// matter: a work item, an RCU callback, a device's release function, the name
// of an interrupt may lead into it for as long as the machine runs, and the
// kernel does not know that. So the module of a live patch that gives away an
// address of its own is made to stay in memory until the next boot; disabled
// or replaced, it does nothing there.
//
// An address is given away when code takes it (and does not only read or write
// what is there) and does not hand it to one of the functions below at once.

// borrows reports whether a function of the kernel has done with what it is
// given in a register (-1: on the stack) when it returns, and does not return
// it. Those that set locks up keep a name and a key only with lockdep, which
// forgets them when a module goes.
func borrows(name string, reg int) bool {
	switch name {
	case "memcpy", "__memcpy", "memmove", "__memmove", "strcpy", "strncpy", "strcat", "strncat", "strstr", "strnstr":
		return reg != rdi // a place in the first one is returned
	case "bsearch":
		return reg != rsi // an element of the array is returned
	case "kmem_cache_create", "kmem_cache_create_usercopy", "__kmem_cache_create_args":
		return reg == rdi // kstrdup_const; the constructor is kept
	case "sort", "sort_r", "list_sort", "stop_machine", "___ratelimit",
		"strcmp", "strncmp", "strcasecmp", "strncasecmp", "strlen", "strlcpy", "strscpy", "sized_strscpy", "strlcat",
		"memcmp", "kstrdup", "kmemdup", "kmemdup_noprof", "match_string", "__sysfs_match_string", "sysfs_streq",
		"acpi_match_device_ids", "acpi_match_platform_list", "psmouse_matches_pnp_id", "x86_cpu_has_min_microcode_rev",
		"sysfs_emit", "sysfs_emit_at", "sscanf", "__request_module", "print_hex_dump", "audit_log_format",
		"seq_puts", "__seq_puts", "seq_write", "__mutex_init", "__init_rwsem", "__init_waitqueue_head",
		"mutex_lock", "mutex_unlock", "mutex_lock_interruptible", "mutex_lock_killable", "mutex_trylock",
		"down_read", "up_read", "down_write", "up_write", "down", "up",
		"_raw_spin_lock", "_raw_spin_unlock", "_raw_spin_lock_bh", "_raw_spin_unlock_bh", "_raw_spin_lock_irq",
		"_raw_spin_unlock_irq", "_raw_spin_lock_irqsave", "_raw_spin_unlock_irqrestore",
		"add_taint", "panic", "fortify_panic", "_erofs_err", "_erofs_info", "__ext4_msg", "__ext4_warning",
		"__ext4_warning_inode", "ip_vs_scheduler_err", "_printk_deferred", "dev_err_probe",
		"_dev_emerg", "_dev_alert", "_dev_crit", "_dev_err", "_dev_warn", "_dev_notice", "_dev_info",
		"netdev_emerg", "netdev_alert", "netdev_crit", "netdev_err", "netdev_warn", "netdev_notice", "netdev_info",
		"xfs_emerg", "xfs_alert", "xfs_crit", "xfs_err", "xfs_warn", "xfs_notice", "xfs_info",
		"__drm_err", "drm_dev_dbg", "__drm_dev_dbg", "___drm_dbg", "__drm_dbg", "warn_slowpath_fmt":
		return true
	}
	return strings.HasPrefix(name, "__dynamic_") ||
		(strings.HasSuffix(name, "printk") || strings.HasSuffix(name, "printf")) && !strings.Contains(name, "trace_")
}

// lends lists the addresses of its own that the live patch gives away.
func (r *Result) lends() []string {
	var out []string
	say := func(what string, where *atom) {
		if s := fmt.Sprintf("%s in %s", what, where.family().name()); !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	for _, a := range r.patched.atoms {
		switch {
		case !a.included:
		case a.class.code():
			r.lentByCode(a, say)
		case a.kind != function && a.sec.Name != "__dyndbg": // the kernel forgets those when the module goes
			for i := range a.refs {
				if a.refs[i].to.atom == a {
					continue // a list head
				}
				if what := r.ownAddress(a, &a.refs[i]); what != "" {
					say(what, a)
				}
			}
		}
	}
	for _, e := range r.edits {
		for i := range e.words {
			if w := &e.words[i]; w.brings() {
				say(w.newRef.to.atom.name(), e.atom)
			}
		}
	}
	return out
}

// lentByCode looks at the addresses that code takes.
func (r *Result) lentByCode(a *atom, say func(string, *atom)) {
	var list []step
	if a.kind == function && !a.undecoded && r.patched.arch.Decode != nil {
		list = steps(a, r.patched.arch.Decode)
	}
	if list == nil { // replaced instructions and the like, or another architecture
		for i := range a.refs {
			if what := r.ownAddress(a, &a.refs[i]); what != "" {
				say(what, a)
			}
		}
		return
	}
	for i := range list {
		for k := range list[i].ref {
			f := &list[i].ref[k]
			what := r.ownAddress(a, f)
			if what == "" || !list[i].takes(a, f) {
				continue
			}
			if callee, lent := lentTo(list, i, a); lent {
				say(what+strings.TrimSuffix(" to "+callee, " to "), a)
			}
		}
	}
}

// ownAddress names what a reference leads to if that is the live patch's own
// and the reference is no call.
func (r *Result) ownAddress(from *atom, f *ref) string {
	t := f.to
	switch {
	case f.branch || f.implicit || t.extern != nil:
		return ""
	case t.atom == nil && t.litSec != nil:
		return strconv.Quote(string(t.literal[:min(len(t.literal), 32)]))
	case t.atom == nil || !t.atom.included:
		return ""
	case t.atom.class.code():
		if t.off != 0 || t.atom.state != fresh || t.atom.parent != nil {
			return "" // a place in a function is for its own jumps; a changed one is named by its original
		}
		return t.atom.name()
	case (&emitter{r: r}).original(from, f):
		return ""
	case t.atom.sym == nil:
		return "a constant"
	}
	return t.atom.name()
}

// takes reports whether an instruction takes an address: others read or write
// what is there, or compare with it.
func (s *step) takes(a *atom, f *ref) bool {
	off := int(int64(f.off-(a.entry-a.start)) - s.at)
	equality := s.Map == insn.Map1Byte && (s.Opcode == 0x3d || s.Opcode == 0x81 && s.Reg() == 7)
	switch field, _ := s.FieldAt(off); field {
	case insn.DispField:
		return s.Map == insn.Map1Byte && s.Opcode == 0x8d // lea
	case insn.ImmField:
		return !equality
	}
	return true
}

// maxLook bounds how many instructions are looked at behind one that takes an
// address.
const maxLook = 256

// lentTo reports whether an address goes anywhere else than as an argument to
// borrowers, whichever way the function goes on, and to whom.
func lentTo(list []step, i int, a *atom) (callee string, lent bool) {
	reg, ok := list[i].argument()
	if !ok {
		return "", true
	}
	seen, todo := map[int]bool{}, []int{i + 1}
	for len(todo) > 0 {
		k := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[k] {
			continue
		}
		if seen[k] = true; k >= len(list) || len(seen) > maxLook {
			return "", true
		}
		n := &list[k]
		switch n.Kind {
		case insn.Call:
			known := false
			if callee, known = n.callee(); !known || !borrows(callee, reg) {
				return callee, true
			}
		case insn.Jump, insn.CondJump:
			to, inside := n.branches(list, a)
			switch {
			case inside:
				todo = append(todo, to)
			case n.Kind == insn.CondJump:
				return "", true
			default:
				if to, known := n.callee(); !known || !borrows(to, reg) {
					return "", true
				}
			}
			if n.Kind == insn.CondJump {
				todo = append(todo, k+1)
			}
		case insn.Ret, insn.IndirectJump, insn.IndirectCall:
			return "", true
		default:
			if n.Prefix&(insn.Rep|insn.RepNE) != 0 && n.Map == insn.Map1Byte && n.Opcode == 0xa6 && (reg == rsi || reg == rdi) {
				continue // cmpsb compares in place, and moves the register on
			}
			// Behind the trap of a WARN the code goes on.
			if reg >= 0 && n.Kind != insn.Trap && n.mentions(reg) {
				return "", true
			}
			todo = append(todo, k+1)
		}
	}
	return "", false
}

// callee names the function that a call or jump leads to, and tells whether
// that is the kernel's of this name: an object may have one of its own.
func (s *step) callee() (name string, known bool) {
	if len(s.ref) != 1 || s.ref[0].to.off != 0 {
		return "", false
	}
	switch t := s.ref[0].to; {
	case t.extern != nil:
		return canonical(t.extern.Name), true
	case t.atom != nil:
		return t.atom.name(), t.atom.sym != nil && t.atom.sym.Bind != elf.STB_LOCAL
	}
	return "", false
}

// branches is the step that a branch within a function leads to.
func (s *step) branches(list []step, a *atom) (int, bool) {
	if s.RelSize == 0 {
		return 0, false
	}
	to := s.Target(int(s.at))
	switch {
	case len(s.ref) == 1 && s.ref[0].to.atom == a:
		to = s.ref[0].to.off
	case len(s.ref) > 0:
		return 0, false
	}
	k, _ := slices.BinarySearchFunc(list, to, func(x step, at int64) int { return cmp.Compare(x.at, at) })
	return k, to > 0 && k < len(list)
}

const (
	rexR = 4
	rexX = 2
	rexB = 1

	rsi = 6
	rdi = 7
)

func register(low, rex, bit byte) int {
	if rex&bit != 0 {
		low |= 8
	}
	return int(low)
}

// argument says in which register an instruction puts an argument, -1 for the
// stack.
func (s *step) argument() (int, bool) {
	if s.Enc != insn.Legacy || s.Map != insn.Map1Byte {
		return 0, false
	}
	reg := 0
	switch {
	case s.Opcode == 0x68:
		return -1, true
	case s.Opcode >= 0xb8 && s.Opcode <= 0xbf:
		reg = register(s.Opcode&7, s.REX, rexB)
	case s.Opcode == 0xc7 && s.Mod() == 3:
		reg = register(s.RM(), s.REX, rexB)
	case s.Opcode == 0x8d:
		reg = register(s.Reg(), s.REX, rexR)
	}
	return reg, slices.Contains([]int{rdi, rsi, 2, 1, 8, 9}, reg) // and rdx, rcx, r8, r9: gone after the call
}

// mentions reports whether an instruction may have to do with a register.
func (s *step) mentions(reg int) bool {
	op := s.Opcode
	switch {
	case s.Enc != insn.Legacy:
		return true
	case s.HasModRM:
		group := s.Map == insn.Map1Byte && (op >= 0x80 && op <= 0x83 || op&0xfe == 0xc0 || op&0xfe == 0xc6 || op&0xfc == 0xd0 || op&0xf6 == 0xf6)
		if !group && register(s.Reg(), s.REX, rexR) == reg || s.Mod() == 3 && register(s.RM(), s.REX, rexB) == reg {
			return true
		}
		if s.Mod() == 3 || s.RIPRel {
			return false
		}
		if s.HasSIB {
			return register(s.SIB&7, s.REX, rexB) == reg || register(s.SIB>>3&7, s.REX, rexX) == reg
		}
		return register(s.RM(), s.REX, rexB) == reg
	case s.Map != insn.Map1Byte:
		return true // cpuid and its like
	case op >= 0x50 && op <= 0x5f, op >= 0x90 && op <= 0x97, op >= 0xb0 && op <= 0xbf:
		return register(op&7, s.REX, rexB) == reg
	case op >= 0xa4 && op <= 0xa7, op >= 0xaa && op <= 0xaf: // strings
		return reg == 1 || reg == rsi || reg == rdi
	}
	return false
}
