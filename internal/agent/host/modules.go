// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/agent"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/hostinfo"
)

// Modules are the fixed modules of this machine.
type Modules struct {
	Root string // "" is "/"
	// Run runs depmod or modprobe; nil: the machine's own.
	Run func(ctx context.Context, argv ...string) error
	// Remove unloads a module; nil: delete_module(2).
	Remove func(name string) error
	// Memo spares reading files again that have not changed; nil: all are read.
	Memo *Memo
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
// program that distributions which compress modules have for it. A machine with
// another build of the module (a vendor's, DKMS) has it for a reason: there
// the package's is not what modprobe would load, or not for sure.
func (m Modules) Shipped(release, file string) (agent.ShippedModule, error) {
	var out agent.ShippedModule
	if err := valid(release); err != nil {
		return out, err
	}
	if !filepath.IsLocal(file) {
		return out, code.New("TS9432", file, "it is not below the modules' directory")
	}
	own, err := m.elsewhere(release, file)
	if err != nil {
		return out, onDisk(m.dir(release), err)
	}
	if own != "" {
		return out, code.New("TS9434", own, "the machine has a build of the module of its own").
			WithFix("nothing is to be done while that build is wanted; it has to have the fix itself")
	}
	for _, packed := range []struct{ ext, program string }{{"", ""}, {".xz", "xz"}, {".zst", "zstd"}, {".gz", "gzip"}} {
		name := filepath.Join(m.dir(release), file+packed.ext)
		out, err := m.Memo.module(name, func(b []byte) (string, error) { return shippedBuildID(name, packed.program, b) })
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil && code.Of(err) == "" {
			err = onDisk(name, err)
		}
		return out, err
	}
	return out, code.New("TS9434", file, "the kernel's package does not have it here")
}

// shippedBuildID reads the build-id of a module's file; program unpacks it.
func shippedBuildID(name, program string, b []byte) (string, error) {
	if program != "" {
		var err error
		if b, err = unpack(program, b); err != nil {
			return "", code.New("TS9434", name, "it cannot be unpacked, so nobody knows whether it is").With(err).
				WithFix("install the program " + program)
		}
	}
	id, err := hostinfo.BuildIDOf(bytes.NewReader(b))
	if err != nil {
		return "", code.New("TS9434", name, "it is not a module").With(err)
	}
	return id, nil
}

// elsewhere finds a module of the same name that is neither the package's nor
// ours, or "".
func (m Modules) elsewhere(release, file string) (string, error) {
	top := m.dir(release)
	name := moduleName(file)
	found := ""
	err := filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		rel, rerr := filepath.Rel(top, p)
		switch {
		case errors.Is(err, fs.ErrNotExist) && p == top:
			return nil // Shipped says that it is not there
		case err != nil || rerr != nil:
			return errors.Join(err, rerr)
		case d.IsDir() && (rel == "kernel" || rel == updates):
			return fs.SkipDir
		case !d.IsDir() && strings.Contains(d.Name(), ".ko") && moduleName(d.Name()) == name:
			found = rel
			return fs.SkipAll
		}
		return nil
	})
	return found, err
}

// moduleName is the kernel's name of the module in a file.
func moduleName(file string) string {
	name, _, _ := strings.Cut(filepath.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
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

// There reads what is there.
func (m Modules) There(release string) (map[string]agent.FileThere, error) {
	out := map[string]agent.FileThere{}
	if err := valid(release); err != nil {
		return out, err
	}
	dir := filepath.Join(m.dir(release), updates)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return nil, onDisk(dir, err)
	}
	found, err := m.Memo.preferred(filepath.Join(m.dir(release), "modules.dep"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, onDisk(dir, err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue // half written when the power went; Put takes it away
		}
		f, err := m.Memo.module(filepath.Join(dir, e.Name()), nil)
		if err != nil {
			return nil, onDisk(dir, err)
		}
		out[e.Name()] = agent.FileThere{Digest: f.Digest, Found: slices.Contains(found, e.Name())}
	}
	return out, nil
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
