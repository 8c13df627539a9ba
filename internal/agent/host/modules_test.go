// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/agent"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/testenv/need"
)

const rel = "6.1.0-55-amd64"

// ko is a module that depmod reads.
func ko(t *testing.T, name, text string) []byte {
	t.Helper()
	note := append([]byte("\x04\x00\x00\x00\x14\x00\x00\x00\x03\x00\x00\x00GNU\x00"), bytes.Repeat([]byte{byte(len(text))}, 20)...)
	f := elfobj.File{Machine: elf.EM_X86_64, Order: elf.ELFDATA2LSB, Sections: []*elfobj.Section{
		{Name: ".note.gnu.build-id", Type: elf.SHT_NOTE, Flags: elf.SHF_ALLOC, Align: 4, Data: note},
		{Name: ".modinfo", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC, Align: 1, Data: []byte("name=" + name + "\x00depends=\x00alias=usb:" + text + "\x00")},
	}}
	b, err := f.Bytes()
	qt.Assert(t, qt.IsNil(err))
	return b
}

// machine is a root directory with a kernel's modules, and the real depmod.
type machine struct {
	Modules
	t      *testing.T
	search string   // another configuration of depmod
	seen   []string // what lay in updates/tsugi each time that depmod ran
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	need.Program(t, "/usr/sbin/depmod")
	m := &machine{t: t}
	m.Root = t.TempDir()
	m.Run = func(ctx context.Context, argv ...string) error {
		m.seen = append(m.seen, strings.Join(m.list(), " "))
		if _, err := os.Stat(m.path("run/depmod.d")); err == nil {
			argv = append(argv, "-C", m.path("run/depmod.d"))
		}
		if m.search != "" {
			conf := m.path("depmod.conf")
			qt.Assert(t, qt.IsNil(os.WriteFile(conf, []byte(m.search), 0o644)))
			argv = append(argv, "-C", conf)
		}
		return Modules{Root: m.Root}.run(ctx, argv...)
	}
	for _, n := range []string{"one", "snd-two"} {
		file := m.path("lib/modules", rel, "kernel/drivers", n+".ko")
		qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Dir(file), 0o755)))
		qt.Assert(t, qt.IsNil(os.WriteFile(file, ko(t, strings.ReplaceAll(n, "-", "_"), "shipped"), 0o644)))
	}
	qt.Assert(t, qt.IsNil(m.depmod(t.Context(), rel)))
	m.seen = nil
	return m
}

func (m *machine) list() []string {
	entries, err := os.ReadDir(m.path("lib/modules", rel, updates))
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// finds is what modprobe would load for each module.
func (m *machine) finds() []string {
	b, err := os.ReadFile(m.path("lib/modules", rel, "modules.dep"))
	qt.Assert(m.t, qt.IsNil(err))
	var out []string
	for line := range strings.Lines(string(b)) {
		file, _, _ := strings.Cut(line, ":")
		_, err := os.Stat(m.path("lib/modules", rel, file))
		qt.Check(m.t, qt.IsNil(err), qt.Commentf("modules.dep names what is not there"))
		out = append(out, file)
	}
	return out
}

func TestFixedModulesAreFoundAndGoAgain(t *testing.T) {
	m := newMachine(t)
	shipped := []string{"kernel/drivers/one.ko", "kernel/drivers/snd-two.ko"}
	qt.Assert(t, qt.ContentEquals(m.finds(), shipped))

	add := map[string][]byte{"one.ko": ko(t, "one", "fixed"), "snd-two.ko": ko(t, "snd_two", "fixed")}
	qt.Assert(t, qt.IsNil(m.Put(t.Context(), rel, add, []string{"one.ko", "snd-two.ko"})))
	qt.Check(t, qt.ContentEquals(m.finds(), []string{"updates/tsugi/one.ko", "updates/tsugi/snd-two.ko"}))
	for file, mode := range map[string]os.FileMode{"": 0o755, "one.ko": 0o644} {
		st, err := os.Stat(m.path("lib/modules", rel, updates, file))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(st.Mode().Perm(), mode), qt.Commentf("%s is for all to read", file))
	}
	st, err := os.Stat(m.path("lib/modules", rel, "modules.dep"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(st.Mode().Perm(), 0o644))

	// One goes, the other changes; something was half written when the power went.
	left := m.path("lib/modules", rel, updates, ".one.ko123")
	qt.Assert(t, qt.IsNil(os.WriteFile(left, []byte("x"), 0o600)))
	m.seen = nil
	qt.Assert(t, qt.IsNil(m.Put(t.Context(), rel, map[string][]byte{"one.ko": ko(t, "one", "fixed again")}, []string{"one.ko"})))
	qt.Check(t, qt.DeepEquals(m.seen, []string{".one.ko123 one.ko snd-two.ko"}), qt.Commentf("a file goes after depmod"))
	qt.Check(t, qt.ContentEquals(m.finds(), []string{"updates/tsugi/one.ko", shipped[1]}))
	qt.Check(t, qt.DeepEquals(m.list(), []string{"one.ko"}))
	there, err := m.There(rel)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(there, 1))

	qt.Assert(t, qt.IsNil(m.Put(t.Context(), rel, nil, nil)))
	qt.Check(t, qt.ContentEquals(m.finds(), shipped))
	_, err = os.Stat(m.path("lib/modules", rel, "updates"))
	qt.Check(t, qt.IsTrue(os.IsNotExist(err)), qt.Commentf("nothing of it stays"))
	_, err = os.Stat(m.path("run/depmod.d/tsugi.conf"))
	qt.Check(t, qt.IsTrue(os.IsNotExist(err)))
}

