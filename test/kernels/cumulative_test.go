// SPDX-License-Identifier: Apache-2.0

package kernels

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/builder"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/cumulative"
	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/series"
	"github.com/tsugi-project/tsugi/internal/testenv"
	"github.com/tsugi-project/tsugi/internal/vm"
	"github.com/tsugi-project/tsugi/internal/vm/guest"
	"github.com/tsugi-project/tsugi/internal/vm/wire"
)

// step is one fix of a series, an edit of the source as the fixes before it
// leave it.
type step struct {
	id   string
	edit edit
}

// stacked makes a series of edits, each on top of those before it.
func stacked(t testing.TB, k *kernel.Target, steps ...step) []*series.Fix {
	t.Helper()
	now := map[string]string{}
	var out []*series.Fix
	for _, s := range steps {
		old, ok := now[s.edit.path]
		if !ok {
			old = readSource(t, k, s.edit.path)
		}
		at := strings.Index(old, s.edit.old)
		qt.Assert(t, qt.IsTrue(at >= 0), qt.Commentf("%s: %s has no %q", k.Name, s.edit.path, s.edit.old))
		text := old[:at] + s.edit.new + old[at+len(s.edit.old):]
		now[s.edit.path] = text
		out = append(out, repair(t, s.id, fix.Unified(s.edit.path, []byte(old), []byte(text))))
	}
	return out
}

// repair makes a fix of a series; its number is that of its CVE.
func repair(t testing.TB, id string, diff []byte) *series.Fix {
	t.Helper()
	f, err := fix.Parse(id+".diff", diff)
	qt.Assert(t, qt.IsNil(err))
	return &series.Fix{Meta: series.Meta{ID: id, Title: id, CVEs: []string{number(id)}, Severity: series.High}, Diff: f}
}

// number makes a CVE id of a word.
func number(word string) string {
	n := 0
	for _, b := range []byte(word) {
		n = (n*31 + int(b)) % 90000
	}
	return fmt.Sprintf("CVE-2026-%05d", 10000+n)
}

