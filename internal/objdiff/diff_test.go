// SPDX-License-Identifier: Apache-2.0

package objdiff_test

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/objdiff"
)

// kernelish are the flags that matter to the differ among the kernel's own.
var kernelish = []string{
	"-O2", "-pg", "-mfentry", "-mrecord-mcount", "-fno-pic", "-mcmodel=kernel", "-fno-asynchronous-unwind-tables",
	"-ffunction-sections", "-fdata-sections", "-fno-stack-protector", "-fno-common", "-fcf-protection=none", "-w",
}

// build compiles C with the machine's gcc.
func build(tb testing.TB, src string, flags ...string) *elfobj.File {
	tb.Helper()
	return buildWith(tb, "gcc", src, flags...)
}

func buildWith(tb testing.TB, compiler, src string, flags ...string) *elfobj.File {
	tb.Helper()
	dir := tb.TempDir()
	in, out := filepath.Join(dir, "in.c"), filepath.Join(dir, "out.o")
	qt.Assert(tb, qt.IsNil(os.WriteFile(in, []byte(src), 0o644)))
	msg, err := exec.Command(compiler, append(slices.Clone(flags), "-c", "-o", out, in)...).CombinedOutput()
	qt.Assert(tb, qt.IsNil(err), qt.Commentf("%s", msg))
	data, err := os.ReadFile(out)
	qt.Assert(tb, qt.IsNil(err))
	f, err := elfobj.Read(data)
	qt.Assert(tb, qt.IsNil(err))
	return f
}

func names(list []objdiff.Function) []string {
	var out []string
	for _, f := range list {
		out = append(out, f.Name)
	}
	return out
}

func codes(r *objdiff.Result) []string {
	var out []string
	for _, p := range r.Refusals {
		out = append(out, string(p.Code)+" "+p.Where)
	}
	return out
}

func risks(r *objdiff.Result) []string {
	var out []string
	for _, p := range r.Risks {
		out = append(out, string(p.Code)+" "+p.Where)
	}
	return out
}

const base = `
typedef unsigned long size_t;
extern int printk(const char *fmt, ...);
extern void *kmalloc(size_t n);
extern void warn_slowpath_fmt(const char *file, int line, const char *fmt, ...);
extern int limit(void);
#define noinline __attribute__((noinline))
#define SEC(s) __attribute__((section(s)))
#define notrace __attribute__((no_instrument_function))
static int counter = 3;
static int zeroed;
int shared = 5;
static int SEC(".data..read_mostly") sysctl_max = 100;
static const int primes[] = { 2, 3, 5, 7, 11, 13, 17, 19 };
struct ops { int (*open)(int); int (*close)(int); };
static noinline int do_open(int x) { return x + counter; }
static noinline int do_close(int x) { counter = x; return limit() + zeroed; }
const struct ops the_ops = { do_open, do_close };
int first(int x) { static int calls; calls += x; printk("first %d\n", calls); return do_open(calls); }
int second(int x) { static int calls; calls += 2 * x; printk("second %d\n", calls); return do_close(calls); }
int table(unsigned x) { return primes[x & 7] + sysctl_max; }
int lines(int x) { if (x > 7) warn_slowpath_fmt("file.c", __LINE__, "bad %d\n", x); return x + shared; }
int SEC(".init.text") setup(int x) { printk("setup %d\n", x); return x + 1; }
noinline int SEC(".sched.text") sleepy(int x) { printk("sleep %d\n", x); return x + limit(); }
int SEC(".sched.text") sleepier(int x) { printk("more\n"); return sleepy(x) + 1; }
int writes(int x) { sysctl_max = x; return zeroed++ + x; }
notrace int quiet(int x) { return x * 3 + limit(); }
static notrace noinline int hidden(int x) { return x * 7 + limit(); }
static notrace noinline int deeper(int x) { return hidden(x) + 1; }
int through(int x) { return deeper(x) + hidden(x + 1); }
static notrace noinline int pointed(int x) { return x * 9 + limit(); }
int (*pointer)(int) = pointed;
int points(int x) { return pointed(x); }
int picks(int x) { switch (x) { case 0: return 11; case 1: return 32; case 2: return 7; case 3: return 99; case 4: return 3; default: return limit(); } }
`

// edit replaces one piece of the base source.
func edit(tb testing.TB, pairs ...string) string {
	tb.Helper()
	src := base
	for i := 0; i < len(pairs); i += 2 {
		qt.Assert(tb, qt.IsTrue(strings.Contains(src, pairs[i])), qt.Commentf("%s", pairs[i]))
		src = strings.Replace(src, pairs[i], pairs[i+1], 1)
	}
	return src
}

type diffCase struct {
	edits    []string
	changed  []string
	fresh    []string
	refusals []string
	risks    []string
}

