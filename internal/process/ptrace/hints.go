// SPDX-License-Identifier: Apache-2.0

package ptrace

import (
	"io"
	"sync"

	"github.com/tsugi-project/tsugi/internal/process/proc"
)

// hints remember where in a mapping the code was found that makes system calls,
// so that not every process is searched. They are no more than where to look
// first: a process may lie about what it maps, so the bytes are compared.
type hints struct {
	mu    sync.Mutex
	known map[hintKey]gadgets // addresses less the start of the mapping
}

type hintKey struct {
	name string
	size uint64
}

const maxHints = 4096

func (h *hints) search(mem io.ReaderAt, maps []proc.Mapping) gadgets {
	for _, m := range maps {
		if !m.Read || m.Write || !m.Exec {
			continue
		}
		h.mu.Lock()
		g, ok := h.known[keyOf(m)]
		h.mu.Unlock()
		if g = g.moved(m.Start); ok && g.still(mem) {
			return g
		}
	}
	g := search(mem, maps)
	for _, m := range maps {
		if g.complete() && holds(m, g.syscall, syscallLength+1) && holds(m, g.sigreturn, g.afterSig-g.sigreturn) {
			h.mu.Lock()
			if h.known == nil || len(h.known) >= maxHints {
				h.known = map[hintKey]gadgets{}
			}
			h.known[keyOf(m)] = g.moved(-m.Start)
			h.mu.Unlock()
		}
	}
	return g
}

func keyOf(m proc.Mapping) hintKey { return hintKey{m.Path, m.End - m.Start} }

func holds(m proc.Mapping, at, size uint64) bool { return at >= m.Start && at+size <= m.End }

func (g gadgets) moved(by uint64) gadgets {
	return gadgets{g.syscall + by, g.sigreturn + by, g.afterSig + by}
}
