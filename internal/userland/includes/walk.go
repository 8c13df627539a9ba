// SPDX-License-Identifier: Apache-2.0

package includes

import (
	"os"
	"path"
	"path/filepath"
	"strings"
)

// tree looks up files as the build names them. What has been looked up is kept.
type tree struct {
	s     Sources
	dirs  map[string]*folder // by name as the build spells it
	real  map[string]*folder // by the directory that it is on the host
	files map[string]int     // number in list, by folder and name
	list  []*node
}

// folder is a directory of the host; nil stands for what is none.
type folder struct {
	host  string
	names map[string]bool // whether it is a symbolic link
}

// node is one file under one of its names.
type node struct {
	dir        *folder
	path       string // of the file itself, below the top of the source, or absolute
	directives []directive
	computed   bool
}

func newTree(s Sources) *tree {
	return &tree{s: s, dirs: map[string]*folder{}, real: map[string]*folder{}, files: map[string]int{}}
}

// folder finds a directory by its name in the build root. ".." means what it
// means to the kernel: links are followed first.
func (t *tree) folder(name string) *folder {
	if f, ok := t.dirs[name]; ok {
		return f
	}
	f := t.onHost(t.host(name))
	t.dirs[name] = f
	return f
}

// host is where a name of the build root lies, unclean as it may be.
func (t *tree) host(name string) string {
	if rest, ok := strings.CutPrefix(name, t.s.BuildPath); ok && (rest == "" || rest[0] == '/') {
		return t.s.Build + rest
	}
	return t.s.Root + name
}

func (t *tree) onHost(host string) *folder {
	real, err := filepath.EvalSymlinks(host)
	if err != nil {
		return nil
	}
	if f, ok := t.real[real]; ok {
		return f
	}
	var f *folder
	if entries, err := os.ReadDir(real); err == nil {
		f = &folder{host: real, names: make(map[string]bool, len(entries))}
		for _, e := range entries {
			if !e.IsDir() {
				f.names[e.Name()] = e.Type()&os.ModeSymlink != 0
			}
		}
	}
	t.real[real] = f
	return f
}

// find gives the number of a file, -1 when there is none of this name below dir.
func (t *tree) find(dir *folder, name string) (int, error) {
	if dir == nil {
		return -1, nil
	}
	if strings.ContainsRune(name, '/') {
		below, base := path.Split(name)
		host := dir.host + "/" + below
		f, ok := t.dirs["\x00"+host]
		if !ok {
			f = t.onHost(host)
			t.dirs["\x00"+host] = f
		}
		return t.find(f, base)
	}
	link, ok := dir.names[name]
	if !ok {
		return -1, nil
	}
	file := dir.host + "/" + name
	if n, ok := t.files[file]; ok {
		return n, nil
	}
	n, err := t.read(dir, file, link)
	if err == nil {
		t.files[file] = n
	}
	return n, err
}

func (t *tree) read(dir *folder, file string, link bool) (int, error) {
	real := file
	if link {
		var err error
		if real, err = filepath.EvalSymlinks(file); err != nil {
			return -1, nil // it leads nowhere
		}
	}
	info, err := os.Stat(real)
	if err != nil || !info.Mode().IsRegular() {
		return -1, err
	}
	data, err := os.ReadFile(real)
	if err != nil {
		return -1, err
	}
	n := &node{dir: dir, path: t.name(real)}
	n.directives, n.computed = parse(data)
	t.list = append(t.list, n)
	return len(t.list) - 1, nil
}

// name is a file of the host as Index names it.
func (t *tree) name(real string) string {
	if rel, err := filepath.Rel(t.s.Build, real); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return real
}

// walker follows directives along the directories of one search.
type walker struct {
	*tree
	quote, angle []*folder
	uses         map[int][]int
}

func (t *tree) walker(s *search) *walker {
	w := &walker{tree: t, uses: map[int][]int{}}
	for _, d := range s.quote {
		w.quote = append(w.quote, t.folder(d))
	}
	for _, d := range s.angle {
		w.angle = append(w.angle, t.folder(d))
	}
	return w
}

// resolve adds all files that a directive can mean in a file of a directory.
func (w *walker) resolve(to []int, from *folder, d directive) ([]int, error) {
	var places []*folder
	if path.IsAbs(d.name) {
		dir, base := path.Split(d.name)
		places, d.name = []*folder{w.folder(dir)}, base
	} else {
		if d.quote {
			places = append(append(places, from), w.quote...)
		}
		places = append(places, w.angle...)
	}
	for _, p := range places {
		n, err := w.find(p, d.name)
		if err != nil {
			return nil, err
		}
		if n >= 0 {
			to = append(to, n)
		}
	}
	return to, nil
}

// from lists all files that can be read when reading begins with some.
func (w *walker) from(start []int) ([]int, error) {
	seen := make(map[int]bool, 512)
	var out []int
	push := func(list []int) {
		for _, n := range list {
			if !seen[n] {
				seen[n] = true
				out = append(out, n)
			}
		}
	}
	push(start)
	for i := 0; i < len(out); i++ {
		n := out[i]
		uses, ok := w.uses[n]
		if !ok {
			for _, d := range w.list[n].directives {
				var err error
				if uses, err = w.resolve(uses, w.list[n].dir, d); err != nil {
					return nil, err
				}
			}
			w.uses[n] = uses
		}
		push(uses)
	}
	return out, nil
}
