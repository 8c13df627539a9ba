// SPDX-License-Identifier: Apache-2.0

package process

import (
	"bytes"
	"slices"
	"sync"

	"github.com/tsugi-project/tsugi/internal/process/proc"
)

// What signal handlers return to: rt_sigreturn(2), as C libraries call it. A
// stack with such an address may go on elsewhere.
var trampolines = [...][]byte{
	{0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05}, // mov $15,%rax; syscall
	{0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05},             // mov $15,%eax; syscall
}

const (
	maxScanned  = 256 << 20 // bytes of code of one process that are searched
	maxRemember = 65536     // build-ids
)

// signalCache remembers where the trampolines of an ELF file are, so that they
// are not searched for in every process. A process may lie about what it maps:
// what is remembered is compared with its memory, and searched for when it is
// not there.
type signalCache struct {
	mu    sync.Mutex
	known map[string][]uint64 // by build-id: virtual addresses
}

// signalReturns finds the addresses that signal handlers return to.
func (w *work) signalReturns() ([]uint64, error) {
	var found []uint64
	left := uint64(maxScanned)
	for i := range w.s.objects {
		o := &w.s.objects[i]
		at, ok, err := w.remembered(o)
		if err != nil {
			return nil, err
		}
		if !ok {
			if at, err = w.search(o, &left); err != nil {
				return nil, err
			}
			w.e.signals.remember(o.BuildID, at)
		}
		for _, vaddr := range at {
			found = append(found, vaddr+o.Bias)
		}
	}
	return found, nil
}

func (w *work) remembered(o *proc.Object) ([]uint64, bool, error) {
	if o.BuildID == "" {
		return nil, false, nil
	}
	c := &w.e.signals
	c.mu.Lock()
	at, ok := c.known[o.BuildID]
	c.mu.Unlock()
	for _, vaddr := range at {
		same := false
		for _, code := range trampolines {
			there, err := w.s.holds(vaddr+o.Bias, code)
			if err != nil && !unreadable(err) {
				return nil, false, err
			}
			same = same || there
		}
		if !same {
			return nil, false, nil
		}
	}
	return at, ok, nil
}

func (c *signalCache) remember(buildID string, at []uint64) {
	if buildID == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || len(c.known) >= maxRemember {
		c.known = map[string][]uint64{}
	}
	if _, ok := c.known[buildID]; !ok {
		c.known[buildID] = at
	}
}

// search goes through the code of an object.
func (w *work) search(o *proc.Object, left *uint64) ([]uint64, error) {
	const piece, overlap = 1 << 20, 16
	var found []uint64
	for _, m := range w.s.maps {
		code := span{max(m.Start, o.Base), min(m.End, o.End)}
		if !m.Exec || code.start >= code.end {
			continue
		}
		for at := code.start; at < code.end && *left > 0; at += piece {
			size := min(piece+overlap, code.end-at)
			*left -= min(*left, size)
			b, err := read(w.s.mem, at, size)
			if unreadable(err) {
				break
			}
			if err != nil {
				return nil, err
			}
			for _, code := range trampolines {
				for from := 0; ; from++ {
					i := bytes.Index(b[from:], code)
					if i < 0 {
						break
					}
					from += i
					found = append(found, at+uint64(from)-o.Bias)
				}
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}