func TestModprobeMustFindThem(t *testing.T) {
	m := newMachine(t)
	m.search = "search built-in\n"
	err := m.Put(t.Context(), rel, map[string][]byte{"one.ko": ko(t, "one", "fixed")}, []string{"one.ko"})
	qt.Check(t, qt.Equals(code.Of(err), "TS9435"), qt.Commentf("%v", err))
	qt.Check(t, qt.HasLen(m.list(), 0))
	m.finds()
}

func TestAKernelThatIsGoneLeavesNothing(t *testing.T) {
	m := newMachine(t)
	qt.Assert(t, qt.IsNil(m.Put(t.Context(), rel, map[string][]byte{"one.ko": ko(t, "one", "fixed")}, []string{"one.ko"})))
	qt.Assert(t, qt.IsTrue(m.Installed(rel)))
	qt.Assert(t, qt.IsNil(os.RemoveAll(m.path("lib/modules", rel, "kernel"))))
	qt.Assert(t, qt.IsFalse(m.Installed(rel)))
	m.seen = nil
	qt.Assert(t, qt.IsNil(m.Put(t.Context(), rel, nil, nil)))
	qt.Check(t, qt.HasLen(m.seen, 0))
	_, err := os.Stat(m.path("lib/modules", rel, "updates"))
	qt.Check(t, qt.IsTrue(os.IsNotExist(err)))
	qt.Check(t, qt.IsNil(m.Put(t.Context(), "6.1.0-1-amd64", nil, nil)), qt.Commentf("one that never was"))
}

func TestShippedModules(t *testing.T) {
	m := newMachine(t)
	plain, err := m.Shipped(rel, "kernel/drivers/one.ko")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(plain.BuildID, strings.Repeat("07", 20)))
	for _, program := range []string{"xz", "gzip"} {
		if _, err := exec.LookPath(program); err != nil {
			continue
		}
		file := m.path("lib/modules", rel, "kernel/drivers/one.ko")
		out, err := exec.Command(program, "-c", file).Output()
		qt.Assert(t, qt.IsNil(err))
		name := strings.ReplaceAll(program, "gzip", "gz")
		qt.Assert(t, qt.IsNil(os.WriteFile(m.path("lib/modules", rel, "kernel/drivers/packed.ko."+name), out, 0o644)))
		packed, err := m.Shipped(rel, "kernel/drivers/packed.ko")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(packed.BuildID, plain.BuildID))
		qt.Check(t, qt.Not(qt.Equals(packed.Digest, plain.Digest)))
		qt.Assert(t, qt.IsNil(os.Remove(m.path("lib/modules", rel, "kernel/drivers/packed.ko."+name))))
	}
	_, err = m.Shipped(rel, "kernel/drivers/none.ko")
	qt.Check(t, qt.Equals(code.Of(err), "TS9434"))
	qt.Assert(t, qt.IsNil(os.WriteFile(m.path("lib/modules", rel, "kernel/drivers/bad.ko"), []byte("\x7fELF"), 0o644)))
	_, err = m.Shipped(rel, "kernel/drivers/bad.ko")
	qt.Check(t, qt.Equals(code.Of(err), "TS9434"))
	_, err = m.Shipped(rel, "../../../etc/passwd")
	qt.Check(t, qt.Equals(code.Of(err), "TS9432"))
}

