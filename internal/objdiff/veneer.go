// SPDX-License-Identifier: Apache-2.0

package objdiff

import "github.com/tsugi-project/tsugi/internal/elfobj"

// veneerReaches reports whether a reference without relocation can be carried:
// as it is with a field of four bytes, or a short jump by way of a long one
// behind the function's end.
func veneerReaches(a *atom, ref *ref) bool {
	if ref.size == 4 {
		return true
	}
	shorts := uint64(0) // veneers that may lie in between
	for i := range a.refs {
		if a.refs[i].implicit && a.refs[i].size == 1 {
			shorts++
		}
	}
	return ref.size == 1 && ref.branch && a.end-a.start+shorts*5-ref.off < 127
}

// veneer appends "jmp rel32" to a carried function and lets the short jump at
// ref lead there. It returns where the long jump's field lies.
func veneer(sec *elfobj.Section, ref *ref) uint64 {
	at := uint64(len(sec.Data))
	sec.Data = append(sec.Data, 0xe9, 0, 0, 0, 0)
	sec.Data[ref.off] = byte(at - (ref.off + uint64(ref.toEnd)))
	return at + 1
}