// chosen builds what a policy chooses of fixes.
func chosen(t testing.TB, k *kernel.Target, version int, previous *livepatch.Manifest, fixes []*series.Fix, without ...string) *cumulative.Result {
	t.Helper()
	p := selection.Policy{Name: "default"}
	for _, id := range without {
		p.Exclusions = append(p.Exclusions, selection.Exclusion{Fix: id, Reason: "a test", Owner: "test"})
	}
	start := time.Now()
	r, err := cumulative.Build(t.Context(), cumulative.Request{
		Target: k, Series: &series.Series{Name: "e2e", To: "test", Fixes: fixes}, Policy: p, Now: start,
		Version: version, Previous: previous, Builder: "tsugi test",
	}, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	t.Logf("v%d: %s in %.1f s, %d rounds, %d functions, %d left out", version, r.Report.Verdict, time.Since(start).Seconds(), r.Rounds, len(r.Report.Functions), len(r.Selection.Left))
	qt.Assert(t, qt.Equals(r.Report.Verdict, builder.Live), qt.Commentf("%+v", r.Selection.Left))
	return r
}

func held(r *cumulative.Result) []string {
	var out []string
	for _, f := range r.Artifact.Manifest.Fixes {
		out = append(out, f.ID)
	}
	return out
}

const cmdline, banner = "fs/proc/cmdline.c", "fs/proc/version.c"

// says is a function that shows who changed it.
func says(word string) string { return fmt.Sprintf("\tseq_puts(m, %q);\n", word) }

// versionsOf makes the live patches that TestVersionsReplaceEachOther loads.
func versionsOf(t testing.TB, k *kernel.Target) map[string]*cumulative.Result {
	t.Helper()
	const puts = "\tseq_puts(m, saved_command_line);\n"
	one := step{"one", edit{path: cmdline, old: puts, new: puts + says(" one")}}
	same := step{"same-function", edit{path: cmdline, old: puts, new: says("both ") + puts}}
	onOne := step{"on-one", edit{path: cmdline, old: `" one"`, new: `" two"`}}
	state := func(version int) step {
		return step{"state", edit{
			path: banner, old: "static int version_proc_show",
			new: fmt.Sprintf("#include <tsugi/livepatch.h>\nTSUGI_STATE(7, %d);\n\nstatic int version_proc_show", version),
		}}
	}
	v := map[string]*cumulative.Result{}
	v["v1"] = chosen(t, k, 1, nil, stacked(t, k, one))
	first := &v["v1"].Artifact.Manifest
	// two fixes in one function, and one with a state
	v["v2"] = chosen(t, k, 2, first, stacked(t, k, one, same, state(1)))
	// a fix on a fix, and the one below excluded takes it along
	on := stacked(t, k, one, onOne, same)
	v["v3"] = chosen(t, k, 3, &v["v2"].Artifact.Manifest, on, "one")
	// a fix on a fix, both held
	v["v4"] = chosen(t, k, 4, &v["v2"].Artifact.Manifest, stacked(t, k, one, onOne, same, state(1)))
	// a fix corrected later, a higher version of the state
	corrected := step{"one", edit{path: cmdline, old: puts, new: puts + says(" uno")}}
	v["v9"] = chosen(t, k, 9, &v["v2"].Artifact.Manifest, stacked(t, k, corrected, same, state(2)))
	// a fix withdrawn later, by one that takes it back
	withdrawn := step{"withdrawn", edit{path: cmdline, old: says(" one"), new: ""}}
	v["v10"] = chosen(t, k, 10, &v["v9"].Artifact.Manifest, stacked(t, k, one, same, state(2), withdrawn))

	qt.Check(t, qt.DeepEquals(held(v["v2"]), []string{"one", "same-function", "state"}))
	qt.Check(t, qt.DeepEquals(held(v["v3"]), []string{"same-function"}))
	qt.Check(t, qt.DeepEquals(held(v["v4"]), []string{"one", "on-one", "same-function", "state"}))
	qt.Check(t, qt.DeepEquals(v["v3"].Selection.Offers(), []selection.Offer{
		{Excluded: []string{"one"}, Dragged: []string{"on-one"}, Keep: []selection.Keep{{Fix: "on-one", Keep: []string{"one"}}}},
	}))
	qt.Check(t, qt.HasLen(v["v3"].Selection.Overlaps, 2), qt.Commentf("%+v", v["v3"].Selection.Overlaps))
	qt.Check(t, qt.DeepEquals(v["v3"].Artifact.Manifest.Open, []livepatch.OpenFix{
		{ID: "on-one", Title: "on-one", CVEs: []string{number("on-one")}, Severity: "high", Kind: livepatch.OpenExcluded},
		{ID: "one", Title: "one", CVEs: []string{number("one")}, Severity: "high", Kind: livepatch.OpenExcluded},
	}))
	qt.Check(t, qt.Equals(v["v9"].Artifact.Manifest.Supersedes(&v["v2"].Artifact.Manifest), ""))
	qt.Check(t, qt.Equals(v["v3"].Artifact.Manifest.Supersedes(&v["v2"].Artifact.Manifest), "it does not know state 7 of "+v["v2"].Report.Name))
	qt.Check(t, qt.IsTrue(slices.ContainsFunc(v["v3"].Artifact.Manifest.Risks, func(r livepatch.Risk) bool { return r.Code == "TS1304" })))
	// Exclusion is exact: not a byte of the excluded fix is left in the module.
	for word, is := range map[string]bool{"both ": true, " one": false, " two": false} {
		qt.Check(t, qt.Equals(bytes.Contains(v["v3"].Artifact.Module(), []byte(word+"\x00")), is), qt.Commentf("%q", word))
	}
	return v
}

// TestVersionsReplaceEachOther loads live patches of one series over each
// other: each has just what its fixes make, whatever was there before.
func TestVersionsReplaceEachOther(t *testing.T) {
	k := testenv.Kernel(t, testenv.Old)
	v := versionsOf(t, k)
	m := bootWith(t, k, v)
	plain := m.sh("cat /proc/cmdline")
	for _, c := range []struct{ load, shows string }{
		{"v1", plain + " one"},
		{"v2", "both " + plain + " one"},
		{"v4", "both " + plain + " two"},
		{"v9", "both " + plain + " uno"},
		{"v10", "both " + plain},
	} {
		m.load(c.load)
		qt.Check(t, qt.Equals(m.sh("cat /proc/cmdline"), c.shows), qt.Commentf("%s", c.load))
		qt.Check(t, qt.Equals(m.sh("ls /sys/kernel/livepatch"), v[c.load].Report.Name), qt.Commentf("it alone is there"))
	}
	// The kernel itself refuses what the manifest says can't replace it.
	qt.Check(t, qt.Not(qt.Equals(m.try("insmod /tsugi/v3.ko"), 0)), qt.Commentf("v3 does not know the state of v10"))
	m.revert("v10")
	qt.Check(t, qt.Equals(m.sh("cat /proc/cmdline"), plain))
	// From the first to the ninth, with nothing between them.
	m.load("v1")
	m.load("v9")
	qt.Check(t, qt.Equals(m.sh("cat /proc/cmdline"), "both "+plain+" uno"))
	m.revert("v9")
	m.load("v3")
	qt.Check(t, qt.Equals(m.sh("cat /proc/cmdline"), "both "+plain))
}

// machine is a machine with live patches on its disk.
type machine struct {
	t     testing.TB
	vm    *vm.Machine
	names map[string]string // of the live patches by what the test calls them
	steps int
}

// bootWith boots a kernel with live patches as /tsugi/NAME.ko.
func bootWith(t testing.TB, k *kernel.Target, patches map[string]*cumulative.Result, modules ...string) *machine {
	t.Helper()
	m := &machine{t: t, names: map[string]string{}}
	cfg := vm.Config{
		Kernel: k.Vmlinux, ModuleSource: k, CacheDir: k.Home(), Init: tsugictl(t),
		Modules: modules, Memory: 768, Timeout: 10 * time.Minute,
	}
	for name, r := range patches {
		m.names[name] = r.Report.Name
		cfg.Files = append(cfg.Files, vm.File{Path: "/tsugi/" + name + ".ko", Data: r.Artifact.Module()})
	}
	var plan wire.Plan
	if len(modules) > 0 {
		plan.Steps = append(plan.Steps, wire.NewStep("modules", "modprobe", modules))
	}
	var err error
	m.vm, err = vm.Start(t.Context(), cfg, &plan)
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() {
		m.vm.Cut()
		out, err := m.vm.Wait()
		qt.Check(t, qt.IsNil(err))
		if out != nil {
			qt.Check(t, qt.IsNil(out.Crash))
		}
	})
	return m
}