func TestNamesThatAreNone(t *testing.T) {
	m := newMachine(t)
	for _, release := range []string{"", "..", "a/b"} {
		qt.Check(t, qt.Equals(code.Of(m.Put(t.Context(), release, nil, nil)), "TS9432"))
		qt.Check(t, qt.IsFalse(m.Installed(release)))
	}
	for _, name := range []string{"../one.ko", "one", ".one.ko", "a/b.ko"} {
		qt.Check(t, qt.Equals(code.Of(m.Put(t.Context(), rel, map[string][]byte{name: nil}, []string{name})), "TS9432"), qt.Commentf("%s", name))
		m.finds()
	}
}

func TestWhatDepmodCouldNotDoIsSeenLater(t *testing.T) {
	m := newMachine(t)
	whole := m.Run
	m.Run = func(context.Context, ...string) error { return errors.New("depmod: no space left") }
	add := map[string][]byte{"one.ko": ko(t, "one", "fixed")}
	qt.Check(t, qt.Equals(code.Of(m.Put(t.Context(), rel, add, []string{"one.ko"})), "TS9432"))
	there, err := m.There(rel)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsFalse(there["one.ko"].Found), qt.Commentf("it is there, and nothing leads to it"))
	// The next try adds nothing, and checks it all the same.
	m.Run, m.search = whole, "search built-in\n"
	var u *agent.Unfound
	qt.Assert(t, qt.ErrorAs(m.Put(t.Context(), rel, nil, []string{"one.ko"}), &u))
	qt.Check(t, qt.DeepEquals(u.Files, []string{"one.ko"}))
	qt.Check(t, qt.HasLen(m.list(), 0))
	m.search = ""
	qt.Assert(t, qt.IsNil(m.Put(t.Context(), rel, add, []string{"one.ko"})))
	there, err = m.There(rel)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(there["one.ko"].Found))
}

func TestAFileWhoseModuleThePackageHasNoMoreGoes(t *testing.T) {
	m := newMachine(t)
	qt.Assert(t, qt.IsNil(m.Put(t.Context(), rel, map[string][]byte{"one.ko": ko(t, "one", "fixed")}, []string{"one.ko"})))
	qt.Assert(t, qt.IsNil(os.Remove(m.path("lib/modules", rel, "kernel/drivers/one.ko"))))
	qt.Assert(t, qt.IsNil(m.Put(t.Context(), rel, nil, nil)))
	qt.Check(t, qt.DeepEquals(m.finds(), []string{"kernel/drivers/snd-two.ko"}))
}

func TestFilesThatSomebodyTookAwayAreNotToldOf(t *testing.T) {
	m := newMachine(t)
	qt.Assert(t, qt.IsNil(m.Put(t.Context(), rel, map[string][]byte{"one.ko": ko(t, "one", "fixed")}, []string{"one.ko"})))
	qt.Assert(t, qt.IsNil(os.RemoveAll(m.path("lib/modules", rel, "updates"))))
	qt.Assert(t, qt.IsNil(m.Put(t.Context(), rel, nil, nil)))
	qt.Check(t, qt.ContentEquals(m.finds(), []string{"kernel/drivers/one.ko", "kernel/drivers/snd-two.ko"}))
}

func TestABuildOfTheMachinesOwnIsLeftAlone(t *testing.T) {
	m := newMachine(t)
	for _, file := range []string{"extra/one.ko", "updates/dkms/one.ko.xz", "weak-updates/vendor/one.ko"} {
		p := m.path("lib/modules", rel, file)
		qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Dir(p), 0o755)))
		qt.Assert(t, qt.IsNil(os.WriteFile(p, ko(t, "one", "vendor"), 0o644)))
		_, err := m.Shipped(rel, "kernel/drivers/one.ko")
		qt.Check(t, qt.Equals(code.Of(err), "TS9434"), qt.Commentf("%s", file))
		_, err = m.Shipped(rel, "kernel/drivers/snd-two.ko")
		qt.Check(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNil(os.Remove(p)))
	}
	// Ours is none of them.
	qt.Assert(t, qt.IsNil(m.Put(t.Context(), rel, map[string][]byte{"one.ko": ko(t, "one", "fixed")}, []string{"one.ko"})))
	_, err := m.Shipped(rel, "kernel/drivers/one.ko")
	qt.Check(t, qt.IsNil(err))
}

