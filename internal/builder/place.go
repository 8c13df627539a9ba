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
	name, isType := typeName(p.Where)
	if isType {
		if file, line := b.typeAt(name, o); line > 0 {
			r.Source = fmt.Sprintf("%s:%d", file, line)
			return r
		}
	}
	name, _, _ = strings.Cut(name, "+") // function+offset
	name, _, _ = strings.Cut(name, ".") // compilers' suffixes
	for _, file := range b.placesOf(o) {
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

// typeName takes the kind off the name of a type; it is false for other names.
func typeName(where string) (name string, isType bool) {
	for _, kind := range []string{"struct ", "union ", "enum "} {
		if name, isType = strings.CutPrefix(where, kind); isType {
			return name, true
		}
	}
	return where, false
}

// placesOf are the files that may define what an object's change is about.
func (b *build) placesOf(o kbuild.Object) []string {
	return append([]string{o.Source}, b.changedHeaders()...)
}

// typeAt finds the definition of a type that the fixes change: it is in a
// header more often than in the source that only mentions it.
func (b *build) typeAt(name string, o kbuild.Object) (file string, line int) {
	tagged := regexp.MustCompile(`\b(?:struct|union|enum)\s+` + regexp.QuoteMeta(name) + `\s*\{`)
	typedef := regexp.MustCompile(`(?m)^\}[^;{}\n]*\b` + regexp.QuoteMeta(name) + `\s*;`)
	for _, file := range b.placesOf(o) {
		text, err := b.source(file)
		if err != nil || !strings.Contains(string(text), name) {
			continue
		}
		plain := blankComments(string(text))
		for _, form := range []*regexp.Regexp{tagged, typedef} {
			if at := form.FindStringIndex(plain); at != nil {
				return file, 1 + strings.Count(plain[:at[0]], "\n")
			}
		}
	}
	return "", 0
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
