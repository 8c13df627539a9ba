// SPDX-License-Identifier: Apache-2.0

package update

import (
	"io/fs"
	"path"
	"slices"
	"strings"
)

// includes answers which headers a file includes, directly or through others.
// It reads no makefiles: a header that is found through -I is looked for in
// the directories above the file. What is missed only costs a link, which a
// compile then shows.
type includes struct {
	old, new fs.FS
	direct   map[string][]string
	closure  map[string]map[string]bool
}

func newIncludes(old, new fs.FS) *includes {
	return &includes{old: old, new: new, direct: make(map[string][]string), closure: make(map[string]map[string]bool)}
}

// sees tells whether file includes header, or is it.
func (x *includes) sees(file, header string) bool {
	if file == header {
		return true
	}
	c, ok := x.closure[file]
	if !ok {
		c = make(map[string]bool)
		x.walk(file, c)
		delete(c, file)
		x.closure[file] = c
	}
	return c[header]
}

func (x *includes) walk(file string, seen map[string]bool) {
	for _, h := range x.of(file) {
		if !seen[h] {
			seen[h] = true
			x.walk(h, seen)
		}
	}
}

// of lists the headers that a file includes itself, in either version.
func (x *includes) of(file string) []string {
	if d, ok := x.direct[file]; ok {
		return d
	}
	var out []string
	for _, root := range []fs.FS{x.new, x.old} {
		b, err := fs.ReadFile(root, file)
		if err != nil {
			continue
		}
		for l := range strings.Lines(string(b)) {
			name, quoted, ok := included(l)
			if !ok {
				continue
			}
			if p := x.resolve(path.Dir(file), name, quoted); p != "" {
				out = append(out, p)
			}
		}
		break // the old version only of what the new one has not
	}
	slices.Sort(out)
	out = slices.Compact(out)
	x.direct[file] = out
	return out
}

// included reads an #include line.
func included(line string) (name string, quoted, ok bool) {
	t, ok := strings.CutPrefix(strings.TrimLeft(line, " \t"), "#")
	if !ok {
		return "", false, false
	}
	t, ok = strings.CutPrefix(strings.TrimLeft(t, " \t"), "include")
	t = strings.TrimSpace(t)
	if !ok || len(t) < 3 {
		return "", false, false
	}
	end := strings.IndexByte(t[1:], map[byte]byte{'"': '"', '<': '>'}[t[0]])
	if end < 1 || t[0] != '"' && t[0] != '<' {
		return "", false, false
	}
	return t[1 : 1+end], t[0] == '"', true
}

// declares adds the names that a header declares.
func (x *includes) declares(header string, names map[string]bool) {
	for _, root := range []fs.FS{x.new, x.old} {
		b, err := fs.ReadFile(root, header)
		if header == "" || err != nil {
			continue
		}
		for _, d := range scan(lines(b)) {
			if d.name != "" && d.kind != include && d.kind != conditional && d.kind != other {
				names[d.name] = true
			}
		}
		return
	}
}

func (x *includes) resolve(dir, name string, quoted bool) string {
	if quoted {
		if p := path.Join(dir, name); x.exists(p) {
			return p
		}
	}
	for _, d := range []string{"include", "arch/x86/include", "include/uapi", "arch/x86/include/uapi"} {
		if p := path.Join(d, name); x.exists(p) {
			return p
		}
	}
	for ; dir != "." && dir != "/" && strings.Contains(dir, "/"); dir = path.Dir(dir) {
		for _, d := range []string{dir, path.Join(dir, "include"), path.Join(dir, "inc")} {
			if p := path.Join(d, name); x.exists(p) {
				return p
			}
		}
	}
	return ""
}

func (x *includes) exists(p string) bool {
	if !fs.ValidPath(p) {
		return false
	}
	if _, ok := x.direct[p]; ok {
		return true
	}
	for _, root := range []fs.FS{x.new, x.old} {
		if _, err := fs.Stat(root, p); err == nil {
			return true
		}
	}
	return false
}
