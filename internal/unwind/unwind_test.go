// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"encoding/binary"
	"testing"

	"github.com/go-quicktest/qt"
)

const (
	sectionAt = 0x5000
	codeAt    = 0x1000
)

// section makes an .eh_frame of one CIE and one FDE for codeAt..codeAt+0x100.
func section(augmentation string, data, initial, code []byte) []byte {
	record := func(body []byte) []byte {
		for len(body)%8 != 4 {
			body = append(body, cfaNop)
		}
		return append(binary.LittleEndian.AppendUint32(nil, uint32(len(body))), body...)
	}
	cie := append([]byte{0, 0, 0, 0, 1}, augmentation...)
	cie = append(cie, 0, 1, 0x78, RIP) // code 1, data -8
	if augmentation != "" {
		cie = append(append(cie, byte(len(data))), data...)
	}
	out := record(append(cie, initial...))
	fde := binary.LittleEndian.AppendUint32(nil, uint32(len(out)+4))
	at := sectionAt + len(out) + 8
	fde = binary.LittleEndian.AppendUint32(fde, uint32(int32(codeAt-at)))
	fde = binary.LittleEndian.AppendUint32(fde, 0x100)
	if augmentation != "" {
		fde = append(fde, 0)
	}
	out = append(out, record(append(fde, code...))...)
	return append(out, 0, 0, 0, 0)
}

// usual is what compilers begin with: CFA = rsp+8, return address at CFA-8.
var usual = []byte{cfaDefCFA, RSP, 8, cfaOffset | RIP, 1}

type words map[uint64]uint64

func (w words) Word(addr uint64) (uint64, bool) { v, ok := w[addr]; return v, ok }

