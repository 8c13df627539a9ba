// SPDX-License-Identifier: Apache-2.0

package kernels

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/builder"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/objdiff"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/proof"
	"github.com/tsugi-project/tsugi/internal/testenv"
)

const small = "net/sched/em_text.c" // a module of one small file

// smallEdit changes that file so that it says a text.
func smallEdit(text string) edit {
	return edit{small, "\nstatic int em_text_dump(", "\tconf.pad = 0;\n", "\tconf.pad = 0;\n\tpr_info_once(\"tsugi e2e " + text + "\\n\");\n"}
}

func parse(t testing.TB, diff []byte) *fix.Fix {
	t.Helper()
	f, err := fix.Parse("bad.diff", diff)
	qt.Assert(t, qt.IsNil(err))
	return f
}

// TestDiffsThatCannotBeBuilt: an error names what is wrong and where, as the
// author knows the place.
func TestDiffsThatCannotBeBuilt(t *testing.T) {
	t.Parallel()
	k := testenv.Kernel(t, testenv.Demo)
	text := readSource(t, k, small)
	first, rest, _ := strings.Cut(text, "\n")
	broken := "\n\n\n" + strings.Replace(text, "\tconf.pad = 0;\n", "\tconf.pad = 0;\n\tno_such_thing = 1;\n", 1)
	line := 1 + strings.Count(broken[:strings.Index(broken, "no_such_thing")], "\n")
	for name, c := range map[string]struct {
		fix     *fix.Fix
		code    code.Code
		message string
	}{
		"does not apply": {
			parse(t, fix.Unified(small, []byte("another line\n"+rest), []byte("a third line\n"+rest[strings.Index(rest, "\n")+1:]))),
			"TS1103", regexp.QuoteMeta(small),
		},
		"is applied already": {
			parse(t, fix.Unified(small, []byte(strings.Replace(text, "\tconf.pad = 0;\n", "", 1)), []byte(text))),
			"TS1104", "already applied",
		},
		"does not compile": {
			parse(t, fix.Unified(small, []byte(text), []byte(broken))),
			"TS3101", fmt.Sprintf(`(?s)%s:%d:\d+: error: .*no_such_thing`, regexp.QuoteMeta(small), line),
		},
		"names a file that is not there": {
			parse(t, fix.Unified("net/sched/no_such_file.c", []byte(first+"\n"), []byte("x\n"))),
			"TS1105", `no_such_file\.c`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := builder.Build(t.Context(), builder.Request{Target: k, Fixes: []*fix.Fix{c.fix}}, progress.Discard)
			qt.Assert(t, qt.Equals(code.Of(err), c.code), qt.Commentf("%v", err))
			qt.Check(t, qt.Matches(err.Error(), "(?s).*"+c.message+".*"))
			qt.Check(t, qt.IsFalse(strings.Contains(err.Error(), k.Home())), qt.Commentf("no path of ours: %v", err))
		})
	}
	for name, c := range map[string]struct {
		fix     *fix.Fix
		verdict builder.Verdict
		codes   []string
	}{
		"a comment": {editOf(t, k, "x", edit{small, "", "/*", "/* tsugi */\n/*"}), builder.NotAffected, nil},
		// which the store does not even unpack
		"another architecture":    {parse(t, fix.Unified("arch/arm64/kernel/setup.c", []byte("int a;\n"), []byte("int b;\n"))), builder.NotAffected, nil},
		"documentation":           {parse(t, fix.Unified("Documentation/livepatch/index.rst", []byte("a\n"), []byte("b\n"))), builder.NotAffected, nil},
		"a Makefile":              {editOf(t, k, "x", edit{"net/sched/Makefile", "", "\n", "\nccflags-y += -DTSUGI\n"}), builder.Reboot, []string{"TS3103"}},
		"assembly":                {editOf(t, k, "x", edit{"arch/x86/entry/entry_64.S", "", "\tswapgs\n", "\tswapgs\n\tnop\n"}), builder.Reboot, []string{"TS3104"}},
		"code that only boots":    {editOf(t, k, "x", edit{"arch/x86/boot/main.c", "", "void main(void)\n{\n", "void main(void)\n{\n\tputs(\"tsugi\");\n"}), builder.Reboot, []string{"TS3105"}},
		"code of the user's side": {editOf(t, k, "x", edit{"arch/x86/entry/vdso/vclock_gettime.c", "", "\n", "\n\nint tsugi;\n"}), builder.Reboot, []string{"TS3105"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := build(t, k, "", c.fix)
			qt.Check(t, qt.Equals(r.Verdict, c.verdict))
			qt.Check(t, qt.DeepEquals(codes(r.Refusals), c.codes))
			qt.Check(t, qt.IsNil(r.Artifact))
		})
	}
}

// run starts tsugictl and returns what it said and its exit code.
func run(t testing.TB, args ...string) (stdout, stderr string, exit int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), tsugictl(t), args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		exit, err = e.ExitCode(), nil
	}
	qt.Assert(t, qt.IsNil(err))
	return out.String(), errs.String(), exit
}

