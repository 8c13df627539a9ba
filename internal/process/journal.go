// SPDX-License-Identifier: Apache-2.0

package process

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/tsugi-project/tsugi/internal/splice"
)

// JournalState says how far the writing of jumps has come. It is one aligned
// word of the journal, so that it is never half of anything.
type JournalState string

// The states of a journal, in the order of a patch's life.
const (
	Prepared  JournalState = "prepared"  // everything is there but no jump was written
	Applying  JournalState = "applying"  // some jumps may have been written
	InEffect  JournalState = "in-effect" // all jumps were written and read back
	Reverting JournalState = "reverting" // some jumps may have been taken out
	TakenOut  JournalState = "taken-out" // no jump leads here; threads and data may still
	Replaced  JournalState = "replaced"  // the jumps lead to a later patch
)

// words are the states as they lie in memory: text, for those who look with a debugger.
var words = [...]struct {
	state JournalState
	word  string
}{
	{Prepared, "PREPARED"},
	{Applying, "APPLYING"},
	{InEffect, "INEFFECT"},
	{Reverting, "REVERTNG"},
	{TakenOut, "TAKENOUT"},
	{Replaced, "REPLACED"},
}

func stateWord(s JournalState) []byte {
	for _, w := range words {
		if w.state == s {
			return []byte(w.word)
		}
	}
	panic("process: no word for the state " + string(s))
}

// The form of a journal, little-endian:
//
//	 0 magic, 16 bytes
//	16 the state word, 8 bytes, outside the checksum
//	24 format u32, length of all u32
//	32 SHA-256 of [24:32] and [64:length]
//	64 generation, base, size, prior, bias, text offset, text size, data offset,
//	   offset and size of .eh_frame: u64 each
//	   patch, build-id, name, digest: each a length u16 and its bytes
//	   number of records u32, and the records, 64 bytes each
const (
	journalMagic  = "\x00tsugi splice\r\n\x1a"
	journalFormat = 1
	headerSize    = 64
	recordSize    = 64
	stateOffset   = 16

	maxRecords  = 16384
	maxText     = 256 // bytes of each text in a journal
	maxJournal  = headerSize + 10*8 + 4*(2+maxText) + 4 + maxRecords*recordSize
	maxArea     = 1 << 30
	jumpSize    = 5
	jumpOpcode  = 0xe9
	pageSize    = 4096
	addressEnd  = 1 << 47 // of user space; with five levels of pages nothing is put higher
	maxFunction = 64 << 20
)

// record is what the journal knows of one function.
type record struct {
	function uint64 // its address in this process
	size     uint32
	skip     uint8 // the jump is at function+skip
	policy   splice.Policy
	original [jumpSize]byte // what the ELF file has there
	before   [jumpSize]byte // what was there before this patch: original, or the jump of the patch it replaces
	after    [jumpSize]byte // the jump into text, or original where the replaced patch alone had the function
	sum      [32]byte       // SHA-256 of the whole function as shipped
}

// entry is where the jump is written.
func (r *record) entry() uint64 { return r.function + uint64(r.skip) }

// redirects tells whether the record is of a function that leads into text.
func (r *record) redirects() bool { return r.after != r.original }

// journal is what lies at the start of the R-- pages that a patch brings. It is
// enough to take the patch out again without anything else than the process.
type journal struct {
	generation uint64 // higher than that of the prior one
	base       uint64 // of the area, where the journal itself lies
	size       uint64 // of the area
	prior      uint64 // base of the area that this one replaces, 0 for none
	bias       uint64 // of the object
	text, data uint64 // offsets in the area, page-aligned; all before text is R--
	textSize   uint64
	// unwind is the offset in the area of .eh_frame for text, of unwindSize bytes.
	unwind, unwindSize uint64
	patch              string
	buildID            string
	name               string
	digest             string // of the splice.File
	records            []record
}

