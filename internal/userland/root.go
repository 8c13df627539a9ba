// SPDX-License-Identifier: Apache-2.0

package userland

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
)

// rootLayout changes when a root is made in another way of the same packages.
const rootLayout = 3

// rootName names a root by what is in it.
func rootName(debs []kernel.Deb) string {
	h := sha256.New()
	fmt.Fprintf(h, "layout %d\n", rootLayout)
	for _, d := range debs {
		fmt.Fprintf(h, "%s %s\n", d.File, d.SHA256)
	}
	return hex.EncodeToString(h.Sum(nil))[:32]
}

// makeRoot unpacks packages into a root and makes it fit for building: no
// script of a package is run. The packages are ordered by name.
func (s *Store) makeRoot(ctx context.Context, a archive, debs []kernel.Deb, rep progress.Reporter) (string, error) {
	dir := s.at("roots", rootName(debs))
	unlock, err := s.lock(ctx, "roots/"+filepath.Base(dir), true)
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	files, err := a.Fetch(ctx, s.at("debs"), debs, rep)
	if err != nil {
		return "", err
	}
	err = kernel.Stage(ctx, dir, "build root", rep, func(tmp string, task progress.Task) error {
		for _, d := range debs {
			task.Note(d.Name)
			if err := kernel.UnpackDeb(ctx, files[d.Name], tmp, rootPlace, task); err != nil {
				return fmt.Errorf("build root: %w", err)
			}
		}
		return finishRoot(ctx, tmp)
	})
	return dir, err
}

// rootPlace puts everything below /usr (the file systems are merged), and
// leaves out what no build reads.
func rootPlace(name string) string {
	top, rest, deeper := strings.Cut(name, "/")
	switch top {
	case "bin", "sbin", "lib", "lib32", "lib64", "libx32":
		if !deeper {
			return ""
		}
		name = "usr/" + top + "/" + rest
	case "boot", "dev", "proc", "run", "sys", "tmp", "build", "tsugi":
		return ""
	}
	for _, dir := range []string{"usr/share/doc/", "usr/share/man/", "usr/share/info/", "usr/share/locale/", "usr/share/lintian/", "usr/share/bug/"} {
		if strings.HasPrefix(name, dir) {
			return ""
		}
	}
	return name
}

// alternatives are links that packages make by a script: of each, the first
// file that there is is taken.
var alternatives = [][]string{
	{"awk", "gawk", "mawk"},
	{"nawk", "gawk", "mawk"},
	{"cc", "gcc"},
	{"c++", "g++"},
	{"c89", "c89-gcc"},
	{"c99", "c99-gcc"},
	{"automake", "automake-1.*"},
	{"aclocal", "aclocal-1.*"},
	{"yacc", "bison.yacc", "byacc"},
	{"lex", "flex"},
	{"which", "which.debianutils"},
	{"fakeroot", "fakeroot-sysv"},
	{"w", "w.procps"},
	{"lzma", "xz"},
	{"tclsh", "tclsh8.*"},
	{"python", "python3"},
}

// finishRoot does what the scripts of packages would have done, as far as
// builds need it, and puts the recorder in the place of the compilers.
func finishRoot(ctx context.Context, root string) error {
	for _, d := range []string{"proc", "dev", "tmp", "build", "tsugi", "etc", "run", "var/tmp"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return kernel.DiskError(root, err)
		}
	}
	for _, d := range []string{"bin", "sbin", "lib", "lib32", "lib64", "libx32"} {
		if err := link("usr/"+d, filepath.Join(root, d)); err != nil {
			return err
		}
	}
	for _, file := range []string{"passwd", "group"} { // base-passwd copies them
		b, err := os.ReadFile(filepath.Join(root, "usr/share/base-passwd", file+".master"))
		if err != nil {
			return code.New("TS3534", root, "it has no base-passwd").With(err)
		}
		if err := os.WriteFile(filepath.Join(root, "etc", file), b, 0o644); err != nil {
			return kernel.DiskError(root, err)
		}
	}
	// base-files makes it; without it dpkg-buildflags gives no flags at all.
	if err := link("debian", filepath.Join(root, "etc/dpkg/origins/default")); err != nil {
		return err
	}
	bin := filepath.Join(root, "usr/bin")
	for _, alt := range alternatives {
		if _, err := os.Lstat(filepath.Join(bin, alt[0])); err == nil {
			continue
		}
		if have := firstOf(bin, alt[1:]); have != "" {
			if err := link(have, filepath.Join(bin, alt[0])); err != nil {
				return err
			}
		}
	}
	if err := placeRecorder(bin); err != nil {
		return err
	}
	r := room{root: root, writable: true, env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}}
	if _, err := r.run(ctx, "/", []string{"ldconfig"}, nil, nil); err != nil {
		return code.New("TS3534", root, "ldconfig").With(err)
	}
	return nil
}

func firstOf(dir string, patterns []string) string {
	for _, p := range patterns {
		if found, _ := filepath.Glob(filepath.Join(dir, p)); len(found) > 0 {
			return filepath.Base(slices.Max(found))
		}
	}
	return ""
}

// link makes a symbolic link that may be there already.
func link(target, path string) error {
	err := os.Symlink(target, path)
	if errors.Is(err, fs.ErrExist) {
		if old, err := os.Readlink(path); err == nil && old == target {
			return nil
		}
	}
	return kernel.DiskError(path, err)
}