// TestDamagedObjects: cut at any place and with any bit wrong, an object gives
// an answer or an error with a code, and never a crash.
func TestDamagedObjects(t *testing.T) {
	t.Parallel()
	k := testenv.Kernel(t, testenv.IBT)
	pair := netfilter(t, k)
	large, err := os.ReadFile(pair.Orig)
	qt.Assert(t, qt.IsNil(err))
	source := filepath.Join(t.TempDir(), "x.c")
	qt.Assert(t, qt.IsNil(os.WriteFile(source, []byte("int f(int x) { return x + 1; }\n"), 0o644)))
	compile := func(name string, flags ...string) (path string, data []byte) {
		path = filepath.Join(filepath.Dir(source), name)
		args := append([]string{"-O2", "-ffunction-sections", "-c", "-o", path, source}, flags...)
		out, err := exec.CommandContext(t.Context(), k.CC(), args...).CombinedOutput()
		qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", out))
		data, err = os.ReadFile(path)
		qt.Assert(t, qt.IsNil(err))
		return path, data
	}
	tinyPath, tiny := compile("tiny.o")
	for _, whole := range [][]byte{tiny, large} {
		for i := range 400 {
			cut := whole[:len(whole)*i/400]
			_, err := elfobj.Read(cut)
			qt.Assert(t, qt.ErrorIs(err, elfobj.ErrFormat), qt.Commentf("%d of %d bytes", len(cut), len(whole)))
		}
	}
	// every bit of a small object, and places all over a large one
	read := flips(t, tiny, func(yield func(int) bool) {
		for bit := range len(tiny) * 8 {
			if !yield(bit) {
				return
			}
		}
	})
	t.Logf("%d of %d small objects with a wrong bit can be read", read, len(tiny)*8)
	read = flips(t, large, func(yield func(int) bool) {
		for i := range 40 {
			if !yield((i*7919*8 + i) % (len(large) * 8)) {
				return
			}
		}
	})
	t.Logf("%d of 40 large ones", read)

	dir := t.TempDir()
	file := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		qt.Assert(t, qt.IsNil(os.WriteFile(path, b, 0o644)))
		return path
	}
	narrow, _ := compile("narrow.o", "-m32")
	machine := bytes.Clone(tiny)
	machine[18] = 0xb7 // e_machine: EM_AARCH64
	for name, c := range map[string]struct {
		path string
		exit int
		code string
	}{
		"whole":           {tinyPath, 3, ""},
		"truncated":       {file("short.o", large[:len(large)/2]), 1, "TS1001"},
		"empty":           {file("empty.o", nil), 1, "TS1001"},
		"of 32 bits":      {narrow, 1, "TS1001"},
		"another machine": {file("machine.o", machine), 1, "TS1002"},
		"a C file":        {source, 1, "TS1001"},
		"not there":       {filepath.Join(dir, "none.o"), 1, "TS1902"},
	} {
		_, stderr, exit := run(t, "diff", tinyPath, c.path)
		qt.Check(t, qt.Equals(exit, c.exit), qt.Commentf("%s: %s", name, stderr))
		qt.Check(t, qt.StringContains(stderr, c.code), qt.Commentf("%s", name))
	}
}

// flips turns one bit of an object at a time and counts those that can be read.
func flips(t *testing.T, good []byte, bits iter.Seq[int]) (read int) {
	t.Helper()
	whole, err := elfobj.Read(good)
	qt.Assert(t, qt.IsNil(err))
	for bit := range bits {
		bad := bytes.Clone(good)
		bad[bit/8] ^= 1 << (bit % 8)
		f, err := elfobj.Read(bad)
		if err != nil {
			qt.Assert(t, qt.ErrorIs(err, elfobj.ErrFormat), qt.Commentf("bit %d", bit))
			continue
		}
		read++
		r, err := objdiff.Diff(whole, f, objdiff.Options{})
		if err == nil && !r.Same() && !r.Refused() {
			_, err = r.Extract()
		}
		if err != nil {
			qt.Assert(t, qt.Equals(code.Of(err), "TS1002"), qt.Commentf("bit %d: %v", bit, err))
		}
	}
	return read
}

// TestALivePatchOfAnotherTargetIsNotProven: neither when the target says so,
// nor when only the kernel that boots does.
func TestALivePatchOfAnotherTargetIsNotProven(t *testing.T) {
	k, other := testenv.Kernel(t, testenv.Demo), testenv.Kernel(t, testenv.Old)
	r := live(t, k, "tsugi_e2e_other", editOf(t, k, "x", smallEdit("other")))
	_, err := proof.FromPatch(r.Artifact, proof.ForKernel(other))
	qt.Check(t, qt.Equals(code.Of(err), "TS6101"))
	p := tryProof(t, k, r, func(q *proof.Request) {
		q.Target.Kernel, q.Target.Modules = other.Vmlinux, other
	})
	qt.Check(t, qt.Equals(p.Verdict, proof.Failed))
	qt.Assert(t, qt.IsTrue(len(p.Problems) > 0))
	qt.Check(t, qt.Equals(p.Problems[0].Code, "TS6101"))
}

func TestAPackageThatTheArchiveDoesNotHave(t *testing.T) {
	t.Parallel()
	testenv.Kernel(t, testenv.Demo) // tests of real kernels run here at all
	s, err := kernel.OpenStore(t.TempDir())
	qt.Assert(t, qt.IsNil(err))
	_, err = s.Add(t.Context(), "debian:6.1.0-1-amd64", kernel.AddOptions{}, progress.Discard)
	qt.Assert(t, qt.Equals(code.Of(err), "TS2303"), qt.Commentf("%v", err))
	qt.Check(t, qt.StringContains(err.Error(), testenv.Pinned(t, testenv.Demo).Release), qt.Commentf("it says what there is"))
	list, err := s.List()
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(list, 0))
}