// journalSize is how many bytes the journal of so many functions needs.
func journalSize(j *journal) uint64 {
	return uint64(headerSize+10*8+4*2+len(j.patch)+len(j.buildID)+len(j.name)+len(j.digest)+4) + uint64(len(j.records))*recordSize
}

var errJournal = errors.New("not a journal")

// encode gives the bytes of the journal, in the given state.
func (j *journal) encode(state JournalState) ([]byte, error) {
	if err := j.check(); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	b := make([]byte, headerSize, journalSize(j))
	copy(b, journalMagic)
	copy(b[stateOffset:], stateWord(state))
	le.PutUint32(b[24:], journalFormat)
	le.PutUint32(b[28:], uint32(journalSize(j)))
	for _, v := range []uint64{j.generation, j.base, j.size, j.prior, j.bias, j.text, j.textSize, j.data, j.unwind, j.unwindSize} {
		b = le.AppendUint64(b, v)
	}
	for _, s := range []string{j.patch, j.buildID, j.name, j.digest} {
		b = append(le.AppendUint16(b, uint16(len(s))), s...)
	}
	b = le.AppendUint32(b, uint32(len(j.records)))
	for i := range j.records {
		r := &j.records[i]
		b = le.AppendUint64(b, r.function)
		b = le.AppendUint32(b, r.size)
		b = append(b, r.skip, policyByte(r.policy))
		b = append(b, r.original[:]...)
		b = append(b, r.before[:]...)
		b = append(b, r.after[:]...)
		b = append(b, 0, 0, 0)
		b = append(b, r.sum[:]...)
	}
	sum := checksum(b)
	copy(b[32:], sum[:])
	return b, nil
}

func checksum(b []byte) (sum [32]byte) {
	h := sha256.New()
	h.Write(b[24:32])
	h.Write(b[headerSize:])
	h.Sum(sum[:0])
	return sum
}

func policyByte(p splice.Policy) byte {
	if p == splice.EntryOnly {
		return 1
	}
	return 0
}

// journalLength tells how long the journal is that begins with these bytes, at
// least headerSize of them.
func journalLength(head []byte) (int, bool) {
	if len(head) < headerSize || string(head[:len(journalMagic)]) != journalMagic {
		return 0, false
	}
	n := int(binary.LittleEndian.Uint32(head[28:]))
	if binary.LittleEndian.Uint32(head[24:]) != journalFormat || n < headerSize || n > maxJournal {
		return 0, false
	}
	return n, true
}

// decodeJournal reads a journal that was found at an address. Any process can
// write one, so everything that is used later is checked here.
func decodeJournal(b []byte, at uint64) (*journal, JournalState, error) {
	n, ok := journalLength(b)
	if !ok || n != len(b) {
		return nil, "", fmt.Errorf("%w: no header", errJournal)
	}
	if sum := checksum(b); !bytes.Equal(sum[:], b[32:64]) {
		return nil, "", fmt.Errorf("%w: checksum", errJournal)
	}
	var state JournalState
	for _, w := range words {
		if w.word == string(b[stateOffset:stateOffset+8]) {
			state = w.state
		}
	}
	if state == "" {
		return nil, "", fmt.Errorf("%w: state", errJournal)
	}
	r := reader{b: b[headerSize:]}
	j := &journal{}
	for _, p := range []*uint64{&j.generation, &j.base, &j.size, &j.prior, &j.bias, &j.text, &j.textSize, &j.data, &j.unwind, &j.unwindSize} {
		*p = r.u64()
	}
	for _, p := range []*string{&j.patch, &j.buildID, &j.name, &j.digest} {
		*p = string(r.take(int(r.u16())))
	}
	count := int(r.u32())
	if r.bad || count > maxRecords || len(r.b) != count*recordSize {
		return nil, "", fmt.Errorf("%w: length", errJournal)
	}
	j.records = make([]record, count)
	for i := range j.records {
		rec := &j.records[i]
		rec.function, rec.size, rec.skip = r.u64(), r.u32(), r.take(1)[0]
		switch r.take(1)[0] {
		case 0:
			rec.policy = splice.Quiescent
		case 1:
			rec.policy = splice.EntryOnly
		default:
			return nil, "", fmt.Errorf("%w: policy", errJournal)
		}
		copy(rec.original[:], r.take(jumpSize))
		copy(rec.before[:], r.take(jumpSize))
		copy(rec.after[:], r.take(jumpSize))
		if string(r.take(3)) != "\x00\x00\x00" {
			return nil, "", fmt.Errorf("%w: padding", errJournal)
		}
		copy(rec.sum[:], r.take(32))
	}
	if j.base != at {
		return nil, "", fmt.Errorf("%w: it is of another place", errJournal)
	}
	if err := j.check(); err != nil {
		return nil, "", err
	}
	return j, state, nil
}

