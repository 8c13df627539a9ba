// SPDX-License-Identifier: Apache-2.0

package ptrace

import (
	"io"
	"strings"
	"sync"
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

func (h *hints) search(mem io.ReaderAt, maps []mapping) gadgets {
	for _, m := range maps {
		if !strings.HasPrefix(m.perms, "r-x") {
			continue
		}
		h.mu.Lock()
		g, ok := h.known[m.key()]
		h.mu.Unlock()
		if g = g.moved(m.start); ok && g.still(mem) {
			return g
		}
	}
	g := search(mem, maps)
	for _, m := range maps {
		if g.complete() && m.holds(g.syscall, syscallLength+1) && m.holds(g.sigreturn, g.afterSig-g.sigreturn) {
			h.mu.Lock()
			if h.known == nil || len(h.known) >= maxHints {
				h.known = map[hintKey]gadgets{}
			}
			h.known[m.key()] = g.moved(-m.start)
			h.mu.Unlock()
		}
	}
	return g
}

func (m mapping) key() hintKey { return hintKey{m.name, m.end - m.start} }

func (m mapping) holds(at, size uint64) bool { return at >= m.start && at+size <= m.end }

func (g gadgets) moved(by uint64) gadgets {
	return gadgets{g.syscall + by, g.sigreturn + by, g.afterSig + by}
}
