// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// includes says which names the files of a source tree include. It is coarse on
// purpose: a file that includes something of a name may mean any file of it,
// and one whose directive is a macro may mean all of them.
type includes struct {
	by       map[string][]string // base names of files that include something of this base name
	computed map[string]bool     // files with a directive that is a macro, below the top
	links    map[string]string   // symbolic links to files: where they lead, both below the top
}

// maxScanned is the longest file that is read for directives.
const maxScanned = 16 << 20

var (
	includeForm = regexp.MustCompile(`(?m)^[ \t]*#[ \t]*(?:include_next|include|import)[ \t]*(?:"([^"\n]+)"|<([^>\n]+)>)`)
	// macroForm is a directive that names a macro; prose begins otherwise.
	macroForm = regexp.MustCompile(`(?m)^[ \t]*#[ \t]*(?:include_next|include|import)[ \t]+[A-Za-z_][A-Za-z_0-9]*[ \t]*(?:$|\(|/)`)
)

// scanIncludes reads all files of a tree that may hold directives.
func scanIncludes(ctx context.Context, top string) (*includes, error) {
	in := &includes{by: map[string][]string{}, computed: map[string]bool{}, links: map[string]string{}}
	return in, filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		rel, err := filepath.Rel(top, p)
		if err != nil || d.IsDir() {
			return err
		}
		if d.Type()&fs.ModeSymlink != 0 {
			if to, err := filepath.EvalSymlinks(p); err == nil {
				if target, err := filepath.Rel(top, to); err == nil && !strings.HasPrefix(target, "..") {
					in.links[rel] = target
				}
			}
			return nil
		}
		if !d.Type().IsRegular() || notText(rel) {
			return nil
		}
		info, err := d.Info()
		if err != nil || info.Size() > maxScanned {
			return err
		}
		data, err := os.ReadFile(p)
		if err != nil || !bytes.Contains(data, []byte("include")) && !bytes.Contains(data, []byte("import")) {
			return err
		}
		in.add(rel, data)
		return nil
	})
}

// notText leaves out what is known to be none: objects and archives.
func notText(p string) bool {
	switch path.Ext(p) {
	case ".o", ".a", ".so", ".os", ".oS", ".od", ".d", ".gz", ".xz", ".bz2", ".png", ".pdf", ".der", ".pem", ".po", ".gmo", ".tar":
		return true
	}
	return false
}

func (in *includes) add(file string, data []byte) {
	base := path.Base(file)
	for _, m := range includeForm.FindAllSubmatch(data, -1) {
		name := path.Base(string(m[1]) + string(m[2]))
		in.by[name] = append(in.by[name], base)
	}
	switch path.Ext(file) {
	case "", ".am", ".py", ".sh", ".cmake", ".mk", ".test", ".result", ".pl", ".pm", ".txt", ".diff", ".patch":
		return // makefiles and scripts, in which # begins a comment
	}
	if macroForm.Match(data) {
		in.computed[file] = true
	}
}

// spread adds the names of all that include one of some names, and so on. Files
// whose directives are macros may include any.
func (in *includes) spread(names map[string]bool) {
	var todo []string
	for n := range names {
		todo = append(todo, n)
	}
	for f := range in.computed {
		if b := path.Base(f); !names[b] {
			names[b] = true
			todo = append(todo, b)
		}
	}
	for len(todo) > 0 {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, user := range in.by[n] {
			if !names[user] {
				names[user] = true
				todo = append(todo, user)
			}
		}
		for link, to := range in.links {
			if b := path.Base(link); path.Base(to) == n && !names[b] {
				names[b] = true
				todo = append(todo, b)
			}
		}
	}
}

// aliases lists the symbolic links to changed files.
func (in *includes) aliases(changed map[string]bool) map[string]bool {
	out := map[string]bool{}
	for link, to := range in.links {
		if changed[to] {
			out[link] = true
		}
	}
	return out
}