// run has the machine run a script.
func (m *machine) run(script string) guest.ScriptResult {
	m.t.Helper()
	m.steps++
	e, err := m.vm.Do(m.t.Context(), wire.NewStep(strconv.Itoa(m.steps), "script", guest.Script{Text: script}))
	qt.Assert(m.t, qt.IsNil(err))
	var r guest.ScriptResult
	qt.Assert(m.t, qt.IsNil(json.Unmarshal(e.Data, &r)))
	return r
}

func (m *machine) try(script string) int {
	m.t.Helper()
	return m.run(script).Exit
}

// sh runs a script that has to work, and returns what it says.
func (m *machine) sh(script string) string {
	m.t.Helper()
	r := m.run(script)
	qt.Assert(m.t, qt.Equals(r.Exit, 0), qt.Commentf("%s: %s", script, r.Output))
	return strings.TrimSuffix(r.Output, "\n")
}

const settled = `
for i in $(seq 600); do
	for t in /sys/kernel/livepatch/*/transition; do [ ! -e $t ] || [ "$(cat $t)" = 0 ] || continue 2; done
	break
done
`

// unload takes a module out unless it is one that stays in memory.
const unload = `{ grep -q "^$o .*permanent" /proc/modules || rmmod $o; }`

// load loads a live patch and waits until it is alone.
func (m *machine) load(name string) {
	m.t.Helper()
	m.sh("insmod /tsugi/" + name + ".ko" + settled + `
for d in $(ls /sys/kernel/livepatch); do [ $d = ` + m.names[name] + ` ] || sleep 1; done
for o in $(lsmod | awk '/^tsugi_/ { print $1 }'); do [ $o = ` + m.names[name] + ` ] || ` + unload + `; done`)
}

