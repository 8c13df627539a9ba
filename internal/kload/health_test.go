// SPDX-License-Identifier: Apache-2.0

package kload_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"pgregory.net/rapid"

	"github.com/tsugi-project/tsugi/internal/hostinfo"
	"github.com/tsugi-project/tsugi/internal/kload"
)

// loaded is the live patch that the logs of testdata are about.
func loaded() []hostinfo.Livepatch {
	return []hostinfo.Livepatch{{Name: "tsugi_bad", Enabled: true, Objects: []hostinfo.LivepatchObject{
		{Name: "ext4", Functions: []hostinfo.LivepatchFunction{{Name: "ext4_rmdir", SymPos: 1}}},
		{Name: "vmlinux", Functions: []hostinfo.LivepatchFunction{{Name: "cmdline_proc_show", SymPos: 1}, {Name: "do_it", SymPos: 1}}},
	}}}
}

func records(t testing.TB, name string) []kload.Record {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata/logs", name))
	qt.Assert(t, qt.IsNil(err))
	var out []kload.Record
	for l := range bytes.Lines(b) {
		r, err := kload.ParseRecord(l)
		qt.Assert(t, qt.IsNil(err))
		out = append(out, r)
	}
	return out
}

func TestTroubleInTheLog(t *testing.T) {
	for _, c := range []struct {
		log  string
		want []string // kind, function, whether it happened there
	}{
		{"quiet", nil},
		{"warning-in-patch", []string{"warning cmdline_proc_show true"}},
		{"warning-foreign", []string{"warning  false"}},
		{"bug-in-patch", []string{"oops cmdline_proc_show true"}},
		{"fault-below-patch", []string{"oops ext4_rmdir false"}},
		{"hung-task", []string{"stall ext4_rmdir false", "stall  false"}},
		{"two-processors", []string{"warning cmdline_proc_show false", "warning  false"}},
		{"refused-module", []string{"patch  false", "patch tsugi_bad false"}},
		{"new-form", []string{"warning cmdline_proc_show true", "warning  false"}},
	} {
		t.Run(c.log, func(t *testing.T) {
			h := kload.NewHealth(loaded())
			for _, r := range records(t, c.log) {
				h.Add(r)
			}
			_, ours := h.Ours()
			any := false
			var got []string
			for _, x := range h.Take(-1) {
				got = append(got, fmt.Sprintf("%s %s %v", x.Kind, x.Function, x.At))
				any = any || x.Ours()
				qt.Check(t, qt.Not(qt.Equals(x.Text, "")))
			}
			qt.Check(t, qt.DeepEquals(got, c.want))
			qt.Check(t, qt.Equals(ours, any))
			qt.Check(t, qt.HasLen(h.Take(-1), 0))
		})
	}
}

func TestTroubleIsKnownBeforeItsReportEnds(t *testing.T) {
	h := kload.NewHealth(loaded())
	for _, r := range records(t, "warning-in-patch")[:4] {
		h.Add(r)
	}
	qt.Check(t, qt.HasLen(h.Take(28200*time.Millisecond), 0))
	x, ok := h.Ours()
	qt.Check(t, qt.IsTrue(ok))
	qt.Check(t, qt.Equals(x.Function, "cmdline_proc_show"))
	// Nothing comes any more: two seconds end it.
	qt.Check(t, qt.HasLen(h.Take(31*time.Second), 1))
}

// TestTheWorstIsTold: of several reports about a live patch.
func TestTheWorstIsTold(t *testing.T) {
	h := kload.NewHealth(loaded())
	for _, log := range []string{"warning-in-patch", "bug-in-patch", "hung-task"} {
		for _, r := range records(t, log) {
			h.Add(r)
		}
	}
	x, _ := h.Ours()
	qt.Check(t, qt.Equals(x.Kind, kload.Oops))
	qt.Check(t, qt.Equals(x.Text, "kernel BUG at fs/proc/cmdline.c:10!"))
}