// check holds what every journal must hold, of ours and of others.
func (j *journal) check() error {
	aligned := func(v uint64) bool { return v%pageSize == 0 }
	switch {
	case !aligned(j.base) || j.base == 0 || j.base >= addressEnd || !aligned(j.size) || j.size > maxArea:
		return fmt.Errorf("%w: area", errJournal)
	case !aligned(j.prior) || j.prior >= addressEnd || j.bias >= addressEnd:
		return fmt.Errorf("%w: addresses", errJournal)
	case !aligned(j.text) || !aligned(j.data) || j.text > j.size || j.data > j.size || j.data < j.text ||
		j.textSize == 0 || j.textSize > j.data-j.text || journalSize(j) > j.text,
		j.unwind > j.text || j.unwindSize > j.text-j.unwind || j.unwindSize > 0 && j.unwind < journalSize(j):
		return fmt.Errorf("%w: layout", errJournal)
	case len(j.records) == 0 || len(j.records) > maxRecords:
		return fmt.Errorf("%w: records", errJournal)
	}
	for _, s := range []string{j.patch, j.buildID, j.name, j.digest} {
		if len(s) > maxText || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return fmt.Errorf("%w: text", errJournal)
		}
	}
	for i := range j.records {
		r := &j.records[i]
		switch {
		case r.skip != 0 && r.skip != 4, r.size == 0 || r.size > maxFunction, r.function < pageSize || r.function >= addressEnd-maxFunction:
			return fmt.Errorf("%w: function %d", errJournal, i)
		case r.entry()/pageSize != (r.entry()+jumpSize-1)/pageSize:
			return fmt.Errorf("%w: the jump of function %d crosses a page", errJournal, i)
		case i > 0 && j.records[i-1].function+uint64(j.records[i-1].size) > r.function, i > 0 && j.records[i-1].entry()+jumpSize > r.function:
			return fmt.Errorf("%w: functions %d and %d overlap", errJournal, i-1, i)
		}
		if r.redirects() && !j.inText(jumpTarget(r.entry(), r.after)) {
			return fmt.Errorf("%w: function %d leads elsewhere", errJournal, i)
		}
	}
	return nil
}

// functionBytes is how much code the functions have.
func (j *journal) functionBytes() (n uint64) {
	for i := range j.records {
		n += uint64(j.records[i].size)
	}
	return n
}

// inText tells whether an address lies in the new code.
func (j *journal) inText(addr uint64) bool {
	return addr >= j.base+j.text && addr < j.base+j.text+j.textSize
}

// jumpTarget is where a jump that stands at an address leads, 0 when it is none.
func jumpTarget(at uint64, b [jumpSize]byte) uint64 {
	if b[0] != jumpOpcode {
		return 0
	}
	return at + jumpSize + uint64(int64(int32(binary.LittleEndian.Uint32(b[1:]))))
}

// reader takes little-endian values from bytes, and remembers when there were too few.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.bad, r.b = true, nil
		return make([]byte, n)
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) u16() uint16 { return binary.LittleEndian.Uint16(r.take(2)) }
func (r *reader) u32() uint32 { return binary.LittleEndian.Uint32(r.take(4)) }
func (r *reader) u64() uint64 { return binary.LittleEndian.Uint64(r.take(8)) }
