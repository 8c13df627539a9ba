// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/kbuild"
	"github.com/tsugi-project/tsugi/internal/kernel"
)

// place adds the object and, where it can be found, the source line of what a
// problem is about.
func (b *build) place(p *code.Problem, o kbuild.Object) Refusal {
	r := Refusal{Problem: p, Object: o.Path}
	name := p.Where
	for _, kind := range []string{"struct ", "union ", "enum "} {
		name = strings.TrimPrefix(name, kind)
	}
	name, _, _ = strings.Cut(name, "+") // function+offset
	name, _, _ = strings.Cut(name, ".") // compilers' suffixes
	for _, file := range append([]string{o.Source}, b.changedHeaders()...) {
		text, err := b.source(file)
		if err != nil {
			continue
		}
		if line := definition(string(text), name); line > 0 {
			r.Source = fmt.Sprintf("%s:%d", file, line)
			break
		}
	}
	return r
}

// source returns a source file as the fixes leave it.
func (b *build) source(file string) ([]byte, error) {
	if c, ok := b.sources[file]; ok {
		return c.New, nil
	}
	return os.ReadFile(filepath.Join(b.req.Target.Source, file))
}

func (b *build) changedHeaders() []string {
	var out []string
	for _, f := range b.fix.Files {
		if strings.HasSuffix(f.Path, ".h") {
			out = append(out, f.Path)
		}
	}
	return out
}

// definition finds the line, from 1, where a name is defined at file scope: a
// line that starts in the first column and names it, and is no prototype.
func definition(text, name string) int {
	if name == "" {
		return 0
	}
	word, part := regexp.MustCompile(`\b`+regexp.QuoteMeta(name)+`\b`), name
	for _, prefix := range []string{"__do_sys_", "__se_sys_", "__x64_sys_"} {
		if call, ok := strings.CutPrefix(name, prefix); ok {
			part = call
			word = regexp.MustCompile(`\bSYSCALL_DEFINE[0-6]\(` + regexp.QuoteMeta(call) + `\b`)
		}
	}
	first := 0
	if !strings.Contains(text, part) {
		return 0
	}
	for i, line := range strings.Split(text, "\n") {
		if !strings.Contains(line, part) { // far quicker than the expression
			continue
		}
		at := word.FindStringIndex(line)
		if at == nil {
			continue
		}
		if first == 0 {
			first = i + 1
		}
		indented := strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t") || strings.HasPrefix(line, "#")
		prototype := strings.HasSuffix(strings.TrimSpace(line), ";") && strings.Contains(line[at[1]:], "(") && !strings.Contains(line, "=")
		comment := strings.HasPrefix(line, "/") || strings.HasPrefix(line, " *")
		if !indented && !prototype && !comment {
			return i + 1
		}
	}
	return first
}

func writeFile(path string, data []byte) error {
	if err := renameio.WriteFile(path, data, 0o644); err != nil {
		return kernel.DiskError(path, err)
	}
	return nil
}
