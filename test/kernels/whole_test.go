// SPDX-License-Identifier: Apache-2.0

package kernels

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/testenv"
	"github.com/tsugi-project/tsugi/internal/vm"
	"github.com/tsugi-project/tsugi/internal/vm/guest"
	"github.com/tsugi-project/tsugi/internal/vm/wire"
)

// withoutInNext are CVEs that the second live patch of TestAWholeUpdate leaves
// out: their bugs show again.
var withoutInNext = []string{"CVE-2025-38709", "CVE-2026-98992"}

// TestAWholeUpdate builds one live patch of every fix of an update that can be
// live, and a second without some, and lives with them: loaded into the kernel
// with all the modules that take to a machine without their hardware, under a
// load of file systems, network and processes for minutes, modules leaving and
// coming, replaced, reverted. TSUGI_WHOLE says for how many minutes each of the
// four stretches lasts (make whole); TSUGI_WHOLE_PATCHES names a directory to
// keep the live patches in, and to take them from when they are there;
// TSUGI_WHOLE_MODULES bounds how many of the patched modules are loaded, for a
// slow machine: Linux 6.1 seeks each symbol of the live patch among those of all
// modules.
func TestAWholeUpdate(t *testing.T) {
	minutes, err := strconv.ParseFloat(cmp.Or(os.Getenv("TSUGI_WHOLE"), "0"), 64)
	qt.Assert(t, qt.IsNil(err))
	if minutes == 0 {
		t.Skip("TSUGI_WHOLE is not set: make whole")
	}
	k := testenv.Kernel(t, testenv.Old)
	first := wholePatch(t, k, "first.tsugi")
	next := wholePatch(t, k, "next.tsugi", append(exclude(withoutInNext), "--previous", filepath.Join(wholeDir(t), "first.tsugi"))...)
	checkWhole(t, first, next)

	m := bootWhole(t, k, first, next)
	m.modules(first)
	m.reproduce()
	m.work("before", minutes/2)
	t.Logf("without a live patch the kernel says: %q", m.complaints())
	m.judged = true

	m.patch(first)
	m.reproduce(nameAll(shownFixes)...)
	m.work("first", minutes)
	m.reload(first)
	m.work("first, modules reloaded", minutes/2)

	m.patch(next)
	m.reproduce(nameAll(shownFixes, withoutInNext...)...)
	m.work("next", minutes)

	m.unpatch(next)
	m.reproduce()
	m.work("after", minutes/2)
	qt.Check(t, qt.HasLen(m.complaints(), 0))
}

func exclude(cves []string) []string {
	var out []string
	for _, c := range cves {
		out = append(out, "--exclude", c)
	}
	return out
}

// nameAll lists the CVEs of fixes but some.
func nameAll(fixes []cve, but ...string) []string {
	var out []string
	for _, f := range fixes {
		if !slices.Contains(but, f.id) {
			out = append(out, f.id)
		}
	}
	return out
}

// wholeDir is where the live patches of a run lie.
func wholeDir(t testing.TB) string {
	t.Helper()
	dir := cmp.Or(os.Getenv("TSUGI_WHOLE_PATCHES"), filepath.Join(programs, "whole"))
	qt.Assert(t, qt.IsNil(os.MkdirAll(dir, 0o755)))
	return dir
}

