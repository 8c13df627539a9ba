// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/vm/wire"
)

func TestMainDoesNothingOutsideAGuest(t *testing.T) {
	Main(nil) // would not return, or reboot
}

func TestRecordsOfTheKernelLog(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     wire.Record
		ok       bool
	}{
		{"a record", "6,339,5140900,-;NET: Registered\n SUBSYSTEM=net\n", wire.Record{Level: 6, Seq: 339, Time: 5140900, Text: "NET: Registered"}, true},
		{"a facility", "30,340,5690716,-;udevd[80]: starting", wire.Record{Level: 6, Seq: 340, Time: 5690716, Text: "udevd[80]: starting"}, true},
		{"text with semicolons", "4,1,2,c;a;b;c", wire.Record{Level: 4, Seq: 1, Time: 2, Text: "a;b;c"}, true},
		{"one more field than today", "4,1,2,-,caller=T1;x", wire.Record{Level: 4, Seq: 1, Time: 2, Text: "x"}, true},
		{"no text", "4,1,2,-", wire.Record{}, false},
		{"no numbers", "a,b,c,-;x", wire.Record{}, false},
		{"a level below zero", "-4,1,2,-;x", wire.Record{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := parseRecord(c.in)
			qt.Check(t, qt.Equals(ok, c.ok))
			qt.Check(t, qt.Equals(got, c.want))
		})
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add("6,339,5140900,-;NET: Registered\n SUBSYSTEM=net\n")
	f.Fuzz(func(t *testing.T, s string) {
		r, ok := parseRecord(s)
		if ok && (r.Level < 0 || r.Level > 7 || strings.Contains(r.Text, "\n")) {
			t.Fatalf("%+v", r)
		}
	})
}

func note(typ byte, name, desc string) string {
	pad := func(s string) string { return s + strings.Repeat("\x00", -len(s)&3) }
	return string([]byte{byte(len(name)), 0, 0, 0, byte(len(desc)), 0, 0, 0, typ, 0, 0, 0}) + pad(name) + pad(desc)
}

func TestTheBuildIDAmongOtherNotes(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"behind a note of odd size", note(6, "Xen\x00", "linux\x00") + note(3, "GNU\x00", "\x01\xff"), "01ff"},
		{"of another owner", note(3, "GNUX", "\x01"), ""},
		{"cut short", note(3, "GNU\x00", "\x01\x02\x03\x04")[:18], ""},
		{"with sizes beyond the file", "\xff\xff\xff\xff\xff\xff\xff\xff\x03\x00\x00\x00GNU\x00", ""},
		{"empty", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			qt.Check(t, qt.Equals(buildID([]byte(c.in)), c.want))
		})
	}
}

func FuzzBuildID(f *testing.F) {
	f.Add([]byte(note(6, "Xen\x00", "linux\x00") + note(3, "GNU\x00", "\x01\xff")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if id := buildID(b); len(id) > 2*len(b) {
			t.Fatal(id)
		}
	})
}

func TestModulesAreFoundByNameAndAlias(t *testing.T) {
	x := &wire.ModuleIndex{Modules: []wire.StoredModule{
		{Name: "ext4", Aliases: []string{"fs-ext4", "ext3"}},
		{Name: "crc32c_generic", Aliases: []string{"crypto-crc32c", "crc32c"}},
		{Name: "crc32c_intel", Aliases: []string{"crypto-crc32c"}},
		{Name: "virtio_blk", Aliases: []string{"virtio:d00000002v*"}},
	}}
	for _, c := range []struct{ ask, want string }{
		{"ext4", "ext4"},
		{"fs-ext4", "ext4"},
		{"crc32c-generic", "crc32c_generic"},
		{"crypto-crc32c", "crc32c_generic crc32c_intel"},
		{"virtio:d00000002v00001AF4", "virtio_blk"},
		{"net-pf-10", ""},
	} {
		var got []string
		for _, m := range find(x, c.ask) {
			got = append(got, m.Name)
		}
		qt.Check(t, qt.Equals(strings.Join(got, " "), c.want), qt.Commentf("%s", c.ask))
	}
}

func TestLongOutputLosesItsMiddle(t *testing.T) {
	w := &tail{limit: 10}
	for _, s := range []string{"abc", "defgh", "ijklmnop", "q"} {
		n, err := w.Write([]byte(s))
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.Equals(n, len(s)))
	}
	qt.Check(t, qt.Equals(w.String(), "abcde\n[7 bytes cut]\nmnopq"))
	short := &tail{limit: 10}
	_, _ = short.Write([]byte("abcdefghij"))
	qt.Check(t, qt.Equals(short.String(), "abcdefghij"))
}

// Scripts run on any Linux, so their ends are tested without a machine.
func TestScriptsEndInEveryWay(t *testing.T) {
	env := &Env{}
	run := func(limit time.Duration, text string) *ScriptResult {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		r, err := RunScript(ctx, env, Script{Text: text, Env: []string{"X=y"}})
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsTrue(env.starting == 0 && len(env.children) == 0))
		return r
	}
	r := run(time.Minute, "echo out; echo err >&2; echo $X; exit 7")
	qt.Check(t, qt.Equals(r.Exit, 7))
	qt.Check(t, qt.Equals(r.Output, "out\nerr\ny\n"))

	r = run(time.Minute, "kill -SEGV $$")
	qt.Check(t, qt.Equals(r.Signal, "SIGSEGV"))
	qt.Check(t, qt.Equals(r.Exit, -1))

	r = run(time.Minute, "sleep 5 & echo left behind") // the sleep holds the pipe
	qt.Check(t, qt.Equals(r.Exit, 0))
	qt.Check(t, qt.Equals(r.Output, "left behind\n"))

	r = run(3*time.Second, "trap '' TERM INT; (sleep 77; true) & echo on; sleep 77")
	qt.Check(t, qt.IsTrue(r.TimedOut && !r.Stuck && r.Exit == -1))
	qt.Check(t, qt.Equals(r.Output, "on\n"))
	qt.Check(t, qt.Equals(r.Signal, "SIGKILL"))
}
