// SPDX-License-Identifier: Apache-2.0

package process

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/splice"
)

func sampleJournal() *journal {
	j := &journal{
		generation: 7, base: 0x7f0000200000, size: 0x5000, prior: 0x7f0000300000, bias: 0x7f0000000000,
		text: 0x1000, textSize: 0x123, data: 0x3000, unwind: 0x800, unwindSize: 0x90,
		patch: "openssl-1 3", buildID: "00ff", name: "libssl.so.3", digest: strings.Repeat("a", 64),
	}
	for i := range 3 {
		r := record{function: 0x7f0000001000 + uint64(i)*64, size: 60, skip: uint8(i%2) * 4, policy: splice.Quiescent, sum: [32]byte{byte(i)}}
		r.original = [5]byte{0x55, 0x48, 0x89, 0xe5, byte(i)}
		r.before = r.original
		r.after = jumpTo(r.entry(), j.base+j.text+uint64(i))
		if i == 2 {
			r.policy, r.before, r.after = splice.EntryOnly, r.after, r.original
		}
		j.records = append(j.records, r)
	}
	return j
}

func jumpTo(at, to uint64) (b [5]byte) {
	b[0] = jumpOpcode
	binary.LittleEndian.PutUint32(b[1:], uint32(to-at-jumpSize))
	return b
}

func TestJournalComesBackAsItWas(t *testing.T) {
	t.Parallel()
	j := sampleJournal()
	for _, w := range words {
		b, err := j.encode(w.state)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.Equals(uint64(len(b)), journalSize(j)))
		n, ok := journalLength(b[:headerSize])
		qt.Assert(t, qt.IsTrue(ok && n == len(b)))
		got, state, err := decodeJournal(b, j.base)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.Equals(state, w.state))
		qt.Assert(t, qt.DeepEquals(unexported(got), unexported(j)))
	}
}

// unexported makes a journal comparable by qt, which sees no unexported fields.
func unexported(j *journal) []any {
	out := []any{j.generation, j.base, j.size, j.prior, j.bias, j.text, j.textSize, j.data, j.unwind, j.unwindSize, j.patch, j.buildID, j.name, j.digest}
	for _, r := range j.records {
		out = append(out, r.function, r.size, r.skip, r.policy, r.original, r.before, r.after, r.sum)
	}
	return out
}

func TestJournalThatIsForgedOrTorn(t *testing.T) {
	t.Parallel()
	seal := func(b []byte) []byte {
		sum := checksum(b)
		copy(b[32:], sum[:])
		return b
	}
	for _, tt := range []struct {
		name   string
		change func(j *journal)
		bytes  func(b []byte) []byte
		want   string
	}{
		{name: "cut", bytes: func(b []byte) []byte { return b[:len(b)-1] }, want: "header"},
		{name: "longer", bytes: func(b []byte) []byte { return append(b, 0) }, want: "header"},
		{name: "another magic", bytes: func(b []byte) []byte { b[3]++; return b }, want: "header"},
		{name: "a later format", bytes: func(b []byte) []byte { b[24]++; return seal(b) }, want: "header"},
		{name: "a flipped bit", bytes: func(b []byte) []byte { b[200] ^= 1; return b }, want: "checksum"},
		{name: "an unknown state", bytes: func(b []byte) []byte { b[stateOffset] = 'X'; return b }, want: "state"},
		{name: "more records than bytes", bytes: func(b []byte) []byte {
			binary.LittleEndian.PutUint32(b[len(b)-3*recordSize-4:], 1<<31)
			return seal(b)
		}, want: "length"},
		{name: "a text that is longer than all", bytes: func(b []byte) []byte {
			binary.LittleEndian.PutUint16(b[headerSize+80:], 65535)
			return seal(b)
		}, want: "length"},
		{name: "a policy that is none", bytes: func(b []byte) []byte { b[len(b)-3*recordSize+13] = 7; return seal(b) }, want: "policy"},
		{name: "padding", bytes: func(b []byte) []byte { b[len(b)-33] = 7; return seal(b) }, want: "padding"},
		{name: "another place", change: func(j *journal) { j.base += pageSize; j.records = j.records[2:] }, want: "another place"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			j := sampleJournal()
			at := j.base
			if tt.change != nil {
				tt.change(j)
			}
			b, err := j.encode(InEffect)
			qt.Assert(t, qt.IsNil(err))
			if tt.bytes != nil {
				b = tt.bytes(b)
			}
			_, _, err = decodeJournal(b, at)
			qt.Assert(t, qt.ErrorIs(err, errJournal))
			qt.Assert(t, qt.ErrorMatches(err, ".*"+tt.want+".*"))
		})
	}
}

func TestJournalIsNotWrittenWhenItIsWrong(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(j *journal){
		"area":          func(j *journal) { j.base++ },
		"addresses":     func(j *journal) { j.prior = 1 },
		"layout":        func(j *journal) { j.text = 0 },
		"layout ":       func(j *journal) { j.textSize = 0x2001 },
		"records":       func(j *journal) { j.records = nil },
		"text":          func(j *journal) { j.name = "a\nb" },
		"text ":         func(j *journal) { j.patch = strings.Repeat("x", maxText+1) },
		"function 1":    func(j *journal) { j.records[1].skip = 3 },
		"function 0":    func(j *journal) { j.records[0].size = 0 },
		"crosses":       func(j *journal) { j.records[0].function -= 3 },
		"overlap":       func(j *journal) { j.records[0].size = 65 },
		"elsewhere":     func(j *journal) { j.textSize = 1 },
		"elsewhere ":    func(j *journal) { j.records[0].after[0] = 0xeb },
		"overlap ":      func(j *journal) { j.records[1].function = j.records[0].function },
		"function 2":    func(j *journal) { j.records[2].function = addressEnd },
		"layout   ":     func(j *journal) { j.unwindSize = 0x801 },
		"layout    ":    func(j *journal) { j.unwind = 1 },
		"layout  ":      func(j *journal) { j.data = j.size + pageSize },
		"area of a GiB": func(j *journal) { j.size = maxArea + pageSize },
	} {
		t.Run(name, func(t *testing.T) {
			j := sampleJournal()
			change(j)
			_, err := j.encode(Prepared)
			qt.Assert(t, qt.ErrorMatches(err, ".*"+strings.TrimSuffix(strings.TrimSpace(name), " of a GiB")+".*"))
		})
	}
}

func FuzzDecodeJournal(f *testing.F) {
	b, err := sampleJournal().encode(Applying)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:headerSize])
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, ok := journalLength(b); ok && n == len(b) {
			sum := checksum(b) // so that the fuzzer gets past it
			copy(b[32:], sum[:])
		}
		j, state, err := decodeJournal(b, 0x7f0000200000)
		if (err == nil) == (j == nil) {
			t.Fatal("error xor value")
		}
		if err != nil {
			return
		}
		again, err := j.encode(state)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("not the same again: %v", err)
		}
	})
}