// wholePatch builds the update as an operator does: with the program, which
// TSUGI_WHOLE_TSUGICTL may name (one that has made a survey of the update
// before knows what can't be live).
func wholePatch(t *testing.T, k *kernel.Target, name string, args ...string) *livepatch.Patch {
	t.Helper()
	file := filepath.Join(wholeDir(t), name)
	if _, err := os.Stat(file); err != nil {
		program := os.Getenv("TSUGI_WHOLE_TSUGICTL")
		if program == "" {
			program = tsugictl(t)
		}
		all := append([]string{"build", "--update", testenv.Pinned(t, testenv.Old).Fixed, "-t", k.Name, "-o", file, "--json"}, args...)
		start := time.Now()
		cmd := exec.Command(program, all...)
		var errs bytes.Buffer
		cmd.Stderr = &errs
		out, err := cmd.Output()
		qt.Assert(t, qt.IsNil(err), qt.Commentf("%s\n%.2000s", errs.Bytes(), out))
		t.Logf("%s built in %.0f s, %.0f s of processor", name, time.Since(start).Seconds(), (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds())
	}
	b, err := os.ReadFile(file)
	qt.Assert(t, qt.IsNil(err))
	p, err := livepatch.Read(b)
	qt.Assert(t, qt.IsNil(err))
	mf := &p.Manifest
	t.Logf("%s: %s v%d, %d fixes, %d CVEs, %d functions in %d objects, module of %d bytes; %d fixes stay open",
		name, mf.Name, mf.Version, len(mf.Fixes), len(mf.CVEs()), len(mf.Functions), len(mf.Objects()), len(p.Module()), len(mf.Open))
	return p
}

// checkWhole holds the live patches against what the issue asks of them.
func checkWhole(t *testing.T, first, next *livepatch.Patch) {
	t.Helper()
	a, b := &first.Manifest, &next.Manifest
	qt.Check(t, qt.IsTrue(len(a.Fixes) >= 100), qt.Commentf("%d fixes", len(a.Fixes)))
	qt.Check(t, qt.IsTrue(len(a.Objects()) >= 50), qt.Commentf("%d objects", len(a.Objects())))
	qt.Check(t, qt.IsTrue(slices.Contains(a.Objects(), livepatch.Vmlinux)))
	for _, f := range shownFixes {
		qt.Check(t, qt.SliceContains(a.CVEs(), f.id))
		left := slices.Contains(withoutInNext, f.id)
		qt.Check(t, qt.Equals(slices.Contains(b.CVEs(), f.id), !left), qt.Commentf("%s", f.id))
	}
	qt.Check(t, qt.Equals(b.Version, a.Version+1))
	qt.Check(t, qt.Equals(b.Supersedes(a), ""))
}

// whole is a machine that lives with the live patches of an update.
type whole struct {
	*machine
	names   map[*livepatch.Patch]string // file in the machine
	loaded  []string                    // modules
	systems []string                    // directories with file systems
	judged  bool                        // a complaint is a failure from now on
	mu      sync.Mutex
	log     []string // of the kernel, since it was asked for complaints
}

// fileSystems are those whose mkfs this computer has; ext4 it must have.
func fileSystems() []string {
	out := []string{"ext4"}
	for _, fs := range []string{"btrfs", "xfs", "f2fs"} {
		if _, err := exec.LookPath("mkfs." + fs); err == nil {
			out = append(out, fs)
		}
	}
	return out
}

func bootWhole(t *testing.T, k *kernel.Target, patches ...*livepatch.Patch) *whole {
	t.Helper()
	program, err := buildReproducer61()
	qt.Assert(t, qt.IsNil(err))
	work, err := compileGo("work", "./testdata/work")
	qt.Assert(t, qt.IsNil(err))
	m := &whole{machine: &machine{t: t, names: map[string]string{}}, names: map[*livepatch.Patch]string{}}
	cfg := vm.Config{
		Kernel: cmp.Or(k.Vmlinuz, k.Vmlinux), ModuleSource: k, CacheDir: k.Home(), Init: tsugictl(t),
		Modules: wanted(t, patches[0]), Memory: 4096, Timeout: 4 * time.Hour, Programs: []string{program, work},
	}
	for i, p := range patches {
		m.names[p] = fmt.Sprintf("/tsugi/%d.ko", i)
		cfg.Files = append(cfg.Files, vm.File{Path: m.names[p], Data: p.Module()})
	}
	for _, fs := range fileSystems() {
		cfg.Programs = append(cfg.Programs, "mkfs."+fs)
		m.systems = append(m.systems, fs)
	}
	cfg.Disks = []vm.Disk{{Name: "host", Size: 3 << 30, FS: "ext4"}} // for the files behind loop devices
	cfg.OnEvent = func(e wire.Event) {
		var r wire.Record
		if e.Kind == wire.Log && json.Unmarshal(e.Data, &r) == nil {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.log = append(m.log, r.Text)
		}
	}
	start := time.Now()
	m.vm, err = vm.Start(t.Context(), cfg, &wire.Plan{LogLevel: 7})
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() {
		m.vm.Cut()
		out, err := m.vm.Wait()
		qt.Check(t, qt.IsNil(err))
		if out == nil || out.Crash == nil {
			return
		}
		qt.Check(t, qt.IsNil(out.Crash), qt.Commentf("%.4000s", out.Console[max(len(out.Console)-4000, 0):]))
	})
	t.Logf("booted %s in %.0f s", m.sh("uname -r"), time.Since(start).Seconds())
	return m
}

