// SPDX-License-Identifier: Apache-2.0

package pagemap_test

import (
	"os"
	"testing"
	"unsafe"

	"github.com/go-quicktest/qt"
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/process/pagemap"
	"github.com/tsugi-project/tsugi/internal/testenv/need"
)

// TestPagesThatAreThere: of our own memory, what was written is there, what was
// not isn't, nor what is not mapped.
func TestPagesThatAreThere(t *testing.T) {
	const page, pages = 4096, 1500
	mem, err := unix.Mmap(-1, 0, (pages+1)*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	qt.Assert(t, qt.IsNil(err))
	defer unix.Munmap(mem)
	_ = unix.Madvise(mem, unix.MADV_NOHUGEPAGE)
	at := uint64(uintptr(unsafe.Pointer(&mem[0])))
	for _, i := range []int{0, 1, 2, 4} {
		mem[i*page] = 1
	}
	for i := 600; i < pages; i++ {
		mem[i*page] = 1
	}
	f, err := pagemap.Open(os.Getpid(), os.Getpid())
	if err != nil {
		need.Allowed(t, "no pagemap: ", err)
	}
	defer f.Close()
	for _, tt := range []struct {
		name             string
		off, size, there uint64
	}{
		{"one byte", 5, 1, 1},
		{"over the end of a page", page - 1, 2, 2},
		{"three pages", 0, 3 * page, 3 * page},
		{"up to one that is not there", 100, 3 * page, 3*page - 100},
		{"one that is not there", 3 * page, page, 0},
		{"behind it", 4*page + 7, 8, 8},
		{"more than are asked for at a time", 600 * page, 900 * page, 900 * page},
		{"nothing", 0, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			qt.Check(t, qt.Equals(f.Readable(at+tt.off, tt.size), tt.there))
			qt.Check(t, qt.Equals(f.Writable(at+tt.off, tt.size), tt.there))
		})
	}
	qt.Check(t, qt.Equals(f.Readable(at+600*page, 1<<30), 900*page), qt.Commentf("the last page is not there"))
	qt.Check(t, qt.Equals(f.Readable(1<<63, 8), 0))
	qt.Check(t, qt.Equals(f.Readable(1<<64-4, 8), 0))
	qt.Check(t, qt.IsFalse(f.Guards(at, pages*page)))
	const madvGuardInstall = 102
	if unix.Madvise(mem[7*page:8*page], madvGuardInstall) == nil && f.Guards(at+7*page, 1) { // the kernel knows them, and tells
		qt.Check(t, qt.IsTrue(f.Guards(at, pages*page)))
		qt.Check(t, qt.IsFalse(f.Guards(at, 7*page)))
	}
	var none *pagemap.File
	qt.Check(t, qt.IsFalse(none.Guards(at, 1)))
	qt.Check(t, qt.Equals(none.Readable(at, 1), 0))
	none.Close()
	_, err = pagemap.Open(1<<22, 1<<22)
	qt.Check(t, qt.IsNotNil(err))
}
