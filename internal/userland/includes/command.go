// SPDX-License-Identifier: Apache-2.0

package includes

import (
	"path"
	"path/filepath"
	"strings"

	"github.com/tsugi-project/tsugi/internal/userland"
)

// search is where a command looks for what it includes.
type search struct {
	quote, angle []string // directories, as the build names them, absolute
	before       []string // files that are included before the source
	unknown      bool
}

// key tells searches apart by their directories.
func (s *search) key() string {
	return strings.Join(s.quote, "\x00") + "\x01" + strings.Join(s.angle, "\x00")
}

// searchOf reads a command's arguments. system are the compiler's own
// directories; they come last whatever the arguments say, which does not matter
// as every directory counts.
func searchOf(c userland.Command, system []string) *search {
	s := &search{}
	abs := func(p string) string {
		if !path.IsAbs(p) {
			p = c.Dir + "/" + p
		}
		return p
	}
	for i := 0; i < len(c.Argv); i++ {
		a := c.Argv[i]
		for _, o := range []struct {
			name string
			to   *[]string
		}{
			{"-iquote", &s.quote},
			{"-isystem", &s.angle},
			{"-idirafter", &s.angle},
			{"-include", &s.before},
			{"-imacros", &s.before},
			{"-I", &s.angle},
		} {
			rest, ok := strings.CutPrefix(a, o.name)
			if !ok {
				continue
			}
			if rest == "" && i+1 < len(c.Argv) {
				i++
				rest = c.Argv[i]
			}
			if rest == "-" || rest == "" || strings.HasPrefix(rest, "=") {
				s.unknown = true
				break
			}
			if o.to == &s.before {
				*o.to = append(*o.to, rest)
			} else {
				*o.to = append(*o.to, abs(rest))
			}
			break
		}
		for _, odd := range []string{
			"@", "-iprefix", "-iwithprefix", "-isysroot", "-imultilib", "-imultiarch", "--sysroot", "--include", "--imacros",
			"-Xpreprocessor", "-Wp,-i", "-Wp,-I", "-specs", "--specs", "-B", "-cxx-isystem", "-fmodule", "-include-pch",
		} {
			if strings.HasPrefix(a, odd) {
				s.unknown = true
			}
		}
	}
	s.angle = append(s.angle, system...)
	return s
}

// systemDirs are the directories that compilers search by themselves.
func systemDirs(root string) []string {
	var dirs []string
	for _, pattern := range []string{
		"usr/lib/gcc/x86_64-linux-gnu/*/include", "usr/lib/gcc/x86_64-linux-gnu/*/include-fixed",
		"usr/lib/llvm-*/lib/clang/*/include", "usr/local/include",
		"usr/include/c++/*", "usr/include/x86_64-linux-gnu/c++/*", "usr/include/c++/*/backward",
		"usr/include/x86_64-linux-gnu", "usr/include",
	} {
		found, _ := filepath.Glob(filepath.Join(root, pattern)) // the patterns are well formed
		for _, f := range found {
			if rel, err := filepath.Rel(root, f); err == nil {
				dirs = append(dirs, "/"+rel)
			}
		}
	}
	return dirs
}