// TestALogWithoutEndIsBounded: someone may fill the log on purpose.
func TestALogWithoutEndIsBounded(t *testing.T) {
	h := kload.NewHealth(loaded())
	for i := range 100_000 {
		h.Add(kload.Record{Kernel: true, Level: 4, Caller: fmt.Sprint("T", i%1000), Time: time.Duration(i), Text: "WARNING: CPU: 1 PID: 1 at x.c:1 f+0x1/0x2"})
		h.Add(kload.Record{Kernel: true, Level: 4, Caller: fmt.Sprint("T", i%1000), Time: time.Duration(i), Text: " g+0x1/0x2"})
	}
	n := 0
	all := h.Take(-1)
	for _, x := range all {
		n += len(x.Lines)
	}
	qt.Check(t, qt.IsTrue(len(all) <= 256 && n <= 256*200), qt.Commentf("%d reports, %d lines", len(all), n))
}

func TestReportsInAnyMixture(t *testing.T) {
	var lines []string
	for _, log := range []string{"quiet", "warning-in-patch", "warning-foreign", "bug-in-patch", "fault-below-patch", "hung-task", "refused-module", "new-form"} {
		for _, r := range records(t, log) {
			lines = append(lines, r.Text)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		h := kload.NewHealth(loaded())
		now := time.Duration(0)
		for range rapid.IntRange(0, 60).Draw(t, "records") {
			now += time.Duration(rapid.IntRange(0, 3000).Draw(t, "pause")) * time.Millisecond
			h.Add(kload.Record{
				Kernel: true, Level: 4, Time: now, Caller: rapid.SampledFrom([]string{"", "T1"}).Draw(t, "caller"),
				Text: rapid.SampledFrom(lines).Draw(t, "text"),
			})
		}
		for _, x := range h.Take(-1) {
			if x.Kind == "" || x.Text == "" || len(x.Lines) == 0 || x.At && x.Function == "" {
				t.Fatalf("%+v", x)
			}
		}
	})
}

func TestFramesOfStacks(t *testing.T) {
	for _, c := range []struct {
		line, function, module string
		ok                     bool
	}{
		{"[<0>] tsugi_wait+0x11d/0x150 [tsugi_hold]", "tsugi_wait", "tsugi_hold", true},
		{"[<0>] do_wait+0x114/0x320", "do_wait", "", true},
		{" vfs_read+0x23f/0x310", "vfs_read", "", true},
		{" ? vfs_read+0x23f/0x310", "", "", false},
		{" do_compat_epoll_pwait.part.0+0xb/0x80", "do_compat_epoll_pwait.part.0", "", true},
		{"RIP: 0010:f+0x5d/0xff0 [tsugi_bad]", "f", "tsugi_bad", true},
		{"RIP: 0033:0x47b6fd", "", "", false},
		{" f+0x1/0x2 [ext4 0123456789abcdef0123456789abcdef01234567]", "f", "ext4", true},
		{"WARNING: CPU: 1 PID: 99 at x.c:9 f+0x5d/0xff0 [m]", "f", "m", true},
		{"WARNING: x.c:9 at f+0x5d/0xff0, CPU#1: cat/99", "f", "", true},
		{"[<0>] 0xffffffffc0000000", "", "", false},
		{"+0x1/0x2", "", "", false},
		{"f+0x/0x2", "", "", false},
		{"f+0x1", "", "", false},
		{"", "", "", false},
	} {
		fn, module, ok := kload.ParseFrame(c.line)
		qt.Check(t, qt.Equals(fmt.Sprint(fn, " ", module, " ", ok), fmt.Sprint(c.function, " ", c.module, " ", c.ok)), qt.Commentf("%q", c.line))
	}
}

