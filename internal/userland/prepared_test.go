// SPDX-License-Identifier: Apache-2.0

package userland

import (
	"debug/elf"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
)

// prepared adds a target to the store of this machine, or takes it from there.
// Without TSUGI_TEST_USERLAND, which may take an hour and a gigabyte, it skips.
func prepared(t *testing.T, name string) *Target {
	t.Helper()
	if os.Getenv("TSUGI_TEST_USERLAND") == "" {
		t.Skip("TSUGI_TEST_USERLAND is not set")
	}
	home, err := kernel.Home()
	qt.Assert(t, qt.IsNil(err))
	s, err := OpenStore(home)
	qt.Assert(t, qt.IsNil(err))
	target, err := s.Add(t.Context(), name, AddOptions{}, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	return target
}

func fileOf(t *testing.T, target *Target, base string) *Shipped {
	t.Helper()
	i := slices.IndexFunc(target.Files, func(s Shipped) bool { return path.Base(s.Path) == base })
	qt.Assert(t, qt.IsTrue(i >= 0), qt.Commentf("%s has no %s", target.Name, base))
	return &target.Files[i]
}

func TestOpenSSLIsBuiltAgainIdentically(t *testing.T) {
	for name, ids := range map[string]map[string]string{
		"debian:libssl3=3.0.20-1~deb12u2": {"libcrypto.so.3": "7d90f384", "libssl.so.3": "aa0eeee4"},
		"debian:libssl3=3.0.17-1~deb12u2": {"libcrypto.so.3": "", "libssl.so.3": ""},
	} {
		t.Run(name, func(t *testing.T) {
			target := prepared(t, name)
			for base, id := range ids {
				f := fileOf(t, target, base)
				qt.Check(t, qt.IsTrue(f.Identical), qt.Commentf("%s: %s", base, f.Differs))
				qt.Check(t, qt.IsTrue(strings.HasPrefix(f.BuildID, id)))
				qt.Check(t, qt.Equals(f.SymbolsFrom, SymbolsRebuilt))
				linked := target.Commands().LinkedInto(f.RebuiltInside)
				qt.Check(t, qt.IsTrue(len(linked) > 40), qt.Commentf("%d objects", len(linked)))
				for _, object := range linked {
					_, ok := target.Commands().OfObject(object)
					qt.Check(t, qt.IsTrue(ok), qt.Commentf("no command made %s", object))
				}
			}
		})
	}
}

// What a recorded command makes of a source has to be what the distribution
// shipped, here of functions that lie in one piece and refer to little.
func TestRecordedCommandsMakeTheShippedFunctions(t *testing.T) {
	for _, test := range []struct{ target, file, object, function string }{
		{"debian:libssl3=3.0.20-1~deb12u2", "libcrypto.so.3", "libcrypto-shlib-pk7_smime.o", "PKCS7_verify"},
		{"debian:libc6=2.36-9+deb12u7", "libc.so.6", "posix/regex.os", "regcomp"},
		{"debian:libc6=2.36-9+deb12u7", "libc.so.6", "malloc/malloc.os", "_int_memalign"},
		{"debian:postgresql-15=15.18-0+deb12u1", "postgres", "utils/adt/arrayfuncs.o", "array_in"},
		{"debian:mariadb-server=1:10.11.18-0+deb12u1", "mariadbd", "sql_parse.cc.o", "_Z16dispatch_command19enum_server_commandP3THDPcjb"},
	} {
		t.Run(test.function, func(t *testing.T) {
			target := prepared(t, test.target)
			f := fileOf(t, target, test.file)
			i := slices.IndexFunc(target.Commands().Compiles, func(c Command) bool {
				return strings.HasSuffix(c.Object, test.object) && !strings.Contains(c.Object, "embedded")
			})
			qt.Assert(t, qt.IsTrue(i >= 0))
			c := target.Commands().Compiles[i]
			scratch := t.TempDir()
			out, err := target.Run(t.Context(), Run{Argv: c.Argv, Dir: c.Dir, Scratch: scratch})
			qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", out))
			object := filepath.Join(scratch, "upper", strings.TrimPrefix(c.Object, target.BuildPath))
			differ, of := compareFunction(t, f, object, test.function)
			qt.Check(t, qt.Equals(differ, 0), qt.Commentf("of %d bytes", of))
		})
	}
}

// compareFunction counts the bytes of a function that differ between an object
// and a shipped file outside of what relocations fill in.
func compareFunction(t *testing.T, f *Shipped, object, name string) (differ, of int) {
	t.Helper()
	o, err := elf.Open(object)
	qt.Assert(t, qt.IsNil(err))
	defer o.Close()
	symbols, err := o.Symbols()
	qt.Assert(t, qt.IsNil(err))
	i := slices.IndexFunc(symbols, func(s elf.Symbol) bool { return s.Name == name && elf.ST_TYPE(s.Info) == elf.STT_FUNC })
	qt.Assert(t, qt.IsTrue(i >= 0))
	sym := symbols[i]
	section := o.Sections[sym.Section]
	made, err := section.Data()
	qt.Assert(t, qt.IsNil(err))
	masked := make([]bool, len(made))
	for _, r := range o.Sections {
		if r.Type != elf.SHT_RELA || r.Info != uint32(sym.Section) {
			continue
		}
		b, err := r.Data()
		qt.Assert(t, qt.IsNil(err))
		for ; len(b) >= 24; b = b[24:] {
			at := o.ByteOrder.Uint64(b)
			for j := at - 2; j < at+4 && j < uint64(len(masked)); j++ { // the linker may relax the opcode before it
				masked[j] = true
			}
		}
	}
	shipped, err := f.Symbols()
	qt.Assert(t, qt.IsNil(err))
	k := slices.IndexFunc(shipped, func(s Symbol) bool { return s.Name == name && s.Func })
	qt.Assert(t, qt.IsTrue(k >= 0), qt.Commentf("%s is not among %d symbols", name, len(shipped)))
	s, err := elf.Open(f.File)
	qt.Assert(t, qt.IsNil(err))
	defer s.Close()
	for _, p := range s.Progs {
		if p.Type != elf.PT_LOAD || shipped[k].Addr < p.Vaddr || shipped[k].Addr+sym.Size > p.Vaddr+p.Filesz {
			continue
		}
		b := make([]byte, sym.Size)
		_, err := p.ReadAt(b, int64(shipped[k].Addr-p.Vaddr))
		qt.Assert(t, qt.IsNil(err))
		for j := range b {
			if at := sym.Value + uint64(j); !masked[at] && b[j] != made[at] {
				differ++
			}
		}
		return differ, len(b)
	}
	t.Fatalf("%s lies in no segment", name)
	return 0, 0
}
