// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
)

func TestStatIsRead(t *testing.T) {
	const tail = " S 7 8 9 0 -1 2097472 5 6 7 8 9 10 11 12 20 0 3 0 4242 1000 20 184 400 500 600 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 11 12 13 701 702 703 704 0\n"
	for _, c := range []struct {
		name, text string
		comm       string
		cpu        int
		bad        bool
	}{
		{"plain", "12 (sh)" + tail, "sh", 1, false},
		{"a name that looks like more", "12 (a) R 1 (b)" + tail, "a) R 1 (b", 1, false},
		{"a name with a newline", "12 (a\nb)" + tail, "a\nb", 1, false},
		{"of an old kernel", "12 (sh)" + tail[:strings.Index(tail, " 17 1 ")], "sh", -1, false},
		{"empty", "", "", 0, true},
		{"no name", "12 sh S 1", "", 0, true},
		{"cut off", "12 (sh) S 7 8", "", 0, true},
		{"no numbers", "12 (sh)" + strings.ReplaceAll(tail, "4242", "x"), "", 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := parseStat([]byte(c.text))
			if c.bad {
				qt.Assert(t, qt.IsNotNil(err))
				return
			}
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(s, stat{
				comm: c.comm, state: 'S', parent: 7, flags: 2097472, start: 4242, tasks: 3, cpu: c.cpu,
				image: image{code: 400, stack: 600},
			}))
			qt.Check(t, qt.IsTrue(s.kernel()))
		})
	}
}

func TestStatusIsRead(t *testing.T) {
	s, err := parseStatus([]byte("Name:\ta:\tb\nState:\tt (tracing stop)\nPPid:\t3\nTracerPid:\t9\nUid:\t1\t2\t3\t4\nNSpid:\t5\t1\nThreads:\t8\nCapEff:\t000001ffffffffff\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t3\n"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(s, Status{
		Name: "a:\tb", State: Traced, PPID: 3, Threads: 8, TracerPID: 9, UID: [4]uint32{1, 2, 3, 4}, NSPID: []int{5, 1},
		Seccomp: SeccompFilter, Filters: 3, NoNewPrivs: true, CapEff: 0x1ffffffffff,
	}))
	for _, text := range []string{"", "Name:\tx\n", "State:\t\nTracerPid:\t1\nThreads:\t1\n", "State:\tR\nTracerPid:\t-1\nThreads:\t1\n", "State:\tR\nTracerPid:\t1\nThreads:\t1\nUid:\t1\n"} {
		_, err := parseStatus([]byte(text))
		qt.Check(t, qt.IsNotNil(err), qt.Commentf("%q", text))
	}
}

const mapsText = `55d3c0000000-55d3c0001000 r--p 00000000 fe:00 131 /usr/bin/cat
55d3c0001000-55d3c0006000 r-xp 00001000 fe:00 131                        /usr/bin/cat
7f2a00000000-7f2a00021000 rw-p 00000000 00:00 0 
7f2a10000000-7f2a10001000 rw-s 00000000 00:05 12                         /dev/zero (deleted)
7f2a20000000-7f2a20001000 r--p 00000000 103:02 18446744073709551605 /a b\012c (deleted)
7ffd5e5fb000-7ffd5e61c000 rw-p 00000000 00:00 0                          [stack]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
`

func TestMapsAreRead(t *testing.T) {
	maps, err := parseMaps(strings.NewReader(mapsText))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(maps, 7))
	qt.Check(t, qt.Equals(maps[1], Mapping{
		Start: 0x55d3c0001000, End: 0x55d3c0006000, Read: true, Exec: true,
		Offset: 0x1000, Dev: 0xfe << 32, Inode: 131, Path: "/usr/bin/cat",
	}))
	qt.Check(t, qt.IsFalse(maps[2].File()))
	qt.Check(t, qt.IsTrue(maps[3].Deleted && maps[3].Shared && maps[3].File()))
	qt.Check(t, qt.Equals(maps[4].Path, `/a b\012c`))
	qt.Check(t, qt.Equals(maps[4].Dev, 0x103<<32|2))
	qt.Check(t, qt.Equals(maps[5].Path, "[stack]"))
	line := strings.Split(mapsText, "\n")[0]
	for name, text := range map[string]string{
		"no numbers":         "hello\n",
		"cut off":            line[:20] + "\n",
		"end before start":   "2000-1000 r--p 00000000 00:00 0\n",
		"not in order":       line + "\n" + line + "\n",
		"a number too large": "1-11111111111111111 r--p 0 00:00 0\n",
		"a line too long":    line + strings.Repeat("x", maxMapsLine) + "\n",
		"signs":              "-1-2 r--p 0 00:00 0\n",
	} {
		_, err := parseMaps(strings.NewReader(text))
		qt.Check(t, qt.IsNotNil(err), qt.Commentf("%s", name))
	}
}

