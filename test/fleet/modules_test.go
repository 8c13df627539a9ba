// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/builder"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/preflight"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/testenv"
	"github.com/tsugi-project/tsugi/internal/vm"
)

// withModule is a live patch that brings, beside its own fix, a fixed build of
// a USB driver whose table of devices grows: a new device that it then drives.
func withModule(t testing.TB, k *kernel.Target, live artifact) artifact {
	t.Helper()
	const source = "drivers/usb/serial/option.c"
	b, err := os.ReadFile(filepath.Join(k.Source, source))
	qt.Assert(t, qt.IsNil(err))
	const table = "static const struct usb_device_id option_ids[] = {\n"
	qt.Assert(t, qt.StringContains(string(b), table))
	diff := fix.Unified(source, b, []byte(strings.Replace(string(b), table, table+"\t{ USB_DEVICE(0x7591, 0x7591) },\n", 1)))
	f, err := fix.Parse("option", diff)
	qt.Assert(t, qt.IsNil(err))
	made, err := builder.Replace(t.Context(), builder.ReplaceRequest{Target: k, Fixes: []*fix.Fix{f}, Modules: []string{"option"}}, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(made, 1))
	qt.Check(t, qt.DeepEquals(made[0].Changed, []string{"drivers/usb/serial/option.o"}))
	qt.Check(t, qt.IsTrue(made[0].Sections > 15), qt.Commentf("%d sections were compared with the shipped module", made[0].Sections))

	file, err := os.ReadFile(live.file)
	qt.Assert(t, qt.IsNil(err))
	p, err := livepatch.Read(file)
	qt.Assert(t, qt.IsNil(err))
	m := p.Manifest
	m.Fixes = append(m.Fixes, livepatch.FixRef{ID: "option", Title: "USB: serial: option: a new device", CVEs: []string{"CVE-2026-99901"}, Severity: "low"})
	m.Open = []livepatch.OpenFix{
		{ID: "later", CVEs: []string{"CVE-2026-99902"}, Severity: "high", Kind: livepatch.OpenReboot, Code: "TS4030", Why: "struct x grows"},
	}
	diffs := map[string][]byte{"option": diff}
	for _, f := range p.Manifest.Fixes {
		diffs[f.ID], _ = p.Payload(f.Diff)
	}
	q, err := livepatch.New(m, m.Module.Name, p.Module(), diffs)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(q.AddReplacement(made[0].Replacement, made[0].KO)))
	q.Manifest.Fixes[len(q.Manifest.Fixes)-1].Modules = []string{"option"}
	out, err := q.Bytes()
	qt.Assert(t, qt.IsNil(err))
	a := artifact{file: filepath.Join(t.TempDir(), "with-module.tsugi"), name: live.name}
	qt.Assert(t, qt.IsNil(os.WriteFile(a.file, out, 0o644)))
	return a
}

// installed gives a machine kmod and, on its disk, the modules of its kernel
// that a module needs, as the kernel's package puts them there.
func installed(t testing.TB, k *kernel.Target, module string) (change func(*vm.Config), prepare string) {
	t.Helper()
	files := []vm.File{{Path: "/usr/sbin/modprobe", From: "/usr/bin/kmod", Mode: 0o755}, {Path: "/usr/sbin/depmod", From: "/usr/bin/kmod", Mode: 0o755}}
	seen := map[string]bool{}
	var add func(name string)
	add = func(name string) {
		for _, m := range k.Modules() {
			if m.Name != name || seen[name] {
				continue
			}
			seen[name] = true
			ko, err := os.ReadFile(m.Path)
			qt.Assert(t, qt.IsNil(err))
			files = append(files, vm.File{Path: "/package/" + m.File, Data: ko})
			info, err := preflight.ReadModule(ko)
			qt.Assert(t, qt.IsNil(err))
			for _, d := range info.Depends {
				add(kernel.ModuleName(d))
			}
		}
	}
	add(module)
	qt.Assert(t, qt.IsTrue(len(seen) > 2), qt.Commentf("%v", seen))
	// The directory is on the disk, beside the agent's own, so that a boot finds
	// it as the last one left it.
	prepare = fmt.Sprintf(`set -e
d=/var/lib/tsugi/root/%[1]s
[ -d $d ] || { mkdir -p $d; cp -r /package/kernel $d/; }
mkdir -p /lib/modules/%[1]s
mount -o bind $d /lib/modules/%[1]s
[ -f $d/modules.dep ] || /usr/sbin/depmod %[1]s 2>/dev/null`, k.Release)
	return func(c *vm.Config) {
		c.Programs = append(c.Programs, "/usr/bin/kmod") // with its libraries
		c.Files = append(c.Files, files...)
	}, prepare
}

