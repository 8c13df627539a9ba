// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"bufio"
	"debug/elf"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/testenv/need"
)

var names = [Registers]string{"rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "ra"}

// sections reads .eh_frame and .eh_frame_hdr of a file.
func sections(t testing.TB, path string) (frame []byte, addr uint64, hdr []byte, hdrAddr uint64) {
	t.Helper()
	f, err := elf.Open(path)
	qt.Assert(t, qt.IsNil(err))
	defer f.Close()
	for _, s := range f.Sections {
		switch s.Name {
		case ".eh_frame":
			frame, err = s.Data()
			addr = s.Addr
		case ".eh_frame_hdr":
			hdr, err = s.Data()
			hdrAddr = s.Addr
		}
		qt.Assert(t, qt.IsNil(err))
	}
	return frame, addr, hdr, hdrAddr
}

// libraries are real files that this machine has.
func libraries(t testing.TB) []string {
	var there []string
	for _, pattern := range []string{
		"/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2", "/usr/lib/x86_64-linux-gnu/libcrypto.so.3",
		"/usr/lib/x86_64-linux-gnu/libssl.so.3", "/usr/lib/x86_64-linux-gnu/libstdc++.so.6", "/usr/lib/postgresql/*/bin/postgres", "/usr/bin/gdb",
	} {
		found, _ := filepath.Glob(pattern)
		there = append(there, found...)
	}
	if len(there) == 0 {
		need.Allowed(t, "none of the libraries is installed")
	}
	return there
}

// TestRowsAreThoseOfReadelf compares every row of real files with what binutils
// makes of it.
func TestRowsAreThoseOfReadelf(t *testing.T) {
	t.Parallel()
	readelf := need.Program(t, "readelf")
	for _, path := range libraries(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			frame, addr, hdr, hdrAddr := sections(t, path)
			table, err := Parse(frame, addr)
			qt.Assert(t, qt.IsNil(err))
			indexed, err := ParseHeader(hdr, hdrAddr, append(frame, 0xff, 0xff, 0xff), addr)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(table.Skipped(), 0))
			qt.Check(t, qt.Equals(indexed.Len(), table.Len()))
			at, err := FrameAddress(hdr, hdrAddr)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(at, addr))

			cmd := exec.CommandContext(t.Context(), readelf, "--debug-dump=frames-interp", "--debug-dump=no-follow-links", path)
			out, err := cmd.StdoutPipe()
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.IsNil(cmd.Start()))
			rows, bad := compare(t, bufio.NewScanner(out), table, indexed)
			qt.Assert(t, qt.IsNil(cmd.Wait()))
			t.Logf("%d entries, %d rows, %d differences", table.Len(), rows, bad)
			qt.Check(t, qt.Equals(bad, 0))
			qt.Check(t, qt.IsTrue(rows >= table.Len()/2))
		})
	}
}

func compare(t *testing.T, in *bufio.Scanner, tables ...*Table) (rows, bad int) {
	var columns []string
	inFDE := false
	var start, end uint64
	for in.Scan() {
		f := strings.Fields(in.Text())
		switch {
		case len(f) == 0:
			inFDE = false
		case len(f) >= 6 && f[3] == "FDE":
			from, to, _ := strings.Cut(strings.TrimPrefix(f[5], "pc="), "..")
			start, _ = strconv.ParseUint(from, 16, 64)
			end, _ = strconv.ParseUint(to, 16, 64)
			inFDE, columns = end > start, nil
		case inFDE && f[0] == "LOC":
			columns = f[1:]
		case inFDE && len(columns) > 0 && len(f) == len(columns)+1:
			loc, err := strconv.ParseUint(f[0], 16, 64)
			if err != nil || loc >= end {
				continue // a row behind the last instruction
			}
			rows++
			for _, table := range tables {
				row, err := table.Row(loc)
				if err != nil {
					t.Errorf("%#x: %v", loc, err)
					bad++
					continue
				}
				for i, c := range columns {
					if got, want := describe(&row, c), f[i+1]; got != want {
						if bad++; bad < 10 {
							t.Errorf("%#x %s: %s, readelf says %s", loc, c, got, want)
						}
					}
				}
			}
		}
	}
	return rows, bad
}

// describe writes a rule as readelf does.
func describe(row *Row, column string) string {
	if column == "CFA" {
		switch row.CFA.Kind {
		case InRegister:
			return fmt.Sprintf("%s%+d", names[row.CFA.Reg], row.CFA.Offset)
		case IsExpression:
			return "exp"
		}
		return "?"
	}
	for i, n := range names {
		if n != column {
			continue
		}
		switch r := row.Rules[i]; r.Kind {
		case Unspecified, Undefined:
			return "u"
		case Same:
			return "s"
		case AtCFA:
			return fmt.Sprintf("c%+d", r.Offset)
		case IsCFA:
			return fmt.Sprintf("v%+d", r.Offset)
		case InRegister:
			return names[r.Reg]
		case AtExpression:
			return "exp"
		case IsExpression:
			return "vexp"
		}
	}
	return "u"
}

func BenchmarkParse(b *testing.B) {
	for _, path := range libraries(b) {
		frame, addr, _, _ := sections(b, path)
		b.Run(filepath.Base(path), func(b *testing.B) {
			for b.Loop() {
				if _, err := Parse(frame, addr); err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(int64(len(frame)))
		})
	}
}

func BenchmarkRow(b *testing.B) {
	frame, addr, _, _ := sections(b, libraries(b)[0])
	table, err := Parse(frame, addr)
	qt.Assert(b, qt.IsNil(err))
	i := 0
	for b.Loop() {
		e := table.entries[i%len(table.entries)]
		if _, err := table.Row(e.start + (e.end-e.start)/2); err != nil {
			b.Fatal(err)
		}
		i++
	}
}