func (m *machine) revert(name string) {
	m.t.Helper()
	n := m.names[name]
	m.sh("echo 0 >/sys/kernel/livepatch/" + n + "/enabled" + settled + "while [ -e /sys/kernel/livepatch/" + n + " ]; do :; done; o=" + n + "; " + unload)
}

// markers are fixes that show in the module by their words, in functions that
// some of them share.
func markers(t testing.TB, k *kernel.Target) []*series.Fix {
	t.Helper()
	const puts, banner1 = "\tseq_puts(m, saved_command_line);\n", "\tseq_printf(m, linux_proc_banner,\n"
	return stacked(t, k,
		step{"front", edit{path: cmdline, old: puts, new: says("tsugi-front ") + puts}},
		step{"back", edit{path: cmdline, old: "\tseq_putc(m, '\\n');\n", new: says(" tsugi-back") + "\tseq_putc(m, '\\n');\n"}},
		step{"banner", edit{path: banner, old: banner1, new: says("tsugi-banner ") + banner1}},
		step{"load", edit{path: "fs/proc/loadavg.c", old: "\treturn 0;\n", new: says("tsugi-load\n") + "\treturn 0;\n"}},
		step{"uptime", edit{path: "fs/proc/uptime.c", old: "\treturn 0;\n", new: says("tsugi-uptime\n") + "\treturn 0;\n"}},
	)
}

// TestRandomExclusions builds random subsets of a series of vmlinux and four
// modules, and looks into each module for what was excluded. All are loaded,
// each replacing the one before it. TSUGI_TEST_SUBSETS says how many (make
// exclusions: ten).
func TestRandomExclusions(t *testing.T) {
	n, err := strconv.Atoi(cmp.Or(os.Getenv("TSUGI_TEST_SUBSETS"), "0"))
	qt.Assert(t, qt.IsNil(err))
	if n == 0 {
		t.Skip("TSUGI_TEST_SUBSETS is not set: make exclusions")
	}
	k := testenv.Kernel(t, testenv.Old)
	fixes := markers(t, k)
	for i, f := range derive(t, testenv.Old, oldFixes) {
		fixes = append(fixes, repair(t, strings.ToLower(oldFixes[i].id), f.Raw))
	}
	random := rand.New(rand.NewPCG(4, 6))
	patches := map[string]*cumulative.Result{}
	var names []string
	for i := range n {
		var without []string
		for _, f := range fixes {
			if random.IntN(3) == 0 {
				without = append(without, f.ID)
			}
		}
		r := chosen(t, k, i+1, nil, fixes, without...)
		name := fmt.Sprintf("subset%d", i)
		names, patches[name] = append(names, name), r
		checkExact(t, r, fixes, without)
		if i == 0 {
			again, err := chosen(t, k, i+1, nil, fixes, without...).Artifact.Digest()
			qt.Assert(t, qt.IsNil(err))
			digest, err := r.Artifact.Digest()
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(again, digest), qt.Commentf("the same choice ends in the same bytes"))
		}
	}
	m := bootWith(t, k, patches, "zram", "gtp")
	for _, name := range names {
		m.load(name)
		qt.Check(t, qt.Equals(m.sh("ls /sys/kernel/livepatch"), m.names[name]))
		qt.Check(t, qt.Equals(m.sh("cat /sys/kernel/livepatch/*/enabled"), "1"))
		shown := m.sh("cat /proc/cmdline /proc/version /proc/loadavg /proc/uptime")
		for _, f := range fixes[:5] {
			is := slices.Contains(held(patches[name]), f.ID)
			qt.Check(t, qt.Equals(strings.Contains(shown, "tsugi-"+f.ID), is), qt.Commentf("%s: %s", name, f.ID))
		}
	}
}