var diffCases = map[string]diffCase{
	"no edit changes nothing":                        {},
	"blank lines change nothing":                     {edits: []string{"typedef", "\n\n\ntypedef"}},
	"an unused new static function is no change":     {edits: []string{"int first(", "static int unused(int x) { return x * 9; } int first("}},
	"a changed body is found":                        {edits: []string{"calls += x", "calls += x + 1"}, changed: []string{"first"}},
	"a changed string is found":                      {edits: []string{"first %d", "First %d"}, changed: []string{"first"}},
	"a changed static function is found alone":       {edits: []string{"x + counter", "x - counter"}, changed: []string{"do_open"}},
	"another callee is found":                        {edits: []string{"return do_open(calls)", "return do_close(calls)"}, changed: []string{"first"}},
	"a new static function comes along":              {edits: []string{"int first(", "static noinline int helper(int x) { return x * limit(); }\nint first(", "calls += x;", "calls += helper(x);"}, changed: []string{"first"}, fresh: []string{"helper"}},
	"a new static local comes along":                 {edits: []string{"static int calls; calls += x", "static int calls, more = 4; calls += x + more++"}, changed: []string{"first"}},
	"static locals of one name keep their owners":    {edits: []string{"int first(", "int zeroth(int x) { static int calls; calls += 7 * x; return limit() + calls; }\nint first(", "calls += x", "calls += 5 * x"}, changed: []string{"first"}, fresh: []string{"zeroth"}},
	"a changed initial value is refused":             {edits: []string{"sysctl_max = 100", "sysctl_max = 200"}, refusals: []string{"TS4010 sysctl_max"}},
	"a variable that grows is refused":               {edits: []string{"static int zeroed", "static short zeroed"}, changed: []string{"do_close", "writes"}, refusals: []string{"TS4011 zeroed"}},
	"changed function pointers are refused":          {edits: []string{"{ do_open, do_close }", "{ do_close, do_open }"}, refusals: []string{"TS4010 the_ops"}},
	"boot code is refused":                           {edits: []string{"return x + 1", "return x + 2"}, refusals: []string{"TS4002 setup"}},
	"new boot code that is needed is refused":        {edits: []string{"calls += x;", "calls += late(x);", "int first(", "static noinline int SEC(\".init.text\") late(int x) { return x * limit(); }\nint first("}, changed: []string{"first"}, fresh: []string{"late"}, refusals: []string{"TS4014 late"}},
	"untraceable code is refused":                    {edits: []string{"x * 3", "x * 5"}, changed: []string{"quiet"}, refusals: []string{"TS4001 quiet"}},
	"callers stand in for untraceable code":          {edits: []string{"x * 7", "x * 6"}, changed: []string{"through"}, fresh: []string{"hidden", "deeper"}},
	"untraceable code that is pointed at is refused": {edits: []string{"x * 9", "x * 6"}, changed: []string{"pointed"}, refusals: []string{"TS4001 pointed"}},
	"scheduler text is judged by symbol":             {edits: []string{"sleep %d", "sleeps %d"}, changed: []string{"sleepy"}, risks: []string{"TS8002 sleepy"}},
	"scheduler text is carried with its callees":     {edits: []string{"sleepy(x) + 1", "sleepy(x) + 2"}, changed: []string{"sleepier"}, risks: []string{"TS8002 sleepier"}},
	"a line number alone is forgiven":                {edits: []string{"int lines(int x)", "\n\nint lines(int x)"}},
	"a constant table that changes is copied":        {edits: []string{"17, 19", "17, 23"}, changed: []string{"table"}, risks: []string{"TS8006 primes"}},
	"a switch table that changes is found":           {edits: []string{"return 99", "return 98"}, changed: []string{"picks"}},
	"a removed function is only told":                {edits: []string{"notrace int quiet(int x) { return x * 3 + limit(); }", ""}},
}

func TestDiffFindsWhatChanged(t *testing.T) {
	for variant, extra := range map[string][]string{
		"sections":    nil,
		"no sections": {"-fno-function-sections", "-fno-data-sections"},
		"padding":     {"-fpatchable-function-entry=16,16", "-fcf-protection=branch", "-fno-jump-tables"},
		"at -Os":      {"-Os"},
	} {
		flags := append(slices.Clone(kernelish), extra...)
		orig := build(t, base, flags...)
		for name, tc := range diffCases {
			t.Run(variant+"/"+name, func(t *testing.T) {
				t.Parallel()
				r, err := objdiff.Diff(orig, build(t, edit(t, tc.edits...), flags...), objdiff.Options{})
				qt.Assert(t, qt.IsNil(err))
				qt.Check(t, qt.DeepEquals(names(r.Changed), tc.changed), qt.Commentf("changed: %+v", r.Changed))
				qt.Check(t, qt.DeepEquals(names(r.New), tc.fresh))
				qt.Check(t, qt.DeepEquals(codes(r), tc.refusals))
				qt.Check(t, qt.DeepEquals(risks(r), tc.risks))
				if !r.Refused() && !r.Same() {
					checkExtract(t, r)
				}
			})
		}
	}
}