// wanted are the modules that the machine tries to load: those that the live
// patch changes, and what the work needs.
func wanted(t testing.TB, p *livepatch.Patch) []string {
	t.Helper()
	// rxrpc needs fcrypt and pcbc, which no module says
	out := []string{"loop", "overlay", "dm_mod", "dummy", "veth", "bridge", "nf_tables", "tun", "fcrypt", "pcbc"}
	n, err := strconv.Atoi(cmp.Or(os.Getenv("TSUGI_WHOLE_MODULES"), "1000000"))
	qt.Assert(t, qt.IsNil(err))
	objects := p.Manifest.Objects()
	rand.New(rand.NewPCG(6, 1)).Shuffle(len(objects), func(i, k int) { objects[i], objects[k] = objects[k], objects[i] })
	for _, o := range slices.Concat(fileSystems(), objects[:min(n, len(objects))]) {
		if o != livepatch.Vmlinux && !slices.Contains(out, o) {
			out = append(out, o)
		}
	}
	return out
}

// do has the machine do one step and logs how long it took.
func (m *whole) do(what, verb string, args any, limit time.Duration) wire.Event {
	m.t.Helper()
	m.steps++
	s := wire.NewStep(strconv.Itoa(m.steps), verb, args)
	s.Timeout, s.KeepGoing = wire.Duration(limit), true
	start := time.Now()
	e, err := m.vm.Do(m.t.Context(), s)
	qt.Assert(m.t, qt.IsNil(err), qt.Commentf("%s: %v", what, m.complaints()))
	m.t.Logf("%s: %.1f s", what, time.Since(start).Seconds())
	return e
}

// script that has to work, within a time.
func (m *whole) script(what, text string, limit time.Duration) string {
	m.t.Helper()
	e := m.do(what, "script", guest.Script{Text: text}, limit)
	var r guest.ScriptResult
	qt.Assert(m.t, qt.IsNil(json.Unmarshal(e.Data, &r)), qt.Commentf("%s", e.Error))
	qt.Assert(m.t, qt.Equals(r.Exit, 0), qt.Commentf("%s: %.4000s", what, r.Output))
	return strings.TrimSpace(r.Output)
}

// modules loads what the kernel takes, a few at a time.
func (m *whole) modules(p *livepatch.Patch) {
	m.t.Helper()
	var refused []string
	tried := 0
	for few := range slices.Chunk(wanted(m.t, p), 8) {
		e := m.do("modules "+strings.Join(few, " "), "modprobe-any", few, 10*time.Minute)
		var r guest.Tried
		qt.Assert(m.t, qt.IsNil(json.Unmarshal(e.Data, &r)), qt.Commentf("%s", e.Error))
		tried += len(few)
		for _, x := range r.Refused {
			refused = append(refused, x.Name+" ("+x.Error+")")
		}
	}
	m.loaded = strings.Fields(m.script("lsmod", "lsmod | awk 'NR > 1 { print $1 }'", time.Minute))
	changed := slices.DeleteFunc(slices.Clone(p.Manifest.Objects()), func(o string) bool { return !slices.Contains(m.loaded, o) })
	m.t.Logf("%d modules are loaded, %d of the %d that the live patch changes; refused: %v", len(m.loaded), len(changed), len(p.Manifest.Objects())-1, refused)
	if os.Getenv("TSUGI_WHOLE_MODULES") == "" {
		qt.Check(m.t, qt.IsTrue(len(changed) >= 50), qt.Commentf("%d", len(changed)))
	}
	for _, fs := range m.systems {
		m.script("make "+fs, fmt.Sprintf(`mkdir -p /mnt/host /mnt/%[1]s
[ -e /mnt/host/lost+found ] || mount -t ext4 /dev/tsugi/host /mnt/host
truncate -s 600M /mnt/host/%[1]s.img && d=$(losetup -f) && losetup $d /mnt/host/%[1]s.img && mkfs.%[1]s $d && mount -t %[1]s $d /mnt/%[1]s`, fs), 10*time.Minute)
	}
}

