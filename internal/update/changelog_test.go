// SPDX-License-Identifier: Apache-2.0

package update

import (
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
)

const sample = `linux-6.12 (6.12.117-1~deb12u1) bookworm-security; urgency=high

  * Rebuild for bookworm

 -- Ben Hutchings <benh@debian.org>  Sat, 14 Nov 2026 13:56:01 +0100

linux (6.12.117-1) trixie-security; urgency=high

  * New upstream stable update:
    https://www.kernel.org/pub/linux/kernel/v6.x/ChangeLog-6.12.116
    - io-wq: order the exit bit
    - smb: client: fix OOB read/write from unvalidated DataOffset in
      coalesce_t2() (CVE-2026-89633, CVE-2026-89634)
    https://www.kernel.org/pub/linux/kernel/v6.x/ChangeLog-6.12.117
    - [arm64,armhf] scsi: hisi_sas: Fix a deadlock

  [ Salvatore Bonaccorso ]
  * xen-netback: Zero out sring pointers on unmap (CVE-2026-99287)
  * net: Backport:
    - net: one
    - net: two

 -- Salvatore Bonaccorso <carnil@debian.org>  Sat, 14 Nov 2026 11:29:58 +0100

linux (6.12.115-2) trixie-security; urgency=high

  * exec: Cleanup POSIX timers right after de_thread() (CVE-2026-98260)

 -- Salvatore Bonaccorso <carnil@debian.org>  Mon, 02 Nov 2026 11:29:58 +0100
`

func TestChangelog(t *testing.T) {
	t.Parallel()
	all, err := ParseChangelog("changelog", []byte(sample))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(all, 3))
	qt.Check(t, qt.Equals(all[1].Date, "Sat, 14 Nov 2026 11:29:58 +0100"))
	got, err := Between(all, "6.12.115-2", "6.12.117-1~deb12u1")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(got, []Item{
		{Subject: "Rebuild for bookworm"},
		{Subject: "io-wq: order the exit bit"},
		{
			Subject: "smb: client: fix OOB read/write from unvalidated DataOffset in coalesce_t2()",
			CVEs:    []string{"CVE-2026-89633", "CVE-2026-89634"},
		},
		{Subject: "scsi: hisi_sas: Fix a deadlock", Arches: []string{"arm64", "armhf"}},
		{Subject: "xen-netback: Zero out sring pointers on unmap", CVEs: []string{"CVE-2026-99287"}},
		{Subject: "net: one"},
		{Subject: "net: two"},
	}))
}

func TestBadChangelogs(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"nothing":                "",
		"prose":                  "This is no changelog.\n",
		"an entry before a head": "  * x\n",
		"no end":                 "linux (1-1) x; urgency=low\n\n  * x\n",
		"a head within":          "linux (1-1) x; urgency=low\n\n  * x\nlinux (1-0) x; urgency=low\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := ParseChangelog("changelog", []byte(text))
			qt.Check(t, qt.Equals(code.Of(err), "TS1210"))
		})
	}
	all, err := ParseChangelog("changelog", []byte(sample))
	qt.Assert(t, qt.IsNil(err))
	for _, v := range [][2]string{{"6.12.115-2", "9-9"}, {"9-9", "6.12.117-1"}, {"6.12.117-1", "6.12.115-2"}} {
		_, err := Between(all, v[0], v[1])
		qt.Check(t, qt.Equals(code.Of(err), "TS1211"))
	}
}

func FuzzParseChangelog(f *testing.F) {
	f.Add(sample)
	f.Add("linux (1-1) x; urgency=low\n\n  * [x86] a: b (CVE-2026-1234)\n\n -- a <b>  c\n")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := ParseChangelog("changelog", []byte(text))
		if (err == nil) == (all == nil) {
			t.Fatalf("%d versions and error %v", len(all), err)
		}
		for _, s := range all {
			for _, e := range s.Entries {
				if e.Subject == "" || strings.ContainsAny(e.Subject, "\r\n") {
					t.Fatalf("subject %q", e.Subject)
				}
			}
		}
	})
}
