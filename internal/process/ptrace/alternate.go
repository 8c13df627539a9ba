// SPDX-License-Identifier: Apache-2.0

package ptrace

import "encoding/binary"

// A signal handler may run on an alternate stack that is a part of the thread's
// own (an array in one of its functions). What lies below it is not free then,
// but in use by the code that was interrupted.
const (
	// handlerDepth is how far up from the stack pointer the frame of a signal is
	// looked for: what handlers and their callers take on stacks that are small.
	handlerDepth = 64 << 10
	// The kernel writes these into each signal's frame (struct rt_sigframe): the
	// segments are a word like no other, and the alternate stack lies before it.
	segmentsAt = 8 + 40 + 18*8
	stackAt    = segmentsAt - (8 + 16)
	disabled   = 2 // SS_DISABLE
)

// notNested refuses a thread in a handler on an alternate stack without room for
// a frame of ours. end is where its own stack ends.
func (l *Loan) notNested(end uint64) error {
	sp := l.thread.regs.Rsp &^ 7
	if end <= sp {
		return nil
	}
	b := make([]byte, min(end-sp, handlerDepth)&^7)
	n := 0
	touch := func() { n, _ = l.mem.ReadAt(b, int64(sp)) }
	if l.pages.Readable(sp, uint64(len(b))) == uint64(len(b)) {
		touch()
	} else if err := l.within(touch); err != nil {
		return err
	}
	if nested(b[:n], sp) {
		return unsuitable(l.thread.tid, "a signal handler runs on a small stack of its own")
	}
	return nil
}

// nested tells whether words of a stack, from the stack pointer on, hold the
// frame of a signal whose handler runs on an alternate stack with less than
// maxFrame bytes left.
func nested(b []byte, sp uint64) bool {
	le := binary.LittleEndian
	for at := stackAt; at+8 <= len(b); at += 8 {
		if w := le.Uint64(b[at:]); uint16(w) != userCodeSelect || w<<16>>32 != 0 || w>>48 == 0 {
			continue
		}
		s := b[at-stackAt:]
		from, flags, size := le.Uint64(s), le.Uint32(s[8:]), le.Uint64(s[16:])
		if flags&disabled == 0 && sp-from < size && sp-from < maxFrame {
			return true
		}
	}
	return false
}
