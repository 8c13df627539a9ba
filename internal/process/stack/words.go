// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"encoding/binary"
	"errors"
)

// found is what the words of a stack say.
type found struct {
	whole  bool // all words up to the end were looked at
	signal bool // one says that a signal handler runs
	hit    *Function
	word   uint64 // that points into hit
	at     uint64 // where it lies
}

// words looks at the words from sp to the end of what was read at first.
func (c *Checker) words(sp, end uint64) found {
	var w found
	if sp%8 != 0 || len(c.snap.segments) == 0 {
		return w
	}
	s := &c.snap.segments[0]
	if sp < s.base {
		return w
	}
	c.look(&w, s.data[min(sp-s.base, uint64(len(s.data))):], sp)
	w.whole = end != 0 && s.base+uint64(len(s.data)) >= end
	return w
}

// look goes through words that lie at the address at.
func (c *Checker) look(w *found, data []byte, at uint64) {
	// Nearly all words are neither: two comparisons each.
	low, span := c.low, c.high-c.low
	signalLow, signalSpan := c.signalLow, c.signalHigh-c.signalLow
	for i := 0; i+8 <= len(data); i += 8 {
		word := binary.LittleEndian.Uint64(data[i:])
		if word-low <= span && w.hit == nil {
			if f := c.returning(word); f != nil {
				w.hit, w.word, w.at = f, word, at+uint64(i)
			}
		}
		if word-signalLow <= signalSpan && !w.signal {
			w.signal = c.signal(word)
		}
		if savedSegments(word) {
			w.signal = true
		}
	}
}

const (
	// userCode is the code segment of 64-bit code.
	userCode = 0x33
	// xenBits are set in it below Xen, in paravirtual machines.
	xenBits = 0xe000
)

// savedSegments says whether a word is what the kernel puts into each signal
// frame: code segment, twice zero, stack segment (arch/x86/kernel/signal_64.c,
// __unsafe_setup_sigcontext). Functions hardly write such a word.
func savedSegments(word uint64) bool {
	return uint16(word)|xenBits == userCode|xenBits && word<<16>>32 == 0 && word>>48 != 0
}

// decide lets the words say what unwinding could not.
func (c *Checker) decide(v *Verdict, w found, sp, end uint64) {
	v.How = ByWords
	for from := c.snap.reach(); w.hit == nil && !w.whole && end != 0 && sp%8 == 0; {
		data := c.snap.more(from, end)
		if len(data) == 0 {
			v.Why = errors.Join(v.Why, errUnmapped)
			return
		}
		c.look(&w, data, from)
		from += uint64(len(data))
		w.whole = from >= end
	}
	switch {
	case w.hit != nil:
		v.State, v.Function, v.PC, v.At = Busy, w.hit.Name, w.word, w.at
	case sp%8 != 0:
		v.Why = errors.Join(v.Why, errAligned)
	case !w.whole:
		v.Why = errors.Join(v.Why, errEnd)
	case w.signal:
		v.Why = errors.Join(v.Why, errSignal)
	default:
		v.State = Safe
	}
}