// work keeps the system busy, and everything in it has to work.
func (m *whole) work(when string, minutes float64) {
	m.t.Helper()
	text := fmt.Sprintf("work %d", int(minutes*60))
	for _, fs := range m.systems {
		text += " /mnt/" + fs
	}
	out := m.script("work: "+when, text, time.Duration(minutes*float64(time.Minute))+10*time.Minute)
	var done map[string]struct {
		Rounds        int
		Error, Absent string
	}
	qt.Assert(m.t, qt.IsNil(json.Unmarshal([]byte(out), &done)), qt.Commentf("%s", out))
	for kind, d := range done {
		qt.Check(m.t, qt.Equals(d.Error, ""), qt.Commentf("%s: %s", when, kind))
		qt.Check(m.t, qt.Equals(d.Absent, ""), qt.Commentf("%s: %s", when, kind))
		qt.Check(m.t, qt.IsTrue(d.Rounds > 0), qt.Commentf("%s: %s", when, kind))
	}
	m.t.Logf("%s: %s", when, out)
	if m.judged {
		qt.Assert(m.t, qt.HasLen(m.complaints(), 0))
	}
}

// reproduce runs the reproducers: these CVEs are fixed, the others not.
func (m *whole) reproduce(fixed ...string) {
	m.t.Helper()
	out := m.script("reproducers", "reproduce61; [ $? -lt 2 ]", 5*time.Minute)
	var want []string
	for _, f := range shownFixes {
		is := ": the bug shows"
		if slices.Contains(fixed, f.id) {
			is = ": fixed"
		}
		want = append(want, f.id+is)
	}
	qt.Check(m.t, qt.Equals(out, strings.Join(want, "\n")))
}

// settledSlowly waits for a transition on a machine with hundreds of kernel
// threads and little time: ten minutes at most.
const settledSlowly = `
i=0
while [ $i -lt 600 ] && cat /sys/kernel/livepatch/*/transition 2>/dev/null | grep -q 1; do sleep 1; i=$((i+1)); done
if cat /sys/kernel/livepatch/*/transition 2>/dev/null | grep -q 1; then
	for t in /proc/[0-9]*; do [ "$(cat $t/patch_state)" = -1 ] || { echo $t $(cat $t/patch_state $t/comm); cat $t/stack; }; done
	exit 1
fi
`

// patch loads a live patch, which replaces what is there, and waits for its
// transition; then it is alone, and has what it should on every object that is
// loaded.
func (m *whole) patch(p *livepatch.Patch) {
	m.t.Helper()
	name := p.Manifest.Name
	m.script("insmod", "insmod "+m.names[p], 20*time.Minute)
	m.script("transition", settledSlowly, 20*time.Minute)
	m.script("others leave", `for o in $(ls /sys/kernel/livepatch); do
	[ $o = `+name+` ] || { for i in $(seq 100); do [ -e /sys/kernel/livepatch/$o ] || break; sleep 0.1; done; }
done
for o in $(lsmod | awk '/^tsugi_/ { print $1 }'); do [ $o = `+name+` ] || `+unloaded("$o")+` || exit 1; done`, 5*time.Minute)
	qt.Check(m.t, qt.Equals(m.script("alone", "ls /sys/kernel/livepatch; cat /sys/kernel/livepatch/*/enabled /sys/kernel/livepatch/*/transition", time.Minute), name+"\n1\n0"))
	m.patched(p)
}