// checkExact looks into the module: what it holds of each fix must be there if
// and only if the fix is not excluded.
func checkExact(t testing.TB, r *cumulative.Result, fixes []*series.Fix, without []string) {
	t.Helper()
	ko := r.Artifact.Module()
	f, err := elfobj.Read(ko)
	qt.Assert(t, qt.IsNil(err))
	functions := map[string]bool{}
	for _, s := range f.Symbols {
		functions[s.Name] = functions[s.Name] || s.Section != nil
	}
	for i, x := range fixes {
		want := !slices.Contains(without, x.ID)
		if i < 5 {
			qt.Check(t, qt.Equals(bytes.Contains(ko, []byte("tsugi-"+x.ID)), want), qt.Commentf("%s without %v", x.ID, without))
			continue
		}
		for _, name := range oldFixes[i-5].functions {
			_, name, _ = strings.Cut(name, " ")
			qt.Check(t, qt.Equals(functions[name], want), qt.Commentf("%s of %s without %v", name, x.ID, without))
		}
	}
	qt.Check(t, qt.HasLen(r.Selection.Left, len(without)))
}

// TestWhatDoesNotGoIsLeftOut: a series with a fix that does not compile, one
// that needs a reboot, and one that needs an excluded one, still ends in a
// live patch of the others.
func TestWhatDoesNotGoIsLeftOut(t *testing.T) {
	k := testenv.Kernel(t, testenv.Old)
	const puts, open = "\tseq_puts(m, saved_command_line);\n", "static int version_proc_show(struct seq_file *m, void *v)\n{\n"
	fixes := stacked(t, k,
		step{"good", edit{path: cmdline, old: puts, new: puts + says(" good")}},
		step{"broken", edit{path: "fs/proc/loadavg.c", old: "\treturn 0;\n", new: "\tno_such_function(m);\n\treturn 0;\n"}},
		step{"init", edit{path: "fs/proc/uptime.c", old: `proc_create_single("uptime", `, new: `proc_create_single("uptime2", `}},
		step{"header", edit{path: "include/linux/blktrace_api.h", old: "#include <linux/blk-mq.h>\n", new: "#include <linux/blk-mq.h>\n#define TSUGI_WORD \" header\"\n"}},
		step{"user", edit{path: banner, old: open, new: open + "\tseq_puts(m, TSUGI_WORD);\n"}},
		step{"include", edit{path: banner, old: "#include <linux/fs.h>\n", new: "#include <linux/fs.h>\n#include <linux/blktrace_api.h>\n"}},
	)
	first := chosen(t, k, 1, nil, fixes, "header")
	kinds := map[string]selection.LeftKind{}
	for _, l := range first.Selection.Left {
		kinds[l.ID] = l.Kind
	}
	qt.Check(t, qt.Equals(kinds["broken"], selection.Failed))
	qt.Check(t, qt.Equals(kinds["user"], selection.Dragged), qt.Commentf("%+v", first.Selection.Left))
	qt.Check(t, qt.SliceContains(held(first), "good"))
	by := slices.IndexFunc(first.Selection.Left, func(l selection.Left) bool { return l.ID == "user" })
	qt.Check(t, qt.DeepEquals(first.Selection.Left[by].Needs, []string{"header"}))
	open1 := slices.IndexFunc(first.Open, func(o livepatch.OpenFix) bool { return o.ID == "broken" })
	qt.Assert(t, qt.IsTrue(open1 >= 0))
	qt.Check(t, qt.Equals(first.Open[open1].Code, code.Code("TS3101")))
}
