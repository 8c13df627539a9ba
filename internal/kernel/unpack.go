// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/progress"
)

// A place decides where an entry of an archive goes: its path below the
// destination, or "" to leave it out. The name is clean and relative.
type place func(name string) string

// unpackDeb writes entries of a binary package below dir.
func unpackDeb(ctx context.Context, deb, dir string, where place, task progress.Task) error {
	return readDeb(ctx, deb, func(tr *tar.Reader) error {
		return extract(ctx, tr, dir, where, task)
	})
}

// unpackSource writes the kernel source that a linux-source package holds as
// a compressed tar below dir. The stream is read once and never stored.
func unpackSource(ctx context.Context, deb, dir string, task progress.Task) error {
	found := false
	err := readDeb(ctx, deb, func(tr *tar.Reader) error {
		for {
			h, err := tr.Next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			base := path.Base(h.Name)
			if !strings.HasPrefix(base, "linux-source-") || !strings.HasSuffix(base, ".tar.xz") {
				continue
			}
			found = true
			return unxz(ctx, tr, func(r io.Reader) error {
				return extract(ctx, tar.NewReader(r), dir, sourcePlace, task)
			})
		}
	})
	if err == nil && !found {
		return code.New("TS2307", filepath.Base(deb), "no linux-source-*.tar.xz in it")
	}
	return err
}

// readDeb hands the data archive of a binary package to f.
func readDeb(ctx context.Context, deb string, f func(*tar.Reader) error) error {
	err := pipe(ctx, Command{Name: "dpkg-deb", Args: []string{"--fsys-tarfile", deb}}, func(r io.Reader) error {
		return f(tar.NewReader(r))
	})
	if err != nil {
		return fmt.Errorf("package %s: %w", filepath.Base(deb), err)
	}
	return nil
}

// unxz decompresses with xz(1), which uses all processors for archives made
// of blocks, as those of the source packages are.
func unxz(ctx context.Context, r io.Reader, f func(io.Reader) error) error {
	return pipe(ctx, Command{Name: "xz", Args: []string{"-dc", "-T0"}, Stdin: r}, f)
}

// pipe runs a program and hands its output to f, which may stop early.
func pipe(ctx context.Context, c Command, f func(io.Reader) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, w := io.Pipe()
	c.Stdout = w
	var g errgroup.Group
	g.Go(func() error {
		_, err := c.Run(ctx)
		w.CloseWithError(err) // nil is EOF
		return err
	})
	err := f(r)
	if err == nil {
		// What follows the last entry must be readable too, or the archive is cut.
		_, err = io.Copy(io.Discard, r)
	}
	r.CloseWithError(errStopped)
	cancelled := err != nil
	if cancelled {
		cancel()
	}
	runErr := g.Wait()
	switch {
	case err != nil:
		return err
	case runErr != nil && !errors.Is(runErr, exec.ErrWaitDelay):
		return runErr
	}
	return nil
}

var errStopped = errors.New("reader stopped")

// extract writes the entries that have a place below dir. os.Root keeps every
// path, and every link followed on the way, inside dir.
func extract(ctx context.Context, tr *tar.Reader, dir string, where place, task progress.Task) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	made := make(map[string]bool)
	mkdir := func(name string) error {
		if name == "." || made[name] {
			return nil
		}
		made[name] = true
		return root.MkdirAll(name, 0o755)
	}
	buf := make([]byte, 256<<10)
	for {
		if err := Interrupted(ctx); err != nil {
			return err
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("archive: %w", err)
		}
		name := path.Clean(strings.TrimPrefix(h.Name, "./"))
		if path.IsAbs(name) || name == ".." || strings.HasPrefix(name, "../") {
			return code.New("TS2204", h.Name, "")
		}
		if name = where(name); name == "" {
			continue
		}
		switch h.Typeflag {
		case tar.TypeDir:
			err = mkdir(name)
		case tar.TypeReg:
			if err = mkdir(path.Dir(name)); err == nil {
				err = writeEntry(root, name, h, tr, buf)
			}
			task.Add(1)
		case tar.TypeSymlink:
			if err = mkdir(path.Dir(name)); err == nil {
				err = root.Symlink(h.Linkname, name)
			}
		}
		if err != nil {
			return DiskError(filepath.Join(dir, name), err)
		}
	}
}

func writeEntry(root *os.Root, name string, h *tar.Header, r io.Reader, buf []byte) error {
	mode := os.FileMode(0o644)
	if h.Mode&0o100 != 0 {
		mode = 0o755
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{f}, r, buf)
	return errors.Join(err, f.Close())
}

// sourcePlace leaves out what no x86_64 build reads: other architectures,
// documentation, samples and most of tools/. Kconfig files stay everywhere,
// because configuring reads them all, and makefiles of other architectures,
// because some that are read include them (fs/hostfs). objtool and resolve_btfids need the
// rest of tools/ that stays.
func sourcePlace(name string) string {
	_, name, ok := strings.Cut(name, "/") // linux-source-6.1/…
	if !ok || name == "" {
		return ""
	}
	top, rest, _ := strings.Cut(name, "/")
	keep := true
	switch top {
	case "Documentation":
		keep = false
	case "arch":
		sub, _, deeper := strings.Cut(rest, "/")
		keep = sub == "x86" || !deeper
	case "samples":
		keep = !strings.Contains(rest, "/")
	case "tools":
		sub, deep, _ := strings.Cut(rest, "/")
		switch sub {
		case "objtool", "lib", "include", "build", "scripts", "Makefile":
		case "arch":
			keep = strings.HasPrefix(deep, "x86/") || strings.HasSuffix(deep, ".h")
		case "bpf":
			keep = strings.HasPrefix(deep, "resolve_btfids") || !strings.Contains(deep, "/")
		default:
			keep = false
		}
	}
	base := path.Base(name)
	if keep || strings.HasPrefix(base, "Kconfig") || top == "arch" && strings.HasPrefix(base, "Makefile") {
		return name
	}
	return ""
}
