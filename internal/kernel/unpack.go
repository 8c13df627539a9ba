// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/pkgfile"
	"github.com/tsugi-project/tsugi/internal/progress"
)

// A Place decides where an entry of an archive goes: its path below the
// destination, or "" to leave it out. The name is clean and relative.
type Place func(name string) string

// UnpackDeb writes entries of a binary package below dir.
func UnpackDeb(ctx context.Context, deb, dir string, where Place, task progress.Task) error {
	return readDeb(ctx, deb, func(t *pkgfile.Tar) error {
		return extract(ctx, t, dir, where, task)
	})
}

// unpackSource writes the kernel source that a linux-source package holds as
// a compressed tar below dir. The stream is read once and never stored.
func unpackSource(ctx context.Context, deb, dir string, task progress.Task) error {
	found := false
	err := readDeb(ctx, deb, func(t *pkgfile.Tar) error {
		for !found {
			h, err := t.Next()
			if errors.Is(err, io.EOF) {
				return code.New("TS2307", filepath.Base(deb), "no linux-source-*.tar.xz in it")
			}
			if err != nil {
				return err
			}
			base := path.Base(h.Name)
			found = strings.HasPrefix(base, "linux-source-") && strings.Contains(base, ".tar")
		}
		inner, err := pkgfile.OpenTar(t, decompressor(ctx))
		if err != nil {
			return err
		}
		return errors.Join(extract(ctx, inner, dir, sourcePlace, task), inner.Close())
	})
	return err
}

// readDeb hands the data archive of a binary package to f.
func readDeb(ctx context.Context, deb string, f func(*pkgfile.Tar) error) error {
	file, err := os.Open(deb)
	if err != nil {
		return err
	}
	defer file.Close()
	st, err := file.Stat()
	if err != nil {
		return err
	}
	d, err := pkgfile.OpenDeb(file, st.Size())
	if err != nil {
		return fmt.Errorf("package %s: %w", filepath.Base(deb), err)
	}
	t, err := d.Data(decompressor(ctx))
	if err != nil {
		return fmt.Errorf("package %s: %w", filepath.Base(deb), err)
	}
	if err := errors.Join(f(t), t.Close()); err != nil {
		return OrInterrupted(ctx, fmt.Errorf("package %s: %w", filepath.Base(deb), err))
	}
	return nil
}

func extract(ctx context.Context, t *pkgfile.Tar, dir string, where Place, task progress.Task) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	_, err = pkgfile.Extract(ctx, t, root, pkgfile.ExtractOptions{
		Keep:     func(name string) (string, bool) { dst := where(name); return dst, dst != "" },
		Progress: func(int64) { task.Add(1) },
	})
	return DiskError(dir, err)
}

// decompressor lets xz(1) do what is compressed by xz: it uses all processors
// for archives made of blocks, as the kernel packages are. Anything else is
// decompressed in this process.
func decompressor(ctx context.Context) pkgfile.Decompressor {
	return func(format string, r io.Reader) (io.ReadCloser, error) {
		if format != "xz" {
			return pkgfile.Decompress(format, r)
		}
		ctx, cancel := context.WithCancel(ctx)
		pr, pw := io.Pipe()
		p := &process{PipeReader: pr, cancel: cancel}
		p.done.Go(func() {
			_, err := Command{Name: "xz", Args: []string{"-dc", "-T0"}, Stdin: r, Stdout: pw}.Run(ctx)
			pw.CloseWithError(err) // nil is EOF
		})
		return p, nil
	}
}

// process is the output of a program; closing it ends the program.
type process struct {
	*io.PipeReader
	cancel context.CancelFunc
	done   sync.WaitGroup
}

func (p *process) Close() error {
	p.cancel()
	err := p.PipeReader.Close()
	p.done.Wait()
	return err
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
