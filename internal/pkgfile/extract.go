// SPDX-License-Identifier: Apache-2.0

package pkgfile

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
)

// ExtractOptions are the choices of Extract; the zero value unpacks all.
type ExtractOptions struct {
	// Keep maps the name of an entry, cleaned and without a leading slash or
	// "./", to its name below the destination; ok false leaves it out. It must
	// give the same answer each time.
	Keep func(name string) (dst string, ok bool)
	// Progress is told the bytes of each file that is finished, whether it was
	// written or there already.
	Progress func(bytes int64)
	// MaxFiles and MaxBytes bound what is unpacked; 0 means a million entries
	// and 32 GiB.
	MaxFiles, MaxBytes int64
}

// Extracted counts what Extract did.
type Extracted struct {
	Files   int64 // regular files, those there already included
	Bytes   int64 // in these
	Skipped int64 // files that were there with the right size and time
}

// TarReader is what Extract reads: a *Tar or a *tar.Reader.
type TarReader interface {
	Next() (*tar.Header, error)
	Read([]byte) (int, error)
}

// tempSuffix marks a file that is being written. A run that is interrupted may
// leave one; the next run writes over it.
const tempSuffix = ".tsugi-partial"

// Extract unpacks an archive below root. It can be interrupted and run again:
// each file is written under another name, given its time, and renamed, and a
// file that has the right size and time is left alone. Nothing outside root is
// touched, and no link that is made leads out of it, whatever the archive
// says: an absolute link is taken as relative to root, other links out and
// entries below a link are refused (TS2204). Owners, set-id bits and the times
// of directories and links are not kept.
func Extract(ctx context.Context, tr TarReader, root *os.Root, opts ExtractOptions) (Extracted, error) {
	x := extractor{root: root, opts: opts, buf: make([]byte, 256<<10)}
	if x.opts.MaxFiles == 0 {
		x.opts.MaxFiles = 1 << 20
	}
	if x.opts.MaxBytes == 0 {
		x.opts.MaxBytes = 32 << 30
	}
	defer x.close()
	for entries := int64(0); ; entries++ {
		if err := ctx.Err(); err != nil {
			return x.done, err
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return x.done, nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return x.done, err
		}
		if entries >= x.opts.MaxFiles {
			return x.done, code.New("TS2202", h.Name, fmt.Sprintf("the archive has more than %d entries", x.opts.MaxFiles))
		}
		if err := x.entry(ctx, tr, h); err != nil {
			return x.done, err
		}
	}
}

type extractor struct {
	root *os.Root
	opts ExtractOptions
	done Extracted
	buf  []byte

	// The directory of the last entry stays open: archives list the files of a
	// directory together.
	dir  *os.Root
	path string
}

func (x *extractor) close() {
	if x.dir != nil && x.dir != x.root {
		x.dir.Close()
	}
	x.dir, x.path = nil, ""
}

func (x *extractor) entry(ctx context.Context, r io.Reader, h *tar.Header) error {
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	if name == "." {
		return nil // the destination itself
	}
	dst, ok := x.mapped(name)
	if !ok {
		return nil
	}
	dst = path.Clean(dst)
	if !fs.ValidPath(dst) {
		return fmt.Errorf("unpacking %s: %q is no name below the destination", name, dst)
	}
	switch h.Typeflag {
	case tar.TypeDir:
		err = x.mkdir(dst)
	case tar.TypeReg:
		err = x.file(ctx, r, h, dst)
	case tar.TypeSymlink:
		var target string
		if target, err = x.linkTarget(name, dst, h.Linkname); err == nil {
			err = x.symlink(dst, target)
		}
	case tar.TypeLink:
		err = x.hardlink(name, dst, h.Linkname)
	case tar.TypeXGlobalHeader:
	default:
		err = code.New("TS2204", name, fmt.Sprintf("it is neither a file, a directory nor a link (tar type %q)", h.Typeflag))
	}
	if err != nil && code.Of(err) == "" {
		err = fmt.Errorf("unpacking %s: %w", name, err)
	}
	return err
}

