// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kernel"
)

// onlyAdds tells whether the change of a header does no more than add
// functions and macros whose names no file mentions that the fix leaves alone.
// Fixes often bring a small helper into a header that everything includes;
// nothing but the changed files can use it.
func (s *search) onlyAdds(ctx context.Context, c fix.Change) (bool, error) {
	names := addedNames(c.Old, c.New)
	if len(names) == 0 {
		return false, nil
	}
	changed := make(map[string]bool)
	for _, c := range s.changes {
		changed[c.Path] = true
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2 * runtime.NumCPU())
	mentioned := make(chan struct{}, 1)
	for p := range s.graph.Files {
		if changed[p] {
			continue
		}
		g.Go(func() error {
			if err := kernel.Interrupted(ctx); err != nil {
				return err
			}
			b, err := os.ReadFile(filepath.Join(s.m.t.Source, p))
			if err != nil {
				return nil // a generated header: it is of no other version than the source
			}
			for _, n := range names {
				if mentions(b, n) {
					select {
					case mentioned <- struct{}{}:
					default:
					}
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return false, err
	}
	return len(mentioned) == 0, nil
}

// mentions tells whether a text has name as a whole word.
func mentions(b []byte, name string) bool {
	for {
		i := bytes.Index(b, []byte(name))
		if i < 0 {
			return false
		}
		end := i + len(name)
		if (i == 0 || !isWord(b[i-1])) && (end == len(b) || !isWord(b[end])) {
			return true
		}
		b = b[end:]
	}
}

// addedNames compares the declarations of a header and returns the names that
// it gains, or nil when it does anything else than gain functions and macros.
func addedNames(old, new []byte) []string {
	count := make(map[item]int)
	for _, it := range headerItems(new) {
		count[it]++
	}
	for _, it := range headerItems(old) {
		count[it]--
	}
	before := identifiers(string(old))
	var names []string
	for it, n := range count {
		if n == 0 {
			continue
		}
		name, ok := it.macro()
		if !ok {
			name, ok = it.function()
		}
		if n < 0 || !ok || slices.Contains(before, name) {
			return nil
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// macro names an item that is a #define.
func (it item) macro() (string, bool) {
	rest, ok := strings.CutPrefix(string(it), "#define ")
	if !ok {
		return "", false
	}
	end := 0
	for end < len(rest) && isWord(rest[end]) {
		end++
	}
	return rest[:end], end > 0
}

// headerItems cuts a header as it is written: each directive is an item of
// its own, what is between two directives is cut as [items] does.
func headerItems(text []byte) []item {
	var out []item
	var code bytes.Buffer
	flush := func() {
		out = append(out, items(code.Bytes())...)
		code.Reset()
	}
	lines := slices.Collect(strings.Lines(string(withoutComments(text))))
	for i := 0; i < len(lines); i++ {
		l := strings.TrimSpace(lines[i])
		if !strings.HasPrefix(l, "#") {
			code.WriteString(lines[i])
			continue
		}
		for strings.HasSuffix(l, `\`) && i+1 < len(lines) {
			i++
			l = strings.TrimSuffix(l, `\`) + " " + strings.TrimSpace(lines[i])
		}
		flush()
		l = "#" + strings.TrimSpace(l[1:])
		out = append(out, item(strings.Join(strings.Fields(l), " ")))
	}
	flush()
	return out
}

// withoutComments replaces comments by spaces and keeps their newlines.
func withoutComments(b []byte) []byte {
	out := bytes.Clone(b)
	for i := 0; i < len(out); i++ {
		switch {
		case out[i] == '"' || out[i] == '\'':
			quote := out[i]
			for i++; i < len(out) && out[i] != quote && out[i] != '\n'; i++ {
				if out[i] == '\\' {
					i++
				}
			}
		case bytes.HasPrefix(out[i:], []byte("/*")):
			end := bytes.Index(out[i+2:], []byte("*/"))
			stop := len(out)
			if end >= 0 {
				stop = i + 2 + end + 2
			}
			for ; i < stop; i++ {
				if out[i] != '\n' {
					out[i] = ' '
				}
			}
			i--
		case bytes.HasPrefix(out[i:], []byte("//")):
			for ; i < len(out) && out[i] != '\n'; i++ {
				out[i] = ' '
			}
			i--
		}
	}
	return out
}
