// SPDX-License-Identifier: Apache-2.0

package process

import (
	"bytes"
	"errors"
	"slices"
	"sync"

	"github.com/tsugi-project/tsugi/internal/insn"
	"github.com/tsugi-project/tsugi/internal/order"
	"github.com/tsugi-project/tsugi/internal/process/proc"
	"github.com/tsugi-project/tsugi/internal/process/stack"
)

// Code that makes a stack go on elsewhere is known by its bytes: stripped
// programs have it as well, and static ones. No unwind table is needed then to
// judge most threads.
var (
	// What signal handlers return to: rt_sigreturn(2), as C libraries call it.
	trampolines = [...][]byte{
		{0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05}, // mov $15,%rax; syscall
		{0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05},             // mov $15,%eax; syscall
	}
	// swapcontext(3) and setcontext(3) of glibc, where they load the stack pointer
	// from a ucontext_t. The address that they go on at is pushed later.
	switches = [...][]byte{
		{0x48, 0x8b, 0xa2, 0xa0, 0, 0, 0, 0x48, 0x8b, 0x9a, 0x80, 0, 0, 0}, // mov 160(%rdx),%rsp; mov 128(%rdx),%rbx
		{0x48, 0x8b, 0xa7, 0xa0, 0, 0, 0, 0x48, 0x8b, 0x9f, 0x80, 0, 0, 0}, // the same by %rdi: before glibc 2.29
	}
)

const (
	maxScanned  = 256 << 20 // bytes of code of one process that are searched
	placeCost   = 64 << 10  // what each place counts for: no library has many
	maxRemember = 65536     // files
	switchLoad  = 7         // bytes of the instruction that loads the stack pointer
	maxSwitch   = 1 << 10   // bytes that a change of stacks may take
)

// special is where such code lies in an ELF file: virtual addresses.
type special struct {
	returns  []uint64
	switches []stack.Range
}

// specialCache remembers it, so that it is not searched for in every process. A
// process may lie about what it maps: what is remembered is compared with its
// memory, and searched for when it is not there. That a file has none of it
// can't be compared: so what one user's processes show is for that user's alone.
type specialCache struct {
	mu    sync.Mutex
	known map[fileOf]special
}

// fileOf is a file as processes of one user map it.
type fileOf struct {
	owner      uint32
	dev, inode uint64
	buildID    string
}

func (w *work) fileOf(o *proc.Object) fileOf {
	return fileOf{w.p.Owner(), o.Dev, o.Inode, o.BuildID}
}

// specialCode finds the addresses that signal handlers return to, and where
// stacks are changed.
func (w *work) specialCode() (returns []uint64, changes []stack.Range, err error) {
	left := uint64(maxScanned)
	for i := range w.s.objects {
		o := &w.s.objects[i]
		found, ok, err := w.remembered(o)
		if err != nil {
			return nil, nil, err
		}
		if !ok {
			var whole bool
			if found, whole, err = w.search(o, &left); err != nil {
				return nil, nil, err
			}
			if whole {
				w.e.special.remember(w.fileOf(o), found)
			}
		}
		for _, vaddr := range found.returns {
			returns = append(returns, vaddr+o.Bias)
		}
		for _, s := range found.switches {
			changes = append(changes, stack.Range{Start: s.Start + o.Bias, End: s.End + o.Bias})
		}
	}
	return returns, changes, nil
}

func (w *work) remembered(o *proc.Object) (special, bool, error) {
	if o.BuildID == "" {
		return special{}, false, nil
	}
	c := &w.e.special
	c.mu.Lock()
	found, ok := c.known[w.fileOf(o)]
	c.mu.Unlock()
	for _, vaddr := range found.returns {
		if same, err := w.holdsOne(vaddr+o.Bias, trampolines[:]); err != nil || !same {
			return special{}, false, err
		}
	}
	for _, s := range found.switches {
		if same, err := w.holdsOne(s.Start-switchLoad+o.Bias, switches[:]); err != nil || !same {
			return special{}, false, err
		}
	}
	return found, ok, nil
}

// holdsOne tells whether one of several codes lies at an address.
func (w *work) holdsOne(at uint64, codes [][]byte) (bool, error) {
	for _, code := range codes {
		there, err := w.s.holds(at, code)
		if err != nil && !unreadable(err) {
			return false, err
		}
		if there {
			return true, nil
		}
	}
	return false, nil
}

func (c *specialCache) remember(file fileOf, found special) {
	if file.buildID == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || len(c.known) >= maxRemember {
		c.known = map[fileOf]special{}
	}
	if _, ok := c.known[file]; !ok {
		c.known[file] = found
	}
}

// search goes through the code of an object, and tells whether it saw all of it.
// A thread that is in code which was not seen counts as one that changes stacks.
func (w *work) search(o *proc.Object, left *uint64) (found special, whole bool, err error) {
	const piece, overlap = 1 << 20, 16
	whole = true
	unseen := func(from, to uint64) {
		whole = false
		found.switches = append(found.switches, stack.Range{Start: from - o.Bias, End: to - o.Bias})
	}
	for _, m := range w.s.within(span{o.Base, o.End}) {
		code := span{max(m.Start, o.Base), min(m.End, o.End)}
		if !m.Exec || code.start >= code.end {
			continue
		}
		for at := code.start; at < code.end; at += piece {
			size := min(piece+overlap, code.end-at)
			var b []byte
			err := errUnread
			if *left >= size {
				b, err = read(w.s.mem, at, size)
			}
			if errors.Is(err, errUnread) || unreadable(err) {
				unseen(at, code.end)
				break
			}
			if err != nil {
				return special{}, false, err
			}
			*left -= size
			full := false
			room := func() bool {
				full = full || *left < placeCost
				*left -= min(*left, placeCost)
				return !full
			}
			for _, code := range trampolines {
				each(b, code, func(off int) {
					if room() {
						found.returns = append(found.returns, at+uint64(off)-o.Bias)
					}
				})
			}
			for _, load := range switches {
				each(b, load, func(off int) {
					if !room() {
						return
					}
					from := at + uint64(off) + switchLoad
					found.switches = append(found.switches, stack.Range{Start: from - o.Bias, End: w.switched(from, code.end) - o.Bias})
				})
			}
			if full {
				unseen(at, code.end)
				break
			}
		}
	}
	slices.Sort(found.returns)
	found.returns = slices.Compact(found.returns)
	order.Sort(found.switches, func(a, b stack.Range) int { return int(int64(a.Start - b.Start)) })
	found.switches = slices.Compact(found.switches)
	return found, whole, nil
}

// errUnread says that code is not read, since there is too much of it.
var errUnread = errors.New("too much code")

func each(b, code []byte, f func(off int)) {
	for from := 0; ; from++ {
		i := bytes.Index(b[from:], code)
		if i < 0 {
			return
		}
		from += i
		f(from)
	}
}

// switched is where a change of stacks is over: behind the return that follows
// the push of the address. With shadow stacks glibc has another way out before.
func (w *work) switched(from, end uint64) uint64 {
	size := min(maxSwitch, end-from)
	b, err := read(w.s.mem, from, size)
	if err != nil {
		return from + size
	}
	pushed := false
	for off := 0; off < len(b); {
		in, err := insn.Decode(b[off:])
		if err != nil {
			break
		}
		off += in.Len
		push := in.Map == insn.Map1Byte && in.Enc == insn.Legacy && (in.Opcode&0xf8 == 0x50 || in.Opcode == 0xff && in.HasModRM && in.Reg() == 6)
		pushed = pushed || push
		if pushed && in.Kind == insn.Ret {
			return from + uint64(off)
		}
	}
	return from + size
}