func TestStep(t *testing.T) {
	t.Parallel()
	const sp = 0x7000
	stack := words{}
	for i := range uint64(64) {
		stack[sp-64+8*i] = 0x100 + i // the word at sp is 0x108
	}
	for _, test := range []struct {
		name         string
		augmentation string
		data, code   []byte
		offset       uint64 // of the instruction
		regs         map[int]uint64
		want         map[int]uint64
		lost         []int
		last         bool
		fails        error
	}{
		{name: "at the entry", want: map[int]uint64{RIP: 0x108, RSP: sp + 8, RBX: 3}, lost: []int{RAX, RDI, R11}},
		{
			name: "after a push", code: []byte{cfaAdvanceLoc | 1, cfaDefCFAOffset, 16, cfaOffset | RBP, 2}, offset: 1,
			want: map[int]uint64{RIP: 0x109, RSP: sp + 16, RBP: 0x108},
		},
		{
			name: "before the push is done", code: []byte{cfaAdvanceLoc | 1, cfaDefCFAOffset, 16, cfaOffset | RBP, 2},
			want: map[int]uint64{RIP: 0x108, RSP: sp + 8, RBP: 6},
		},
		{
			name: "a frame pointer", code: []byte{cfaDefCFARegister, RBP}, regs: map[int]uint64{RBP: sp + 24},
			want: map[int]uint64{RIP: 0x10b, RSP: sp + 32},
		},
		{
			name: "remembered", code: []byte{cfaRememberState, cfaDefCFAOffset, 64, cfaAdvanceLoc | 4, cfaRestoreState}, offset: 4,
			want: map[int]uint64{RIP: 0x108, RSP: sp + 8},
		},
		{name: "restored", code: []byte{cfaOffset | RBX, 0, cfaRestore | RBX}, want: map[int]uint64{RBX: 3}},
		{
			name: "the long forms", code: []byte{cfaDefCFASF, RSP, 0x7e, cfaOffsetExtended, RBX, 1, cfaGNUArgsSize, 99, cfaOffsetSF, R12, 0x7f, cfaValOffset, R13, 1, cfaRegister, R14, RAX, cfaSameValue, RDI, cfaUndefined, R15},
			want: map[int]uint64{RSP: sp + 16, RIP: 0x109, RBX: 0x109, R12: 0x10b, R13: sp + 8, R14: 0, RDI: 5}, lost: []int{R15},
		},
		{
			name: "the rule of a procedure linkage table, first half", code: []byte{cfaDefCFAExpr, 11, 0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22}, offset: 0x10,
			want: map[int]uint64{RIP: 0x108, RSP: sp + 8},
		},
		{
			name: "the rule of a procedure linkage table, second half", code: []byte{cfaDefCFAExpr, 11, 0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22}, offset: 0x1b,
			want: map[int]uint64{RIP: 0x109, RSP: sp + 16},
		},
		{name: "a signal frame", augmentation: "zRS", data: []byte{encPCRel | encSdata4}, code: []byte{
			cfaDefCFAExpr, 3, 0x77, 16, opDeref, cfaExpression, RIP, 2, 0x77, 32, cfaExpression, RAX, 2, 0x77, 40, cfaValExpression, RBX, 1, 0x35,
		}, want: map[int]uint64{RIP: 0x10c, RSP: 0x10a, RAX: 0x10d, RBX: 5}},
		{name: "the outermost", code: []byte{cfaUndefined, RIP}, last: true},
		{name: "a frame that is below", code: []byte{cfaDefCFAOffset, 0}, fails: ErrMalformed},
		{name: "a frame address from a lost register", code: []byte{cfaDefCFARegister, R10}, regs: map[int]uint64{R10: 1 << 63}, fails: ErrLost},
		{name: "memory that is not there", code: []byte{cfaDefCFAOffset, 0x80, 0x80, 1}, fails: ErrMemory},
		{name: "a division by zero", code: []byte{cfaDefCFAExpr, 3, 0x31, 0x30, opDiv}, fails: ErrMalformed},
		{name: "an expression without end", code: []byte{cfaDefCFAExpr, 3, opSkip, 0xfd, 0xff}, fails: ErrUnsupported},
		{name: "an expression that jumps out", code: []byte{cfaDefCFAExpr, 3, opSkip, 0xf0, 0xff}, fails: ErrMalformed},
		{name: "an expression that fills its stack", code: []byte{cfaDefCFAExpr, 4, 0x31, opSkip, 0xfc, 0xff}, fails: ErrMalformed},
		{name: "an empty expression", code: []byte{cfaDefCFAExpr, 0}, fails: ErrMalformed},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if test.augmentation == "" {
				test.augmentation, test.data = "zR", []byte{encPCRel | encSdata4}
			}
			table, err := Parse(section(test.augmentation, test.data, usual, test.code), sectionAt)
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.Equals(table.Len(), 1))
			row, err := table.Row(codeAt + test.offset)
			qt.Assert(t, qt.IsNil(err))

			r := Regs{Known: AllKnown, Exact: true}
			for i := range r.Value {
				r.Value[i] = uint64(i)
			}
			r.Value[RSP], r.Value[RIP] = sp, codeAt+test.offset
			for reg, v := range test.regs {
				if r.Value[reg] = v; v == 1<<63 {
					r.Known &^= 1 << reg
				}
			}
			before := r
			last, err := row.Step(&r, stack)
			qt.Assert(t, qt.Equals(last, test.last))
			if test.fails != nil || test.last {
				qt.Assert(t, qt.ErrorIs(err, test.fails))
				qt.Assert(t, qt.Equals(r, before))
				return
			}
			qt.Assert(t, qt.IsNil(err))
			for reg, v := range test.want {
				qt.Check(t, qt.IsTrue(r.Known&(1<<reg) != 0), qt.Commentf("%s", names[reg]))
				qt.Check(t, qt.Equals(r.Value[reg], v), qt.Commentf("%s", names[reg]))
			}
			for _, reg := range test.lost {
				qt.Check(t, qt.Equals(r.Known&(1<<reg), 0), qt.Commentf("%s", names[reg]))
			}
			qt.Check(t, qt.Equals(r.Exact, test.augmentation == "zRS"))
		})
	}
}

func TestRowRefuses(t *testing.T) {
	t.Parallel()
	end := len(section("zR", []byte{encPCRel | encSdata4}, usual, nil)) - 4
	start := codeAt - (sectionAt + end + 2) // from the operand of the second instruction
	for name, code := range map[string][]byte{
		"a state that nobody remembered": {cfaRestoreState},
		"an unknown instruction":         {0x3e},
		"a cut instruction":              {cfaOffsetExtended, 0x80},
		"a place that goes back":         binary.LittleEndian.AppendUint32([]byte{cfaAdvanceLoc | 0x10, cfaSetLoc}, uint32(start)),
		"a register that there is not":   {cfaDefCFA, 40, 8},
		"a column beyond all":            {cfaOffsetExtended, 0xff, 0xff, 0x03, 1},
		"an expression that is too long": {cfaDefCFAExpr, 0x40, 0x30},
		"states without end":             append(make([]byte, 0, 40), repeat(cfaRememberState, 40)...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := section("zR", []byte{encPCRel | encSdata4}, usual, nil)
			// The code is put at the very end of the entry, so that no padding follows.
			size := len(s) - 4
			s = append(s[:size], code...)
			at := binary.LittleEndian.Uint32(s) + 4
			binary.LittleEndian.PutUint32(s[at:], uint32(len(s))-at-4)
			table, err := Parse(s, sectionAt)
			qt.Assert(t, qt.IsNil(err))
			_, err = table.Row(codeAt + 0x20)
			qt.Assert(t, qt.IsNotNil(err))
		})
	}
}

