// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/unwind"
)

// layoutOf reads how a process lies in memory, from its maps and files.
func layoutOf(t testing.TB, pid int) Layout {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	qt.Assert(t, qt.IsNil(err))
	l := Layout{PID: pid}
	tables := map[string]*unwind.Table{}
	for line := range strings.Lines(string(maps)) {
		f := strings.Fields(line)
		from, to, _ := strings.Cut(f[0], "-")
		start, _ := strconv.ParseUint(from, 16, 64)
		end, _ := strconv.ParseUint(to, 16, 64)
		offset, _ := strconv.ParseUint(f[2], 16, 64)
		name := ""
		if len(f) > 5 {
			name = f[5]
		}
		if name == "[stack]" {
			l.MainStackEnd = end
		}
		if !strings.Contains(f[1], "x") || !strings.HasPrefix(name, "/") && name != "[vdso]" {
			continue
		}
		var file *elf.File
		if name == "[vdso]" {
			image := make([]byte, end-start)
			_, err := Memory{pid}.ReadAt(image, int64(start))
			qt.Assert(t, qt.IsNil(err))
			file, err = elf.NewFile(bytes.NewReader(image))
			qt.Assert(t, qt.IsNil(err))
		} else if file, err = elf.Open(name); err != nil {
			continue
		}
		for _, p := range file.Progs {
			if p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 && p.Off&^0xfff <= offset && offset < p.Off+p.Filesz {
				bias := start - offset + p.Off - p.Vaddr
				if tables[name] == nil {
					tables[name] = table(t, file)
				}
				l.Objects = append(l.Objects, Object{Name: filepath.Base(name), Start: start, End: end, Bias: bias, Table: tables[name]})
			}
		}
		file.Close()
	}
	return l
}

// tasks are the threads of a process.
func tasks(t testing.TB, pid int) []int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	qt.Assert(t, qt.IsNil(err))
	var all []int
	for _, e := range entries {
		tid, err := strconv.Atoi(e.Name())
		qt.Assert(t, qt.IsNil(err))
		all = append(all, tid)
	}
	return all
}

// table makes the unwind table of a file as the engine does: by the program
// headers.
func table(t testing.TB, file *elf.File) *unwind.Table {
	t.Helper()
	read := func(addr, n uint64) []byte {
		for _, p := range file.Progs {
			if p.Type == elf.PT_LOAD && addr >= p.Vaddr && addr < p.Vaddr+p.Filesz {
				b, err := io.ReadAll(io.NewSectionReader(p, int64(addr-p.Vaddr), int64(min(n, p.Vaddr+p.Filesz-addr))))
				qt.Assert(t, qt.IsNil(err))
				return b
			}
		}
		return nil
	}
	for _, p := range file.Progs {
		if p.Type != elf.PT_GNU_EH_FRAME {
			continue
		}
		hdr := read(p.Vaddr, p.Filesz)
		at, err := unwind.FrameAddress(hdr, p.Vaddr)
		qt.Assert(t, qt.IsNil(err))
		table, err := unwind.ParseHeader(hdr, p.Vaddr, read(at, 1<<30), at)
		qt.Assert(t, qt.IsNil(err))
		return table
	}
	return nil
}