func (x *extractor) mapped(name string) (string, bool) {
	if x.opts.Keep == nil {
		return name, true
	}
	return x.opts.Keep(name)
}

// cleanName gives an entry's name below the root of its archive.
func cleanName(s string) (string, error) {
	if s == "" || strings.ContainsRune(s, 0) {
		return "", code.New("TS2204", fmt.Sprintf("entry %q", s), "its name is not one")
	}
	for part := range strings.SplitSeq(s, "/") {
		if part == ".." {
			return "", code.New("TS2204", fmt.Sprintf("entry %q", s), "its name climbs with ..")
		}
	}
	return path.Clean(strings.TrimLeft(s, "/")), nil
}

// enter opens the directory of an entry and makes what is missing. A link in
// the place of a directory is refused: below it, ".." would not mean what the
// name says.
func (x *extractor) enter(dir string) (*os.Root, error) {
	if x.dir != nil && x.path == dir {
		return x.dir, nil
	}
	x.close()
	at := x.root
	if dir != "." {
		for part := range strings.SplitSeq(dir, "/") {
			next, err := openDir(at, part, dir)
			if at != x.root {
				at.Close()
			}
			if err != nil {
				return nil, err
			}
			at = next
		}
	}
	x.dir, x.path = at, dir
	return at, nil
}

func openDir(at *os.Root, part, dir string) (*os.Root, error) {
	info, err := at.Lstat(part)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := at.Mkdir(part, 0o755); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	case !info.IsDir():
		return nil, code.New("TS2204", dir, fmt.Sprintf("%q is a %s where a directory should be", part, kind(info)))
	}
	return at.OpenRoot(part)
}

func kind(info fs.FileInfo) string {
	if info.Mode()&fs.ModeSymlink != 0 {
		return "link"
	}
	return "file"
}

func (x *extractor) mkdir(dst string) error {
	_, err := x.enter(dst)
	return err
}

func (x *extractor) file(ctx context.Context, r io.Reader, h *tar.Header, dst string) error {
	if h.Size > x.opts.MaxBytes-x.done.Bytes {
		return code.New("TS2202", h.Name, fmt.Sprintf("the archive unpacks to more than %d bytes", x.opts.MaxBytes))
	}
	dir, err := x.enter(path.Dir(dst))
	if err != nil {
		return err
	}
	base := path.Base(dst)
	if info, err := dir.Lstat(base); err == nil && info.Mode().IsRegular() &&
		info.Size() == h.Size && info.ModTime().Equal(h.ModTime) {
		x.done.Skipped++
	} else if err := x.write(ctx, r, dir, base, h); err != nil {
		return err
	}
	x.done.Files++
	x.done.Bytes += h.Size
	if x.opts.Progress != nil {
		x.opts.Progress(h.Size)
	}
	return nil
}

func (x *extractor) write(ctx context.Context, r io.Reader, dir *os.Root, base string, h *tar.Header) (err error) {
	temp := base + tempSuffix
	if len(temp) > 255 {
		temp = base[:255-len(tempSuffix)] + tempSuffix
	}
	const flags = os.O_WRONLY | os.O_CREATE | os.O_EXCL
	perm := h.FileInfo().Mode().Perm() | 0o600
	f, err := dir.OpenFile(temp, flags, perm)
	if errors.Is(err, fs.ErrExist) {
		if err := dir.Remove(temp); err != nil {
			return err
		}
		f, err = dir.OpenFile(temp, flags, perm)
	}
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			dir.Remove(temp) // best effort: the next run replaces it
		}
	}()
	if _, err := io.CopyBuffer(struct{ io.Writer }{f}, struct{ io.Reader }{ctxReader{ctx, r}}, x.buf); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := dir.Chtimes(temp, h.ModTime, h.ModTime); err != nil {
		return err
	}
	return dir.Rename(temp, base)
}

// ctxReader ends a copy when its context does.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}