// patched compares what the kernel shows of a live patch with its manifest.
func (m *whole) patched(p *livepatch.Patch) {
	m.t.Helper()
	out := m.script("patched", "cd /sys/kernel/livepatch/"+p.Manifest.Name+` && for o in */patched; do echo ${o%/patched} $(cat $o); done`, 5*time.Minute)
	now := strings.Fields(m.script("lsmod", "lsmod | awk 'NR > 1 { print $1 }'", time.Minute))
	var want []string
	n := 0
	for _, o := range p.Manifest.Objects() {
		is := " 0"
		if o == livepatch.Vmlinux || slices.Contains(now, o) {
			is = " 1"
			n++
		}
		want = append(want, o+is)
	}
	slices.Sort(want)
	got := strings.Split(out, "\n")
	slices.Sort(got)
	qt.Check(m.t, qt.DeepEquals(got, want))
	functions := m.script("functions", "ls -d /sys/kernel/livepatch/"+p.Manifest.Name+"/*/*,* | wc -l", 5*time.Minute)
	qt.Check(m.t, qt.Equals(functions, strconv.Itoa(len(p.Manifest.Functions))))
	m.t.Logf("%s: %s functions, %d objects of %d patched", p.Manifest.Name, functions, n, len(want))
}

// reload takes out the patched modules that nobody uses, and loads them again:
// the kernel patches each as it comes.
func (m *whole) reload(p *livepatch.Patch) {
	m.t.Helper()
	out := m.script("rmmod", `for m in $(lsmod | awk 'NR > 1 && $3 == 0 { print $1 }'); do
	[ ! -d /sys/kernel/livepatch/`+p.Manifest.Name+`/$m ] || ! rmmod $m 2>/dev/null || echo $m
done`, 20*time.Minute)
	gone := strings.Fields(out)
	m.t.Logf("%d patched modules were unloaded and loaded again: %v", len(gone), gone)
	qt.Check(m.t, qt.IsTrue(len(gone) > 0))
	for few := range slices.Chunk(gone, 8) {
		m.do("load "+strings.Join(few, " "), "modprobe-any", few, 10*time.Minute)
	}
	m.patched(p)
}

func (m *whole) unpatch(p *livepatch.Patch) {
	m.t.Helper()
	name := p.Manifest.Name
	m.script("revert", "echo 0 >/sys/kernel/livepatch/"+name+"/enabled"+settledSlowly, 20*time.Minute)
	m.script("unload", "while [ -e /sys/kernel/livepatch/"+name+" ]; do sleep 0.1; done; "+unloaded(name), 5*time.Minute)
	qt.Check(m.t, qt.Equals(m.script("nothing is left", "ls /sys/kernel/livepatch; grep ^tsugi_ /proc/modules | grep -v permanent; true", time.Minute), ""))
}

// unloaded takes a module out, unless it is one that stays in memory because
// the kernel may still know addresses of it.
func unloaded(name string) string {
	return `{ grep -q "^` + name + ` .*permanent" /proc/modules || rmmod ` + name + `; }`
}

// complaint is what a kernel says when something is wrong with it.
var complaint = regexp.MustCompile(`WARNING: CPU|BUG:|BUG |Oops|general protection|Call Trace|INFO: task|rcu.*(stall|detected)|soft lockup|hard LOCKUP|KASAN|UBSAN|lockdep|possible recursive|inconsistent lock|corrupt|I/O error|EXT4-fs error|BTRFS (error|critical)|F2FS-fs.*(error|WARN)|XFS.*(Corruption|Internal error)|refcount_t|use-after-free|scheduling while atomic|unable to handle|livepatch: (failed|error)`)

// complaints that are new since it was asked before.
func (m *whole) complaints() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer func() { m.log = nil }()
	var out []string
	for _, l := range m.log {
		if complaint.MatchString(l) {
			out = append(out, l)
		}
	}
	return out
}