func TestWhatHasNotChangedIsNotReadAgain(t *testing.T) {
	m := newMachine(t)
	m.Memo = &Memo{}
	qt.Assert(t, qt.IsNil(m.Put(t.Context(), rel, map[string][]byte{"one.ko": ko(t, "one", "fixed")}, []string{"one.ko"})))
	look := func() (string, string) {
		there, err := m.There(rel)
		qt.Assert(t, qt.IsNil(err))
		s, err := m.Shipped(rel, "kernel/drivers/one.ko")
		qt.Assert(t, qt.IsNil(err))
		return there["one.ko"].Digest, s.Digest
	}
	f, s := look()
	reads := m.Memo.reads
	look()
	qt.Check(t, qt.Equals(m.Memo.reads, reads))
	// Of the same size, with its time set back.
	for _, file := range []string{"kernel/drivers/one.ko", updates + "/one.ko"} {
		p := m.path("lib/modules", rel, file)
		st, err := os.Stat(p)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNil(os.WriteFile(p, bytes.Repeat([]byte{1}, int(st.Size())), 0o644)))
		qt.Assert(t, qt.IsNil(os.Chtimes(p, st.ModTime(), st.ModTime())))
	}
	there, err := m.There(rel)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Not(qt.Equals(there["one.ko"].Digest, f)))
	now, err := m.Shipped(rel, "kernel/drivers/one.ko")
	qt.Check(t, qt.Equals(code.Of(err), "TS9434"), qt.Commentf("%v, before %s", now, s))
}

// TestASwapEndsWhatItBegan: the one who asked goes between the unloading and
// the loading.
func TestASwapEndsWhatItBegan(t *testing.T) {
	m := newMachine(t)
	qt.Assert(t, qt.IsNil(os.MkdirAll(m.path("proc/sys/kernel"), 0o755)))
	for name, text := range map[string]string{
		"proc/modules": "one 4096 0 - Live 0x0\n", "proc/sys/kernel/osrelease": rel + "\n",
	} {
		qt.Assert(t, qt.IsNil(os.WriteFile(m.path(name), []byte(text), 0o644)))
	}
	dir := m.path("lib/modules", rel)
	qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(dir, "modules.alias"), []byte("alias fs-one one\n"), 0o644)))
	var did []string
	m.Run = func(ctx context.Context, argv ...string) error {
		did = append(did, strings.Join(argv, " "))
		return ctx.Err()
	}
	ctx, cancel := context.WithCancel(t.Context())
	m.Remove = func(name string) error { did = append(did, "remove "+name); cancel(); return nil }
	qt.Check(t, qt.IsNil(m.Swap(ctx, "one")))
	qt.Check(t, qt.DeepEquals(did, []string{"remove one", "modprobe one"}))
	did = nil
	qt.Check(t, qt.ErrorIs(m.Swap(ctx, "one"), context.Canceled), qt.Commentf("it is not begun"))
	qt.Check(t, qt.HasLen(did, 0))
	qt.Check(t, qt.IsNil(m.Restore(ctx, "one")))
}

// TestNothingIsWrittenElsewhere: the service may write to these directories and
// to no others.
func TestNothingIsWrittenElsewhere(t *testing.T) {
	m := newMachine(t)
	var files []string
	run := m.Run
	m.Run = func(ctx context.Context, argv ...string) error {
		err := run(ctx, argv...)
		qt.Check(t, qt.IsNil(filepath.WalkDir(m.Root, func(p string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				files = append(files, p)
			}
			return err
		})))
		return err
	}
	qt.Assert(t, qt.IsNil(m.Put(t.Context(), rel, map[string][]byte{"one.ko": ko(t, "one", "fixed")}, []string{"one.ko"})))
	qt.Assert(t, qt.IsNil(m.Put(t.Context(), rel, nil, nil)))
	qt.Assert(t, qt.IsTrue(slices.Contains(files, m.path("run/depmod.d/tsugi.conf"))))
	for _, f := range files {
		qt.Check(t, qt.IsTrue(slices.ContainsFunc(m.Writes(), func(d string) bool { return strings.HasPrefix(f, d+"/") })), qt.Commentf("%s", f))
	}
}