// A fix of a module that is not loaded: its fixed build takes the module's
// place on the disk once the live patch is confirmed, the kernel takes it when
// the module loads, a loss of power and a boot change nothing about that, and
// a revert puts the shipped one back. A module that is loaded and that nothing
// uses is swapped where the machine's owner lets it.
func TestFixedModuleInThePlaceOfTheShippedOne(t *testing.T) {
	k := testenv.Kernel(t, testenv.Demo)
	a := withModule(t, k, realPatch(t, k, 1))
	s := newServer(t)
	s.publish(a, "stable")
	m := newMachine(t, k, s, "modem-1")
	change, prepare := installed(t, k, "option")
	buildID := func(r *running) string { return r.sh("od -An -tx1 -v /sys/module/option/notes/.note.gnu.build-id") }
	stands := func(want api.ReplacementState) func(status) bool {
		return func(s status) bool {
			return isHealthy(s) && s.Applied.Coverage != nil && len(s.Applied.Coverage.Modules) == 1 && s.Applied.Coverage.Modules[0].State == want
		}
	}

	r := m.boot(t, change)
	r.sh(prepare)
	r.sh("/usr/sbin/modprobe option")
	shipped := buildID(r)
	r.sh("rmmod option")
	r.network()
	r.sh("tsugi enroll " + s.token("fleet", "stable"))
	r.agent()
	got := r.until("protected, with the module on the disk", stands(api.OnDisk))
	qt.Check(t, qt.Equals(got.Applied.Coverage.Sentence(), fmt.Sprintf("protected from %d of %d; 1 of the rest is high", got.Applied.Coverage.Total-1, got.Applied.Coverage.Total)))
	text := r.try("tsugi status").Output
	qt.Check(t, qt.StringContains(text, "1 on the disk for when they load"), qt.Commentf("%s", text))
	qt.Check(t, qt.StringContains(r.sh("tsugi cves"), "module option"))
	qt.Check(t, qt.StringContains(r.sh("tsugi cves --format openvex"), "with the fixed build of module option"))
	r.sh("/usr/sbin/modprobe usb:v7591p7591d0000dc00dsc00dp00ic00isc00ip00in00") // the new device arrives
	fixed := buildID(r)
	qt.Check(t, qt.Not(qt.Equals(fixed, shipped)))
	r.sh("tsugi refresh")
	r.until("with the fixed module loaded", stands(api.LoadedNow))
	// Before its watch is over a loss of power would speak against it.
	r.sh("i=0; while [ $i -lt 60 ]; do i=$((i+1)); tsugi logs | grep -q 'fixed module option is loaded and confirmed' && exit 0; sleep 1; done; exit 1")
	r.Cut()
	_, err := r.Wait()
	qt.Assert(t, qt.IsNil(err))

	// The module loads before the agent starts, and is the fixed one.
	m.config += "modules: {swap_unused: true}\n"
	r = m.boot(t, change)
	r.sh(prepare)
	r.sh("/usr/sbin/modprobe option")
	qt.Check(t, qt.Equals(buildID(r), fixed))
	e := r.early()
	qt.Check(t, qt.Equals(e.Exit, 0), qt.Commentf("%s", e.Output))
	r.network()
	r.agent()
	r.until("with the fixed module loaded after the boot", stands(api.LoadedNow))

	// By hand all of it goes, and the module that loads is the shipped one.
	r.sh("tsugi revert")
	r.sh("[ ! -e /lib/modules/*/updates ] && rmmod option && /usr/sbin/modprobe option")
	qt.Check(t, qt.Equals(buildID(r), shipped))

	// It comes again, and takes the place of the module that nothing uses.
	r.sh("tsugi refresh")
	r.until("with the module swapped", stands(api.LoadedNow))
	qt.Check(t, qt.Equals(buildID(r), fixed))
	r.shutdown()
}