func TestStatesOfTasks(t *testing.T) {
	for _, c := range []struct {
		stat, state string
		kernel      bool
	}{
		{"94 (tsugi_holder) S 2 0 0 0 -1 2129984 0 0 0", "S", true},
		{"99 (sh) S 1 99 99 0 -1 4194304 1543 9320 0 0", "S", false},
		{"99 (a) R 1 (b) D 1 99 99 0 -1 4194304 1543", "D", false},
		{"99 (sh) S 1", "", false},
		{"99 sh", "", false},
		{"", "", false},
	} {
		state, kernel := kload.ParseStat(c.stat)
		qt.Check(t, qt.Equals(state, c.state), qt.Commentf("%q", c.stat))
		qt.Check(t, qt.Equals(kernel, c.kernel), qt.Commentf("%q", c.stat))
	}
	seen := map[string]bool{}
	for _, task := range []kload.Task{
		{State: "D"},
		{State: "R", Kernel: true},
		{State: "R"},
		{State: "T"},
		{State: "Z"},
		{State: "S", Kernel: true, Function: "f"},
		{State: "I", Kernel: true},
		{State: "S", Function: "f"},
		{State: "S"},
	} {
		qt.Check(t, qt.IsFalse(seen[task.Why()]), qt.Commentf("%+v", task))
		seen[task.Why()] = true
	}
}

func TestRecordsOfTheLog(t *testing.T) {
	for _, c := range []struct {
		in   string
		want kload.Record
		ok   bool
	}{
		{"4,1001,28100000,-;text\n SUBSYSTEM=pci\n", kload.Record{Level: 4, Kernel: true, Seq: 1001, Time: 28100 * time.Millisecond, Text: "text"}, true},
		{"12,1,2,-,caller=T99;a;b", kload.Record{Level: 4, Seq: 1, Time: 2 * time.Microsecond, Caller: "T99", Text: "a;b"}, true},
		{"4,1,2;", kload.Record{Level: 4, Kernel: true, Seq: 1, Time: 2 * time.Microsecond}, true},
		{"4,1;x", kload.Record{}, false},
		{"x,1,2;x", kload.Record{}, false},
		{"4,x,2;x", kload.Record{}, false},
		{"4,1,x;x", kload.Record{}, false},
		{"4,1,-2;x", kload.Record{}, false},
		{"4,1,9223372036854775807;x", kload.Record{}, false},
		{"4,1,2", kload.Record{}, false},
		{"", kload.Record{}, false},
	} {
		r, err := kload.ParseRecord([]byte(c.in))
		qt.Check(t, qt.Equals(err == nil, c.ok), qt.Commentf("%q", c.in))
		qt.Check(t, qt.Equals(r, c.want), qt.Commentf("%q", c.in))
	}
}

func FuzzRecord(f *testing.F) {
	for _, log := range []string{"warning-in-patch", "hung-task", "two-processors"} {
		b, err := os.ReadFile(filepath.Join("testdata/logs", log))
		qt.Assert(f, qt.IsNil(err))
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h := kload.NewHealth(loaded())
		for l := range bytes.Lines(b) {
			r, err := kload.ParseRecord(l)
			if err != nil && r != (kload.Record{}) || err == nil && (r.Level < 0 || r.Level > 7 || r.Time < 0) {
				t.Fatalf("%+v, %v", r, err)
			}
			if err == nil {
				h.Add(r)
			}
		}
		for _, x := range h.Take(-1) {
			if x.Kind == "" || x.At && x.Function == "" {
				t.Fatalf("%+v", x)
			}
		}
	})
}

func FuzzFrame(f *testing.F) {
	f.Add("[<0>] tsugi_wait+0x11d/0x150 [tsugi_hold]")
	f.Add("RIP: 0010:f+0x5d/0xff0 [tsugi_bad]")
	f.Add("99 (a) R 1 (b) D 1 99 99 0 -1 4194304 1543")
	f.Fuzz(func(t *testing.T, line string) {
		if fn, module, ok := kload.ParseFrame(line); ok != (fn != "") || !ok && module != "" {
			t.Fatalf("%q: %q %q %v", line, fn, module, ok)
		}
		if state, kernel := kload.ParseStat(line); state == "" && kernel {
			t.Fatalf("%q: a kernel thread in no state", line)
		}
	})
}
