// SPDX-License-Identifier: Apache-2.0

package dso_test

import (
	"debug/elf"
	"os"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/dso"
)

const libc = "/lib/x86_64-linux-gnu/libc.so.6"

func open(t testing.TB, path string) *dso.File {
	t.Helper()
	r, err := os.Open(path)
	if err != nil {
		t.Skipf("%s is not on this system: %v", path, err)
	}
	t.Cleanup(func() { r.Close() })
	f, err := dso.Open(r)
	qt.Assert(t, qt.IsNil(err))
	return f
}

func TestALibraryIsRead(t *testing.T) {
	t.Parallel()
	f := open(t, libc)
	qt.Check(t, qt.Equals(f.Type, elf.ET_DYN))
	qt.Check(t, qt.Equals(f.Soname, "libc.so.6"))
	qt.Check(t, qt.HasLen(f.BuildID, 40))
	s, ok, err := f.Lookup("memcpy", "GLIBC_2.14", dso.ForCall)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsTrue(ok))
	qt.Check(t, qt.Equals(s.Type, elf.STT_GNU_IFUNC))
	_, err = f.Slots()
	qt.Assert(t, qt.IsNil(err))
	eh, err := f.EHFrame()
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(f.Own(eh.Start)))
}