// checkExtract writes the carried object and asks binutils what they think.
func checkExtract(t *testing.T, r *objdiff.Result) *objdiff.Extract {
	t.Helper()
	e, err := r.Extract()
	qt.Assert(t, qt.IsNil(err))
	data, err := e.File.Bytes()
	qt.Assert(t, qt.IsNil(err))
	again, err := r.Extract()
	qt.Assert(t, qt.IsNil(err))
	twice, err := again.File.Bytes()
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsTrue(string(data) == string(twice)), qt.Commentf("two extracts differ"))
	if e.File.Machine != elf.EM_X86_64 {
		return e // the machine's own binutils know only its architecture
	}
	dir := t.TempDir()
	in := filepath.Join(dir, "e.o")
	qt.Assert(t, qt.IsNil(os.WriteFile(in, data, 0o644)))
	for _, args := range [][]string{{"ld", "-r", "-o", filepath.Join(dir, "l.o"), in}, {"readelf", "-aW", in}} {
		msg, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", msg))
		qt.Assert(t, qt.Not(qt.StringContains(string(msg), "Warning")))
	}
	for _, rep := range e.Replaced {
		qt.Assert(t, qt.IsTrue(rep.New.Defined()))
		qt.Assert(t, qt.IsTrue(rep.Orig.Defined()))
	}
	for _, ref := range e.Refs {
		qt.Assert(t, qt.IsTrue(ref.Symbol.Undefined()))
	}
	return e
}

// TestDiffOnOtherCompilers runs the cases over every other compiler that the
// machine has: older and newer gcc, clang, and gcc for other architectures,
// one of them big-endian. What a compiler legitimately does differently (clang
// merges constants, others have no entry call) is not asserted there: what
// must be found is, and what must not be found.
func TestDiffOnOtherCompilers(t *testing.T) {
	type compiler struct {
		name  string
		flags []string
	}
	var found []compiler
	x86 := []string{"-O2", "-ffunction-sections", "-fdata-sections", "-fno-pic", "-mcmodel=kernel", "-fno-common", "-w"}
	for _, c := range []compiler{
		{"gcc-9", x86},
		{"gcc-10", x86},
		{"gcc-11", x86},
		{"gcc-12", x86},
		{"gcc-13", x86},
		{"gcc-14", x86},
		{"clang-13", x86},
		{"clang-14", x86},
		{"clang-15", x86},
		{"clang-16", x86},
		{"clang-19", x86},
		{"gcc", []string{"-O2", "-fPIC", "-w"}},
		{"gcc", []string{"-O0", "-g", "-w"}},
		{"gcc", []string{"-O3", "-fno-reorder-blocks-and-partition", "-w"}},
		{"aarch64-linux-gnu-gcc", []string{"-O2", "-ffunction-sections", "-fdata-sections", "-w"}},
		{"s390x-linux-gnu-gcc", []string{"-O2", "-ffunction-sections", "-fdata-sections", "-w"}},
		{"powerpc64le-linux-gnu-gcc", []string{"-O2", "-ffunction-sections", "-fdata-sections", "-w"}},
	} {
		if _, err := exec.LookPath(c.name); err == nil {
			found = append(found, c)
		}
	}
	qt.Assert(t, qt.IsTrue(len(found) >= 3), qt.Commentf("gcc is always there"))
	for _, c := range found {
		orig := buildWith(t, c.name, base, c.flags...)
		for name, tc := range diffCases {
			t.Run(c.name+c.flags[0]+c.flags[1]+"/"+name, func(t *testing.T) {
				t.Parallel()
				r, err := objdiff.Diff(orig, buildWith(t, c.name, edit(t, tc.edits...), c.flags...), objdiff.Options{})
				qt.Assert(t, qt.IsNil(err))
				for _, want := range tc.changed {
					if strings.Contains(name, "untraceable") {
						continue // nothing is traced here, so nothing needs callers
					}
					qt.Check(t, qt.SliceContains(names(r.Changed), want), qt.Commentf("%+v", r))
				}
				for _, want := range tc.refusals {
					if !strings.HasPrefix(want, "TS4001") && !strings.HasPrefix(want, "TS4011") {
						qt.Check(t, qt.SliceContains(codes(r), want))
					}
				}
				cross := strings.Contains(c.name, "-linux-gnu-")
				if len(tc.changed)+len(tc.refusals) == 0 && !(cross && strings.Contains(name, "line")) { // lines are forgiven on x86
					qt.Check(t, qt.HasLen(r.Changed, 0), qt.Commentf("%+v", r.Changed))
				}
				if !r.Refused() && !r.Same() {
					checkExtract(t, r)
				}
			})
		}
	}
}
