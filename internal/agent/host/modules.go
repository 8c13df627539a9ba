// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/agent"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/hostinfo"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/preflight"
)

// Modules are the fixed modules of this machine.
type Modules struct {
	Root string // "" is "/"
	// Run runs depmod or modprobe; nil: the machine's own.
	Run func(ctx context.Context, argv ...string) error
	// Remove unloads a module; nil: delete_module(2).
	Remove func(name string) error
}

// updates is where modprobe looks before the kernel's own directory:
// "search updates built-in" is depmod's default (depmod.d(5)).
const updates = "updates/tsugi"

// maxShipped bounds a module's file.
const maxShipped = 512 << 20

func (m Modules) path(elem ...string) string {
	return filepath.Join(append([]string{cmp.Or(m.Root, "/")}, elem...)...)
}

func (m Modules) dir(release string) string { return m.path("lib/modules", release) }

// valid: the name of a release becomes a path.
func valid(release string) error {
	if release == "" || release == "." || release == ".." || strings.ContainsAny(release, "/\x00") {
		return code.New("TS9432", release, "it is not the name of a kernel release")
	}
	return nil
}

// Installed reports whether the kernel's own modules are there.
func (m Modules) Installed(release string) bool {
	if valid(release) != nil {
		return false
	}
	st, err := os.Stat(filepath.Join(m.dir(release), "kernel"))
	return err == nil && st.IsDir()
}

// Shipped reads the module of the package. A compressed one is unpacked by the
// program that distributions which compress modules have for it.
func (m Modules) Shipped(release, file string) (agent.ShippedModule, error) {
	var out agent.ShippedModule
	if err := valid(release); err != nil {
		return out, err
	}
	if !filepath.IsLocal(file) {
		return out, code.New("TS9432", file, "it is not below the modules' directory")
	}
	for _, packed := range []struct{ ext, program string }{{"", ""}, {".xz", "xz"}, {".zst", "zstd"}, {".gz", "gzip"}} {
		name := filepath.Join(m.dir(release), file+packed.ext)
		b, err := readLimited(name, maxShipped)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return out, code.New("TS9432", name, "").With(err)
		}
		sum := sha256.Sum256(b)
		out.Digest = hex.EncodeToString(sum[:])
		if packed.program != "" {
			if b, err = unpack(packed.program, b); err != nil {
				return out, code.New("TS9434", name, "it cannot be unpacked, so nobody knows whether it is").With(err).
					WithFix("install the program " + packed.program)
			}
		}
		out.BuildID, err = buildID(b)
		return out, err
	}
	return out, code.New("TS9434", file, "the kernel's package does not have it here")
}

func unpack(program string, b []byte) ([]byte, error) {
	program, err := tool(program)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "-dcq")
	cmd.Env = []string{"LC_ALL=C"}
	cmd.Stdin = bytes.NewReader(b)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	got, err := io.ReadAll(io.LimitReader(out, maxShipped))
	return got, errors.Join(err, cmd.Wait())
}

func readLimited(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s: more than %d bytes", name, limit)
	}
	return b, err
}

func buildID(ko []byte) (string, error) {
	f, err := elf.NewFile(bytes.NewReader(ko))
	if err != nil {
		return "", code.New("TS9434", "", "it is not a module").With(err)
	}
	s := f.Section(".note.gnu.build-id")
	if s == nil || s.Type == elf.SHT_NOBITS || s.Size > 4096 {
		return "", nil
	}
	note, err := s.Data()
	if err != nil {
		return "", code.New("TS9434", "", "").With(err)
	}
	id, err := hostinfo.ParseBuildID(note)
	if err != nil {
		return "", code.New("TS9434", "", "").With(err)
	}
	return id, nil
}

// There reads what is there.
func (m Modules) There(release string) (map[string]string, error) {
	out := map[string]string{}
	if err := valid(release); err != nil {
		return out, err
	}
	dir := filepath.Join(m.dir(release), updates)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return nil, code.New("TS9432", dir, "").With(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue // half written when the power went; Put takes it away
		}
		b, err := readLimited(filepath.Join(dir, e.Name()), maxShipped)
		if err != nil {
			return nil, code.New("TS9432", dir, "").With(err)
		}
		sum := sha256.Sum256(b)
		out[e.Name()] = hex.EncodeToString(sum[:])
	}
	return out, nil
}

