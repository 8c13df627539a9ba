// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
)

const oopsText = `[    5.101216] EXT4-fs (vda): mounted filesystem
[    5.201216] BUG: kernel NULL pointer dereference, address: 0000000000000000
[    5.201219] #PF: supervisor read access in kernel mode
[    5.201300] Oops: 0000 [#1] PREEMPT SMP NOPTI
[    5.201301] RIP: 0010:ext4_mb_load_buddy_gfp+0xbc/0x380 [ext4]
[    5.201302] RIP: 0033:0x47cc17
`

func TestCrashesAreFoundOnAConsole(t *testing.T) {
	for _, c := range []struct {
		name, console string
		want          *Crash
	}{
		{
			"an oops that the system survives", oopsText,
			&Crash{Title: "BUG: kernel NULL pointer dereference, address: 0000000000000000", Function: "ext4_mb_load_buddy_gfp", Oops: true},
		},
		{
			"an oops that ends it", oopsText + "[    5.3] Kernel panic - not syncing: Fatal exception\n",
			&Crash{Title: "BUG: kernel NULL pointer dereference, address: 0000000000000000", Function: "ext4_mb_load_buddy_gfp", Oops: true, Fatal: true},
		},
		{
			"a panic without an oops", "[    1.000000] Kernel panic - not syncing: VFS: Unable to mount root fs\r\n",
			&Crash{Title: "Kernel panic - not syncing: VFS: Unable to mount root fs", Fatal: true},
		},
		{
			"a BUG_ON", "<4>[   10.1][  T12] kernel BUG at fs/ext4/inode.c:100!\nRIP: 0010:f.isra.0+0x1/0x2\n",
			&Crash{Title: "kernel BUG at fs/ext4/inode.c:100!", Function: "f.isra.0", Oops: true},
		},
		{"a warning", "[    1.0] WARNING: CPU: 1 PID: 2 at fs/x.c:3 f+0x1/0x2\n[    1.0] RIP: 0010:f+0x1/0x2\n", nil},
		{"a report that is no end", "[    1.0] BUG: sleeping function called from invalid context at x.c:1\n", nil},
		{"a user's words", "my program says: Kernel panic - not syncing: really\n", nil},
		{"nothing", "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := FindCrash(c.console)
			if c.want == nil {
				qt.Assert(t, qt.IsNil(got))
				return
			}
			qt.Assert(t, qt.IsNotNil(got))
			qt.Check(t, qt.IsTrue(strings.HasPrefix(got.Excerpt, got.Title)))
			got.Excerpt = ""
			qt.Check(t, qt.DeepEquals(got, c.want))
		})
	}
}

func FuzzFindCrash(f *testing.F) {
	f.Add(oopsText)
	f.Fuzz(func(t *testing.T, s string) {
		if c := FindCrash(s); c != nil && (c.Title == "" || !c.Oops && !c.Fatal) {
			t.Fatalf("%+v", c)
		}
	})
}