func repeat(b byte, n int) []byte {
	all := make([]byte, n)
	for i := range all {
		all[i] = b
	}
	return all
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	good := section("zR", []byte{encPCRel | encSdata4}, usual, nil)
	t.Run("a length that leaves the section", func(t *testing.T) {
		t.Parallel()
		_, err := Parse([]byte{0xf0, 0, 0, 0, 0, 0, 0, 0}, sectionAt)
		qt.Assert(t, qt.ErrorIs(err, ErrMalformed))
	})
	t.Run("a cut section", func(t *testing.T) {
		t.Parallel()
		_, err := Parse(good[:len(good)-10], sectionAt)
		qt.Assert(t, qt.ErrorIs(err, ErrMalformed))
	})
	for name, s := range map[string][]byte{
		"an unknown augmentation":       section("zX", []byte{0}, usual, nil),
		"augmentation without length":   section("eh", nil, usual, nil),
		"pointers through pointers":     section("zR", []byte{encIndirect | encPCRel | encSdata4}, usual, nil),
		"pointers from the text":        section("zR", []byte{0x2b}, usual, nil),
		"augmentation data that is cut": section("zPR", []byte{encSdata4, 0}, usual, nil),
	} {
		t.Run(name+" is left out", func(t *testing.T) {
			t.Parallel()
			table, err := Parse(s, sectionAt)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(table.Len(), 0))
			qt.Check(t, qt.Equals(table.Skipped(), 1))
		})
	}
	t.Run("two entries for one place are none", func(t *testing.T) {
		t.Parallel()
		table, err := Parse(good, sectionAt)
		qt.Assert(t, qt.IsNil(err))
		twice := table.entries[0]
		twice.start += 0x10
		table.entries = append(table.entries, twice)
		table.finish()
		for _, pc := range []uint64{codeAt, codeAt + 0x10, codeAt + 0x20} {
			_, err = table.Row(pc)
			qt.Check(t, qt.ErrorIs(err, ErrMalformed))
		}
	})
	t.Run("a place without entry", func(t *testing.T) {
		t.Parallel()
		table, err := Parse(good, sectionAt)
		qt.Assert(t, qt.IsNil(err))
		for _, pc := range []uint64{0, codeAt - 1, codeAt + 0x100, ^uint64(0)} {
			_, err = table.Row(pc)
			qt.Check(t, qt.ErrorIs(err, ErrNoEntry))
		}
	})
}

// FuzzParse: nothing that a section holds makes the package panic, run for long
// or give a value with an error.
func FuzzParse(f *testing.F) {
	f.Add(section("zR", []byte{encPCRel | encSdata4}, usual, []byte{cfaAdvanceLoc | 1, cfaDefCFAOffset, 16, cfaOffset | RBP, 2}), uint64(sectionAt))
	f.Add(section("zPLR", []byte{encSdata4, 1, 2, 3, 4, encSdata4, encPCRel | encSdata4}, usual, []byte{cfaRememberState, cfaRestoreState}), uint64(sectionAt))
	f.Add(section("zRS", []byte{encPCRel | encSdata4}, usual, []byte{cfaDefCFAExpr, 3, 0x77, 16, opDeref, cfaExpression, RIP, 2, 0x77, 32}), uint64(sectionAt))
	f.Add(section("", nil, usual, []byte{cfaDefCFAExpr, 11, 0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22}), uint64(0))
	for _, path := range libraries(f)[:1] {
		frame, addr, hdr, hdrAddr := sections(f, path)
		f.Add(frame[:min(len(frame), 2000)], addr)
		f.Add(hdr[:min(len(hdr), 200)], hdrAddr)
	}
	stack := words{}
	for i := range uint64(64) {
		stack[0x7000+8*i] = 0x7000 + 16*i
	}
	f.Fuzz(func(t *testing.T, data []byte, addr uint64) {
		table, err := Parse(data, addr)
		if (table == nil) != (err != nil) {
			t.Fatalf("table %v, error %v", table, err)
		}
		if n := min(len(data), 64); n > 0 {
			if indexed, err := ParseHeader(data[:n], addr, data, addr+uint64(n)/2); (indexed == nil) != (err != nil) {
				t.Fatalf("table %v, error %v", indexed, err)
			}
		}
		if table == nil {
			return
		}
		for i := range table.entries[:min(len(table.entries), 16)] {
			for _, pc := range []uint64{table.entries[i].start, table.entries[i].end - 1} {
				row, err := table.Row(pc)
				if err != nil {
					continue
				}
				r := Regs{Known: AllKnown, Exact: true}
				for i := range r.Value {
					r.Value[i] = 0x7000 + uint64(i)*8
				}
				if _, err := row.Step(&r, stack); err == nil && r.Known&(1<<RIP|1<<RSP) != 1<<RIP|1<<RSP {
					t.Fatalf("a frame without %x", r.Known)
				}
			}
		}
	})
}
