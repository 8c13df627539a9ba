// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kbuild"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/objdiff"
	"github.com/tsugi-project/tsugi/internal/progress"
)

const source = `#include <linux/kernel.h>

static int limit = 3;

int first(int x)
{
	return x + limit;
}

int second(int x);

int second(int x)
{
	return first(x) - 1;
}

SYSCALL_DEFINE2(example, int, a, int, b)
{
	return a + b;
}
`

// tree writes a source tree of one file and returns a target for it.
func tree(t *testing.T) *kernel.Target {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "kernel", "example.c")
	qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Dir(file), 0o755)))
	qt.Assert(t, qt.IsNil(os.WriteFile(file, []byte(source), 0o644)))
	return &kernel.Target{Name: "debian:test", Release: "test", BuildID: "00", Source: dir}
}

// edit makes a fix that replaces text of the file, as it stands after others.
func edit(t *testing.T, id, before, old, now string) *fix.Fix {
	t.Helper()
	qt.Assert(t, qt.IsTrue(strings.Contains(before, old)))
	f, err := fix.Parse(id, fix.Unified("kernel/example.c", []byte(before), []byte(strings.Replace(before, old, now, 1))))
	qt.Assert(t, qt.IsNil(err))
	return f
}

func newBuild(t *testing.T, fixes ...*fix.Fix) *build {
	t.Helper()
	return &build{req: Request{Target: tree(t), Fixes: fixes}, rep: progress.Discard, report: &Report{Name: "tsugi_test"}}
}

func TestFixesOfOneFunctionBecomeOne(t *testing.T) {
	one := edit(t, "one", source, "x + limit", "x + 2 * limit")
	after := strings.Replace(source, "x + limit", "x + 2 * limit", 1)
	b := newBuild(t, one, edit(t, "two", after, "2 * limit", "3 * limit"))
	qt.Assert(t, qt.IsNil(b.combine()))
	changes, err := b.fix.Apply(func(string) ([]byte, error) { return []byte(source), nil })
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(changes, 1))
	qt.Assert(t, qt.Equals(string(changes[0].New), strings.Replace(source, "x + limit", "x + 3 * limit", 1)))
	qt.Assert(t, qt.Equals(string(changes[0].Old), source), qt.Commentf("against the pristine source"))
}

func TestDocumentationNeedNotBeThere(t *testing.T) {
	diff := fix.Unified("Documentation/admin-guide/example.rst", []byte("old\n"), []byte("new\n"))
	diff = append(diff, fix.Unified("kernel/example.c", []byte(source), []byte(strings.Replace(source, "x + limit", "limit", 1)))...)
	f, err := fix.Parse("both", diff)
	qt.Assert(t, qt.IsNil(err))
	b := newBuild(t, f)
	qt.Assert(t, qt.IsNil(b.combine()))
	qt.Assert(t, qt.HasLen(b.fix.Files, 1))
	qt.Assert(t, qt.HasLen(b.report.Unbuilt, 1))
	qt.Assert(t, qt.Equals(b.report.Unbuilt[0].Outcome, "ignored"))
}

func TestFixThatDoesNotFollowTheOtherIsNamed(t *testing.T) {
	one := edit(t, "one", source, "x + limit", "x + 2 * limit")
	b := newBuild(t, one, edit(t, "two", source, "x + limit", "limit"))
	qt.Assert(t, qt.Equals(code.Of(b.combine()), code.Code("TS1103")))
}

func TestFixUndoneByAnotherLeavesNothing(t *testing.T) {
	one := edit(t, "one", source, "x + limit", "x + 2 * limit")
	after := strings.Replace(source, "x + limit", "x + 2 * limit", 1)
	b := newBuild(t, one, edit(t, "two", after, "x + 2 * limit", "x + limit"))
	qt.Assert(t, qt.IsNil(b.combine()))
	qt.Assert(t, qt.HasLen(b.fix.Files, 0))
}

func TestDefinitionFindsWhereNamesAreDefined(t *testing.T) {
	for name, line := range map[string]int{"first": 5, "second": 12, "limit": 3, "nothing": 0, "": 0, "__do_sys_example": 17} {
		b := newBuild(t)
		b.fix = &fix.Fix{}
		qt.Check(t, qt.Equals(definition(source, name), line), qt.Commentf("%s", name))
	}
}

func TestFunctionsThatChangeWithoutAnEditAreTold(t *testing.T) {
	b := newBuild(t, edit(t, "a", source, "x + limit", "x + 2 * limit"))
	qt.Assert(t, qt.IsNil(b.combine()))
	o := kbuild.Object{Path: "kernel/example.o", Source: "kernel/example.c"}
	got := b.drift(o, &objdiff.Result{Changed: []objdiff.Function{{Name: "first"}, {Name: "second.isra.0", Why: "differs"}}})
	qt.Assert(t, qt.HasLen(got, 1))
	qt.Assert(t, qt.Equals(got[0].Where, "second.isra.0"))
	qt.Assert(t, qt.Equals(got[0].Source, "kernel/example.c:12"))
	qt.Assert(t, qt.HasLen(b.drift(kbuild.Object{Source: "kernel/other.c"}, &objdiff.Result{Changed: []objdiff.Function{{Name: "f"}}}), 0))
}

func TestNameOfTheLivePatch(t *testing.T) {
	for id, want := range map[string]string{
		"CVE-2026-89761":         "tsugi_cve_2026_89761_",
		"ext4":                   "tsugi_ext4_",
		"___":                    "tsugi_fix_",
		strings.Repeat("x", 200): "tsugi_" + strings.Repeat("x", 40) + "_",
	} {
		f := edit(t, "a", source, "x + limit", "limit")
		f.ID = id
		b := newBuild(t, f)
		name := b.name()
		qt.Check(t, qt.IsTrue(strings.HasPrefix(name, want)), qt.Commentf("%s", name))
		qt.Check(t, qt.IsTrue(len(name) <= 55), qt.Commentf("%s", name))
		b.req.Version = 2
		qt.Check(t, qt.Not(qt.Equals(b.name(), name)), qt.Commentf("versions differ in name"))
	}
}

func TestRefusalsAreVerdictsAndErrorsStayErrors(t *testing.T) {
	b := newBuild(t)
	r, err := b.refused(code.New("TS3104", "arch/x86/entry/entry_64.S", ""))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(r.Verdict, Reboot))
	qt.Assert(t, qt.HasLen(r.Refusals, 1))
	_, err = newBuild(t).refused(code.New("TS3101", "a.c", ""))
	qt.Assert(t, qt.Equals(code.Of(err), code.Code("TS3101")))
	_, err = newBuild(t).refused(os.ErrNotExist)
	qt.Assert(t, qt.ErrorIs(err, os.ErrNotExist))
}

func TestAcceptNamesCodeOrCodeAndPlace(t *testing.T) {
	b := newBuild(t)
	b.req.Accept = []string{"TS4010:sysctl_x", "TS4002"}
	qt.Check(t, qt.IsTrue(b.accepts(code.New("TS4010", "sysctl_x", ""))))
	qt.Check(t, qt.IsFalse(b.accepts(code.New("TS4010", "sysctl_y", ""))))
	qt.Check(t, qt.IsTrue(b.accepts(code.New("TS4002", "anything", ""))))
	qt.Check(t, qt.IsFalse(b.accepts(code.New("TS4011", "sysctl_x", ""))))
}