// Put changes the directory. New files come before depmod tells of them, and
// files go only after depmod has been told not to see them: modules.dep names
// a file that is there at any moment, also if the power goes.
func (m Modules) Put(ctx context.Context, release string, add map[string][]byte, keep []string) error {
	if err := valid(release); err != nil {
		return err
	}
	there, err := m.There(release)
	if err != nil {
		return err
	}
	top := m.dir(release)
	dir := filepath.Join(top, updates)
	if len(add) == 0 && len(there) == 0 {
		return m.removeEmpty(top, dir)
	}
	if err := m.write(top, dir, add); err != nil {
		return err
	}
	var away []string
	for name := range there {
		if !slices.Contains(keep, name) {
			away = append(away, name)
		}
	}
	if !m.Installed(release) { // nobody loads modules of it any more
		return m.unlink(top, dir, away)
	}
	slices.Sort(away)
	if len(away) > 0 {
		undo, err := m.override(release, away)
		if err != nil {
			return err
		}
		defer undo()
	}
	if err := m.depmod(ctx, release); err != nil {
		return err
	}
	deps, err := readLimited(filepath.Join(top, "modules.dep"), 64<<20)
	if err != nil {
		return code.New("TS9432", top, "").With(err)
	}
	for _, name := range slices.Sorted(maps.Keys(add)) {
		if !found(deps, updates+"/"+name) {
			return errors.Join(code.New("TS9435", name, "depmod does not prefer "+updates), m.unlink(top, dir, slices.Sorted(maps.Keys(add))), m.depmod(ctx, release))
		}
	}
	for _, name := range away {
		if found(deps, updates+"/"+name) {
			return code.New("TS9432", name, "depmod goes on telling of it")
		}
	}
	return m.unlink(top, dir, away)
}

// found reports whether modules.dep has a line for a file.
func found(deps []byte, file string) bool {
	return strings.HasPrefix(string(deps), file+":") || strings.Contains(string(deps), "\n"+file+":")
}

// write puts files there, each whole or not at all.
func (m Modules) write(top, dir string, add map[string][]byte) error {
	if len(add) == 0 {
		return nil
	}
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Mkdir(d, 0o755); err == nil {
			if err := errors.Join(os.Chmod(d, 0o755), syncDir(filepath.Dir(d))); err != nil {
				return onDisk(d, err)
			}
		} else if !errors.Is(err, fs.ErrExist) {
			return onDisk(d, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(add)) {
		if name != path.Base(name) || !strings.HasSuffix(name, ".ko") || strings.HasPrefix(name, ".") {
			return code.New("TS9432", name, "it is not the name of a module's file")
		}
		if err := renameio.WriteFile(filepath.Join(dir, name), add[name], 0o644, renameio.WithTempDir(dir), renameio.IgnoreUmask()); err != nil {
			return onDisk(name, err)
		}
	}
	return onDisk(top, syncDir(dir))
}

// unlink takes files away, and what a loss of power has left half written.
func (m Modules) unlink(top, dir string, names []string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return onDisk(dir, err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || slices.Contains(names, e.Name()) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return onDisk(dir, err)
			}
		}
	}
	if err := syncDir(dir); err != nil {
		return onDisk(dir, err)
	}
	return m.removeEmpty(top, dir)
}

// removeEmpty takes directories away that hold nothing, so that a package can
// remove its own.
func (m Modules) removeEmpty(top, dir string) error {
	for d := dir; d != top; d = filepath.Dir(d) {
		err := os.Remove(d)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case errors.Is(err, unix.ENOTEMPTY), errors.Is(err, fs.ErrExist):
			return nil
		case err != nil:
			return onDisk(d, err)
		}
	}
	return nil
}