func FuzzMaps(f *testing.F) {
	f.Add([]byte(mapsText))
	f.Add([]byte("0-1 r-xp 0 0:0 0"))
	f.Fuzz(func(t *testing.T, b []byte) {
		maps, err := parseMaps(bytes.NewReader(b))
		if err != nil && maps != nil && len(maps) > MaxMappings {
			t.Fatal("more than allowed")
		}
		last := uint64(0)
		for _, m := range maps {
			if m.Start < last || m.End <= m.Start {
				t.Fatalf("out of order: %+v", m)
			}
			last = m.End
		}
	})
}

func FuzzHeader(f *testing.F) {
	if b, err := os.ReadFile("/proc/self/exe"); err == nil {
		f.Add(b[:min(len(b), 8192)], uint64(0x400000))
	}
	f.Add([]byte("\x7fELF\x02\x01\x01"), uint64(0))
	f.Fuzz(func(t *testing.T, b []byte, base uint64) {
		base &= 1<<47 - page
		h, err := readHeader(shifted{bytes.NewReader(b), base}, base)
		if err == nil && (len(h.buildID) > 128 || len(h.exec) > maxSegments || h.end < h.low) {
			t.Fatalf("%+v", h)
		}
		if p, ok := objectsOf(shifted{bytes.NewReader(b), base}, []Mapping{{Start: base, End: base + 1<<20, Read: true, Exec: true, Inode: 1}}, base); ok == nil && len(p) > 1 {
			t.Fatal("two objects of one mapping")
		}
	})
}

// shifted is a reader whose first byte lies at base.
type shifted struct {
	r    *bytes.Reader
	base uint64
}

func (s shifted) ReadAt(b []byte, off int64) (int, error) {
	return s.r.ReadAt(b, off-int64(s.base))
}

func FuzzStat(f *testing.F) {
	f.Add([]byte("12 (a) R 1 (b) S 7 8 9 0 -1 2097472 5 6 7 8 9 10 11 12 20 0 3 0 4242 1000 20 184 400 500 600 0"))
	f.Add([]byte("Name:\ta\nState:\tR\nTracerPid:\t1\nThreads:\t1\nUid:\t1 2 3 4\n"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = parseStat(b)
		_, _ = parseStatus(b)
	})
}

func TestParseCall(t *testing.T) {
	for line, want := range map[string]Call{
		"running":           {Number: -2},
		"":                  {Number: -2},
		"-1 0x7ffc 0x7f01":  {-1, 0x7ffc, 0x7f01},
		"-1 0x7ffc nowhere": {Number: -2},
		"0 0x0 0x1 0x1 0x0 0x0 0x0 0x7ffc 0x7f01": {0, 0x7ffc, 0x7f01},
	} {
		qt.Check(t, qt.Equals(parseCall(line), want), qt.Commentf("%q", line))
	}
}

func TestTaskOfOurOwn(t *testing.T) {
	pid := os.Getpid()
	s, ok := TaskStat(pid, pid)
	qt.Assert(t, qt.IsTrue(ok))
	qt.Check(t, qt.Equals(s.Parent, os.Getppid()))
	qt.Check(t, qt.IsFalse(s.Kernel || s.Exiting || s.State.Ended()))
	status, ok := TaskStatus(pid, pid)
	qt.Assert(t, qt.IsTrue(ok))
	qt.Check(t, qt.Equals(status.PPID, s.Parent))
	_, ok = TaskStat(pid, 1<<30)
	qt.Check(t, qt.IsFalse(ok))
	_, ok = TaskStatus(pid, 1<<30)
	qt.Check(t, qt.IsFalse(ok))
}

func TestKernelsThatMarkWorkers(t *testing.T) {
	for release, want := range map[string]bool{
		"5.10.0-28-amd64": false, "5.12": true, "5.12-rc4": true, "5.4.0": false, "6.1.0-55-amd64": true, "6.12.115+deb12-amd64": true,
		"4.18.0-553.el8": false, "10.0": true, "": false, "next": false,
	} {
		qt.Check(t, qt.Equals(marksWorkers(release), want), qt.Commentf("%s", release))
	}
}

func TestWhatLiesBeneathARoot(t *testing.T) {
	for _, c := range []struct{ root, path, want string }{
		{"/", "/usr/lib/libssl.so.3", "/usr/lib/libssl.so.3"},
		{"/srv/root", "/srv/root/usr/lib/libssl.so.3", "/usr/lib/libssl.so.3"},
		{"/srv/root", "/srv/root2/usr/lib/libssl.so.3", ""},
		{"/var/empty", "/usr/lib/libssl.so.3", ""},
	} {
		got, ok := beneath(c.root, c.path)
		qt.Check(t, qt.Equals(ok, c.want != ""), qt.Commentf("%+v", c))
		if ok {
			qt.Check(t, qt.Equals(got, c.want))
		}
	}
}
