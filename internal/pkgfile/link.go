// SPDX-License-Identifier: Apache-2.0

package pkgfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
)

// linkTarget returns what the symbolic link dst is to hold. Every directory
// above an entry is a real one (see enter), so a target of at most as many
// leading ".." as the link is deep, and none further on, stays below the root
// whatever other links it passes.
func (x *extractor) linkTarget(name, dst, target string) (string, error) {
	bad := func(why string) error {
		return code.New("TS2204", name, fmt.Sprintf("its link target %q %s", target, why))
	}
	if target == "" || strings.ContainsRune(target, 0) {
		return "", bad("is not one")
	}
	if path.IsAbs(target) {
		to, err := cleanName(target)
		if err != nil {
			return "", bad("climbs with ..")
		}
		if mapped, ok := x.mapped(to); ok && fs.ValidPath(mapped) {
			to = mapped
		}
		rel, err := filepath.Rel(path.Dir(dst), to)
		if err != nil {
			return "", bad("has no place below the destination")
		}
		return rel, nil
	}
	depth, named := strings.Count(dst, "/"), false
	for part := range strings.SplitSeq(target, "/") {
		switch {
		case part == "" || part == ".":
		case part != "..":
			named = true
		case named:
			return "", bad("climbs with .. behind a name")
		case depth == 0:
			return "", bad("leads out of the destination")
		default:
			depth--
		}
	}
	return target, nil
}

func (x *extractor) symlink(dst, target string) error {
	dir, err := x.enter(path.Dir(dst))
	if err != nil {
		return err
	}
	base := path.Base(dst)
	if old, err := dir.Readlink(base); err == nil && old == target {
		return nil
	}
	if err := dir.Remove(base); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return dir.Symlink(target, base)
}

// hardlink links dst to an entry that came before it.
func (x *extractor) hardlink(name, dst, target string) error {
	to, err := cleanName(target)
	if err != nil {
		return err
	}
	to, ok := x.mapped(to)
	if !ok {
		return code.New("TS2202", name, fmt.Sprintf("it is a hard link to %s, which is left out", target))
	}
	to = path.Clean(to)
	from, err := x.root.Lstat(to)
	if err != nil {
		return code.New("TS2202", name, "it is a hard link to an entry that did not come before it").With(err)
	}
	if !from.Mode().IsRegular() {
		return code.New("TS2204", name, fmt.Sprintf("it is a hard link to %s, which is no file", target))
	}
	if _, err := x.enter(path.Dir(dst)); err != nil {
		return err
	}
	if old, err := x.root.Lstat(dst); err == nil {
		if os.SameFile(old, from) {
			return nil
		}
		if err := x.root.Remove(dst); err != nil {
			return err
		}
	}
	return x.root.Link(to, dst)
}