// override makes depmod pass over files that are about to go.
func (m Modules) override(release string, away []string) (undo func(), err error) {
	dir := m.path("run/depmod.d")
	file := filepath.Join(dir, "tsugi.conf")
	var text strings.Builder
	text.WriteString("# written by tsugi while it takes fixed modules away\n")
	where, err := m.places(release)
	if err != nil {
		return nil, err
	}
	for _, name := range away {
		base := strings.TrimSuffix(name, ".ko")
		if sub, ok := where[name]; ok {
			fmt.Fprintf(&text, "override %s %s %s\n", base, release, sub)
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, onDisk(dir, err)
	}
	if err := renameio.WriteFile(file, []byte(text.String()), 0o644, renameio.IgnoreUmask()); err != nil {
		return nil, onDisk(file, err)
	}
	return func() { _ = os.Remove(file) }, nil // it is gone with the next boot at the latest
}

// places finds the directories of the kernel's own modules, by their files'
// names without what compression adds.
func (m Modules) places(release string) (map[string]string, error) {
	top := m.dir(release)
	out := map[string]string{}
	err := filepath.WalkDir(filepath.Join(top, "kernel"), func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, _, ok := strings.Cut(d.Name(), ".ko")
		rel, rerr := filepath.Rel(top, filepath.Dir(p))
		if ok && rerr == nil {
			out[name+".ko"] = rel
		}
		return nil
	})
	return out, onDisk(top, err)
}

// depmod writes what modprobe reads, and puts it on the medium: an empty
// modules.dep after a loss of power would leave the machine without modules.
func (m Modules) depmod(ctx context.Context, release string) error {
	argv := []string{"depmod", release}
	if m.Root != "" {
		argv = []string{"depmod", "-b", m.Root, release}
	}
	if err := m.run(ctx, argv...); err != nil {
		return code.New("TS9432", "depmod", "").With(err)
	}
	d, err := os.Open(m.dir(release))
	if err != nil {
		return onDisk(m.dir(release), err)
	}
	defer d.Close()
	return onDisk(m.dir(release), unix.Syncfs(int(d.Fd())))
}

// Fit judges a fixed module against this kernel.
func (m Modules) Fit(_ context.Context, r livepatch.Replacement, ko []byte) []*code.Problem {
	h, err := hostinfo.Read(cmp.Or(m.Root, "/"))
	if err != nil {
		return []*code.Problem{asProblem(err)}
	}
	f, err := preflight.ReadModule(ko)
	if err != nil {
		return []*code.Problem{asProblem(err)}
	}
	return preflight.Problems(preflight.Replacement(h, r, f))
}

// InUse says what uses a module.
func (m Modules) InUse(name string) string { return hostinfo.InUse(cmp.Or(m.Root, "/"), name) }

// Swap unloads a module by the kernel's own rules and loads the one on the
// disk, with what modprobe's configuration says of it.
func (m Modules) Swap(ctx context.Context, name string) error {
	if use := m.InUse(name); use != "" {
		return code.New("TS9433", name, use)
	}
	remove := m.Remove
	if remove == nil {
		remove = func(name string) error { return unix.DeleteModule(name, unix.O_NONBLOCK) }
	}
	if err := remove(name); err != nil {
		return code.New("TS9433", name, "the kernel does not let it go").With(err)
	}
	return m.Restore(ctx, name)
}

// Restore loads a module.
func (m Modules) Restore(ctx context.Context, name string) error {
	if err := m.run(ctx, "modprobe", name); err != nil {
		return code.New("TS9433", name, "").With(err)
	}
	return nil
}

// commandLimit is far beyond what depmod takes on a slow disk.
const commandLimit = 5 * time.Minute

func (m Modules) run(ctx context.Context, argv ...string) error {
	if m.Run != nil {
		return m.Run(ctx, argv...)
	}
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	program, err := tool(argv[0])
	if err != nil {
		return err
	}
	// The agent's own files are for root alone; what depmod writes is for all.
	cmd := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", `umask 022; exec "$@"`, "tsugi", program}, argv[1:]...)...)
	cmd.Env = []string{"LC_ALL=C"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		said := strings.TrimSpace(string(out))
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, said[:min(len(said), 500)])
	}
	return nil
}

// tool finds a program of kmod. A service's PATH may lack their directories,
// and a shell may have commands of these names of its own.
func tool(name string) (string, error) {
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/bin", "/bin"} {
		p := filepath.Join(dir, name)
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return p, nil
		}
	}
	return "", code.New("TS9432", name, "it is not installed").WithFix("install the package kmod")
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func onDisk(where string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return code.New("TS9103", where, "").With(err)
	}
	return code.New("TS9432", where, "").With(err)
}
