// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"debug/elf"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/elfobj"
)

// TestAFunctionOfAnotherLength: a jump that the assembler writes in fewer bytes
// makes no other function, where the differ has found the same instructions and
// the entry has the same bytes.
func TestAFunctionOfAnotherLength(t *testing.T) {
	t.Parallel()
	symbol := func(name string, entry byte, size int) *elfobj.Symbol {
		data := append(bytes.Repeat([]byte{entry}, 9), bytes.Repeat([]byte{0x90}, size-9)...)
		return &elfobj.Symbol{Name: name, Type: elf.STT_FUNC, Size: uint64(size), Value: 16, Section: &elfobj.Section{Data: append(make([]byte, 16), data...)}}
	}
	plain := &elfobj.File{Symbols: []*elfobj.Symbol{symbol("f", 1, 301), symbol("short", 1, 9), symbol("twice", 1, 20), symbol("twice", 1, 20)}}
	for _, c := range []struct {
		name string
		of   *elfobj.Symbol
		same bool
		want code.Code
	}{
		{"as it is", symbol("f", 1, 301), false, ""},
		{"shorter, the same instructions", symbol("f", 1, 298), true, ""},
		{"shorter, not compared", symbol("f", 1, 298), false, "TS3510"},
		{"another entry", symbol("f", 2, 298), true, "TS3510"},
		{"too short to tell", symbol("short", 1, 10), true, "TS3510"},
		{"another name", symbol("g", 1, 301), true, "TS3510"},
		{"two of the name", symbol("twice", 1, 20), true, "TS3510"},
	} {
		_, err := plainFunction(plain, c.of, c.same)
		qt.Check(t, qt.Equals(code.Of(err), c.want), qt.Commentf("%s", c.name))
	}
	_, err := plainSymbol(plain, symbol("f", 1, 298))
	qt.Check(t, qt.Equals(code.Of(err), "TS3510"))
}
