// SPDX-License-Identifier: Apache-2.0

package cumulative

import (
	"cmp"
	"errors"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/tsugi-project/tsugi/internal/builder"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/kbuild"
	"github.com/tsugi-project/tsugi/internal/klp"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/series"
)

var errorLine = regexp.MustCompile(`(?m)^([\w./+-]+):(\d+)(?::\d+)?: (?:fatal )?error: .*$`)

// blameError finds the fixes that keep the others from being linked.
func (c *construction) blameError(err error) []selection.Left {
	var out []selection.Left
	for _, p := range problems(err) {
		switch {
		case strings.HasPrefix(string(p.Code), "TS5") && objectOf(p.Where) != "":
			out = append(out, c.blameRefusal(builder.Refusal{Problem: p, Object: objectOf(p.Where)})...)
		}
	}
	return out
}

// problems lists all problems that an error joins.
func problems(err error) []*code.Problem {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		var out []*code.Problem
		for _, e := range j.Unwrap() {
			out = append(out, problems(e)...)
		}
		return out
	}
	p, ok := errors.AsType[*code.Problem](err)
	if !ok {
		return nil
	}
	if o, ok := errors.AsType[*klp.ObjectError](err); ok && objectOf(p.Where) == "" {
		q := *p
		q.Where = o.Object + ": " + p.Where
		p = &q
	}
	return []*code.Problem{p}
}

// blameCompile reads a compiler's messages. A line that a fix brought is that
// fix's. An old line fails because of a name that a fix changed or took away.
func (c *construction) blameCompile(p *code.Problem) []selection.Left {
	var ids []string
	why := firstLine(p.Why)
	for i, m := range errorLine.FindAllStringSubmatch(p.Why, -1) {
		if i == 0 {
			why = strings.TrimSpace(m[0])
		}
		line, _ := strconv.Atoi(m[2])
		if id := c.text.owner(m[1], line); id != "" {
			ids = append(ids, id)
		}
	}
	missing := map[string]bool{}
	for _, m := range kbuild.Missing(p.Why) {
		if m.Name != "" {
			missing[m.Name] = true
		}
	}
	sure := len(ids) > 0
	if len(ids) == 0 {
		if id := c.last(func(f *series.Fix) bool { return mentions(f, '-', missing) }); id != "" {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		ids = c.lastOf(p.Where)
	}
	slices.Sort(ids)
	var out []selection.Left
	for _, id := range slices.Compact(ids) {
		brings := c.provider(id, p)
		switch {
		case brings == nil:
			c.doubt(id, !sure)
			out = append(out, selection.Left{ID: id, Kind: selection.Failed, Code: p.Code, Why: why})
		case brings.Kind.Yields() && c.result.Selection.CanTake(c.req.Series, brings.ID):
			c.ask(id, brings.ID)
		default:
			out = append(out, selection.Left{
				ID: id, Kind: selection.Dragged, By: brings.ID, Needs: []string{brings.ID}, Why: "it does not compile without it: " + why,
			})
		}
	}
	return out
}

// provider is the fix left out that brings what another one misses, and nil if
// there is none: one that declares or defines it, or changes the types of which
// the compiler says that they do not go together.
func (c *construction) provider(id string, p *code.Problem) *selection.Left {
	if c.names == nil {
		c.names = series.NewNames(c.req.Series.Fixes)
	}
	left := map[*series.Fix]int{}
	for i, l := range c.result.Selection.Left {
		if l.ID != id {
			left[l.Fix] = i
		}
	}
	skip := func(f *series.Fix) bool { _, is := left[f]; return !is }
	for _, m := range kbuild.Missing(p.Why) {
		if m.Name != "" && !strings.Contains(m.File, "/") {
			m.File = p.Where
		}
		if f, sure := c.names.Brings(series.Missed{Name: m.Name, In: m.In, File: m.File}, skip); sure {
			return &c.result.Selection.Left[left[f]]
		}
	}
	for line := range strings.Lines(p.Why) {
		if !strings.Contains(line, " error: ") || !strings.Contains(line, "incompatible pointer type") {
			continue
		}
		// A type may be of many fixes: one that comes back in vain is enough.
		f := c.names.Typed(line, p.Where, skip)
		if f == nil {
			continue
		}
		l := &c.result.Selection.Left[left[f]]
		if !l.Kind.Yields() || !c.spares.typed[id] {
			c.spares.typed[id] = true
			return l
		}
	}
	return nil
}

func mentions(f *series.Fix, op byte, names map[string]bool) bool {
	for w := range words(f, op) {
		if names[w] {
			return true
		}
	}
	return false
}

// last is the last selected fix for which a condition holds, or "".
func (c *construction) last(holds func(*series.Fix) bool) string {
	for _, f := range slices.Backward(c.result.Selection.Fixes) {
		if holds(f) {
			return f.ID
		}
	}
	return ""
}

// lastOf is the last fix that changed a source file; of one that none did, the
// last that changed a header.
func (c *construction) lastOf(source string) []string {
	if ids := c.text.owners(source); len(ids) > 0 {
		return ids[len(ids)-1:]
	}
	if id := c.last(changesHeader); id != "" {
		return []string{id}
	}
	return nil
}

// blameRefusal finds the fixes that a refusal is about. A line that one fix
// changed tells for sure, in a header too; so does the source, when one fix
// changed it and no fix changed a header. Where several did, each may well go
// without the others.
func (c *construction) blameRefusal(r builder.Refusal) []selection.Left {
	object := cmp.Or(r.Object, objectOf(r.Where))
	source := strings.TrimSuffix(object, ".o") + ".c"
	ids := c.text.owners(source)
	file, n, placed := strings.Cut(r.Source, ":")
	sure := len(ids) == 1 && (placed && file == source || !c.headers())
	if placed && !sure {
		line, _ := strconv.Atoi(n)
		if here := c.text.within(file, line, c.end(file, line)); len(here) > 0 {
			ids, sure = here, len(here) == 1
		} else if owners := c.text.owners(file); len(owners) > 0 && file != source {
			ids = owners
		}
	}
	if len(ids) == 0 {
		names := map[string]bool{}
		for _, w := range word.FindAllString(r.Where+" "+r.Why, -1) {
			names[w] = true
		}
		if id := c.last(func(f *series.Fix) bool { return mentions(f, '+', names) || mentions(f, '-', names) }); id != "" {
			ids = []string{id}
		} else {
			ids = c.lastOf(source)
		}
	}
	var out []selection.Left
	for _, id := range ids {
		c.doubt(id, !sure)
		out = append(out, selection.Left{ID: id, Kind: selection.Reboot, Code: r.Code, Why: strings.TrimSpace(r.Where + " " + r.Why)})
	}
	return out
}

// headers tells whether a selected fix changes a header.
func (c *construction) headers() bool {
	return c.last(changesHeader) != ""
}

func changesHeader(f *series.Fix) bool {
	return slices.ContainsFunc(f.Paths(), func(p string) bool { return path.Ext(p) == ".h" })
}

// objectOf reads the object out of a place such as "fs/ext4/mballoc.o: name".
func objectOf(where string) string {
	object, _, _ := strings.Cut(where, ":")
	if path.Ext(object) == ".o" {
		return object
	}
	return ""
}

// end is the line where a definition ends that starts at a line.
func (c *construction) end(file string, line int) int {
	b, err := c.text.read(file)
	if err != nil {
		return line
	}
	n := 0
	for l := range strings.Lines(string(b)) {
		if n++; n >= line && strings.HasPrefix(l, "}") {
			return n
		}
	}
	return n
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	return s
}
