// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/userland"
	"github.com/tsugi-project/tsugi/internal/userland/includes"
)

// unit is one recorded compilation that reads a file which the fix changes.
type unit struct {
	userland.Command
	source string // below the top of the source
	reads  map[string]bool
	// The compiled objects on the host, set by compile.
	plain, orig, patched string
}

// maxUnits is how many units a fix may reach when the caller does not say.
const maxUnits = 500

// reach finds the units. Those that can read a changed file, as far as
// #include lines tell, are asked what they read.
func (b *job) reach(ctx context.Context) error {
	if len(b.changes) == 0 {
		return nil
	}
	var changed, created []string
	for _, c := range b.changes {
		if c.Created {
			created = append(created, c.Path)
			continue
		}
		p, err := b.own(c.Path)
		if err != nil {
			return err
		}
		changed = append(changed, p)
	}
	t := b.rep.Start("read include directives", 0, progress.Files)
	index, err := includes.Load(ctx, includes.Of(b.t), b.indexFile())
	t.Done(err)
	if err != nil {
		return err
	}
	compiles := b.t.Commands().Compiles
	var candidates []*unit
	for _, i := range index.Readers(changed, created) {
		c := compiles[i]
		rel, _ := strings.CutPrefix(c.Source, b.t.BuildPath+"/")
		candidates = append(candidates, &unit{Command: c, source: rel})
	}
	limit := b.req.MaxUnits
	if limit <= 0 {
		limit = maxUnits
	}
	if len(candidates) > 8*limit {
		return code.New("TS3106", "", fmt.Sprintf("%d compilations may read what it changes; %d are looked at", len(candidates), 8*limit))
	}
	if err := b.dependencies(ctx, candidates); err != nil {
		return err
	}
	read := map[string]bool{}
	for _, u := range candidates {
		if b.reads(u, changed, created, read) {
			b.units = append(b.units, u)
		}
	}
	if len(b.units) > limit {
		return code.New("TS3106", "", fmt.Sprintf("%d compilations read what it changes; %d are looked at", len(b.units), limit))
	}
	return b.judgeUnread(ctx, read)
}

// reads reports whether a unit reads one of the files, and notes which. A file
// that is new may be found in front of one of its name.
func (b *job) reads(u *unit, changed, created []string, read map[string]bool) bool {
	hit := false
	for dep := range u.reads {
		for _, c := range created {
			if path.Base(dep) == path.Base(c) {
				hit, read[c] = true, true
			}
		}
		if p, err := b.own(dep); err == nil && slices.Contains(changed, p) {
			hit, read[p] = true, true
		}
	}
	return hit
}

// own is the path of a file below the top of the source that no link leads to.
func (b *job) own(p string) (string, error) {
	if real, ok := b.owned[p]; ok {
		return real, nil
	}
	top, err := filepath.EvalSymlinks(b.t.Build)
	if err != nil {
		return "", err
	}
	file, err := filepath.EvalSymlinks(filepath.Join(top, filepath.FromSlash(p)))
	if err != nil {
		return "", err
	}
	real, err := filepath.Rel(top, file)
	if err != nil || !filepath.IsLocal(real) {
		return "", code.New("TS3512", p, "it leads out of the source")
	}
	if b.owned == nil {
		b.owned = map[string]string{}
	}
	b.owned[p] = real
	return real, nil
}

// judgeUnread says what it means that no compiler reads a file that changes.
func (b *job) judgeUnread(ctx context.Context, read map[string]bool) error {
	for _, c := range b.changes {
		own, err := b.own(c.Path)
		if err != nil { // it is new
			own = c.Path
		}
		made, err := generates(ctx, b.t.Build, c)
		if err != nil {
			return err
		}
		switch {
		case made != "":
			return code.New("TS3514", c.Path, made)
		case read[own]:
		case sourceFile(c.Path) && (path.Ext(c.Path) != ".h" || !c.Created):
			b.report.Unbuilt = append(b.report.Unbuilt, Unbuilt{c.Path, "not-built", "no compilation of this package reads it"})
		case c.Created && path.Ext(c.Path) == ".h":
			// who includes it is changed and reached by itself
		default:
			return code.New("TS3514", c.Path, "")
		}
	}
	return nil
}

// parseRule reads the prerequisites of a rule that gcc wrote for make, paths
// below top, relative to it; others are left out.
func parseRule(rule []byte, dir, top string) map[string]bool {
	text := strings.ReplaceAll(string(rule), "\\\n", " ")
	_, text, _ = strings.Cut(text, ":")
	out := map[string]bool{}
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\\ ", "\x00"), "$$", "$")
	for _, f := range strings.Fields(text) {
		p := strings.ReplaceAll(f, "\x00", " ")
		if !path.IsAbs(p) {
			p = path.Join(dir, p)
		}
		if rel, ok := strings.CutPrefix(path.Clean(p), top+"/"); ok {
			out[rel] = true
		}
	}
	return out
}

// withoutOutput are a command's arguments without those that say what is
// written, and which debug information: for another run of the compiler.
func withoutOutput(argv []string) []string {
	out := make([]string, 0, len(argv))
	for i := 0; i < len(argv); i++ {
		a := argv[i]
		switch {
		case a == "-o" || a == "-MF" || a == "-MT" || a == "-MQ":
			i++
		case a == "-c", a == "-MD", a == "-MMD", a == "-MP", a == "-M", a == "-MM", a == "-save-temps":
		case strings.HasPrefix(a, "-Wp,-M"), i > 0 && strings.HasPrefix(a, "-o") && len(a) > 2:
		case a == "-g", strings.HasPrefix(a, "-ggdb"), strings.HasPrefix(a, "-gdwarf"), len(a) == 3 && a[:2] == "-g" && a[2] >= '0' && a[2] <= '3':
		default:
			out = append(out, a)
		}
	}
	return out
}

func isCPlusPlus(source string) bool {
	return slices.Contains([]string{".cc", ".cpp", ".cxx", ".C", ".c++"}, path.Ext(source))
}

func isAssembly(source string) bool { return path.Ext(source) == ".S" || path.Ext(source) == ".s" }
