// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bytes"
	"debug/elf"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/klauspost/compress/zstd"

	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/testenv"
)

// TestWhatIsNarrowedAwaySeesNothing takes headers as the update changes them,
// and objects that read them and were left out by names alone: their
// preprocessed text gives the same code, or the compiler does. TSUGI_SOUND=N
// does so with N objects of each header of the update, by the hour.
func TestWhatIsNarrowedAwaySeesNothing(t *testing.T) {
	target := testenv.Kernel(t, testenv.Old)
	ctx := t.Context()
	store := testenv.Store(t)
	version := testenv.Pinned(t, testenv.Old).Fixed
	if !store.HasSource(version) && os.Getenv("TSUGI_TEST_KERNELS") == "" {
		t.Skipf("source %s is not in the store: set TSUGI_TEST_KERNELS=1 to get it", version)
	}
	fixed, err := store.SourceTree(ctx, version, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	each, headers := 2, []string{"include/linux/mount.h"}
	if n, err := strconv.Atoi(os.Getenv("TSUGI_SOUND")); err == nil {
		each, headers = n, changedHeaders(t, target.Source, fixed)
	}
	tree, err := Open(ctx, target)
	qt.Assert(t, qt.IsNil(err))
	graph, err := tree.includes(ctx, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	asked := 0
	for _, header := range headers {
		diff, err := fix.Derive(os.DirFS(target.Source), os.DirFS(fixed), []string{header})
		qt.Assert(t, qt.IsNil(err))
		f, err := fix.Parse(header, diff)
		qt.Assert(t, qt.IsNil(err))
		changes, err := f.Apply(readSource(target))
		qt.Assert(t, qt.IsNil(err))
		s := &search{tree: tree, m: tree.m, graph: graph, changes: changes, seen: make(map[Object]bool), byObject: make(map[Object]int), rep: progress.Discard}
		qt.Assert(t, qt.IsNil(s.file(ctx, 0, &FileOutcome{Path: header, Outcome: Ignored})))
		all := slices.Clone(s.candidates)
		if len(all) == 0 {
			continue
		}
		qt.Assert(t, qt.IsNil(s.narrow(ctx)))
		if each == 2 {
			qt.Check(t, qt.IsTrue(len(s.candidates) < len(all)/20), qt.Commentf("%s: %d of %d objects stay", header, len(s.candidates), len(all)))
		}
		dropped := slices.DeleteFunc(all, func(c candidate) bool {
			return isAssembly(c.Object) || slices.ContainsFunc(s.candidates, func(x candidate) bool { return x.Object == c.Object })
		})
		random := rand.New(rand.NewSource(20261122))
		random.Shuffle(len(dropped), func(i, j int) { dropped[i], dropped[j] = dropped[j], dropped[i] })
		c, err := newCompilation(target, changes, Options{Jobs: 2})
		qt.Assert(t, qt.IsNil(err))
		// Those whose command is known cost less.
		slices.SortStableFunc(dropped, func(a, b candidate) int { return unknown(c, a) - unknown(c, b) })
		asked += c.sound(t, header, dropped, each)
	}
	qt.Check(t, qt.IsTrue(asked >= each), qt.Commentf("%d objects were compared", asked))
	t.Logf("%d objects", asked)
}

func unknown(c *compilation, cand candidate) int {
	if _, err := c.readCommand(cand.Object); err == nil {
		return 0
	}
	return 1
}

// sound compares objects that read a header, before and after it changes.
func (c *compilation) sound(t *testing.T, header string, dropped []candidate, each int) (asked int) {
	t.Helper()
	ctx := t.Context()
	var err error
	c.enc, err = zstd.NewWriter(nil)
	qt.Assert(t, qt.IsNil(err))
	defer c.enc.Close()
	c.dec, err = zstd.NewReader(nil)
	qt.Assert(t, qt.IsNil(err))
	defer c.dec.Close()
	w, err := lease(ctx, c.t)
	qt.Assert(t, qt.IsNil(err))
	defer func() { qt.Check(t, qt.IsNil(w.close())) }()
	qt.Assert(t, qt.IsNil(w.apply(c.changes)))
	for len(dropped) > 0 && asked < each {
		part := dropped[:min(each, len(dropped))]
		dropped = dropped[len(part):]
		failed, err := c.preprocessCommands(ctx, part, progress.Discard)
		qt.Assert(t, qt.IsNil(err))
		for _, cand := range part {
			if slices.Contains(failed, cand.Object) || asked >= each {
				continue
			}
			reads, err := c.originalReads(cand.Object)
			if err != nil || !slices.Contains(reads, header) {
				continue
			}
			old, err := c.originalText(ctx, cand.Object)
			qt.Assert(t, qt.IsNil(err))
			now, _, err := c.preprocess(ctx, cand.Object, w)
			qt.Assert(t, qt.IsNil(err))
			if old == nil {
				continue
			}
			asked++
			if now != nil && !differ(counted(old), counted(now)) {
				continue
			}
			qt.Assert(t, qt.IsNil(c.plain(ctx, []Object{cand.Object}, progress.Discard)))
			dir := t.TempDir()
			a, b := filepath.Join(dir, "a.o"), filepath.Join(dir, "b.o")
			_, err = c.replay(ctx, cand.Object, nil, a)
			qt.Assert(t, qt.IsNil(err))
			if _, err = c.replay(ctx, cand.Object, w, b); err != nil {
				t.Logf("%s: %s does not compile with this header alone", header, cand.Path)
				continue // the fix needs more than the header
			}
			if why := sameCode(t, a, b); why != "" {
				t.Errorf("%s was left out, and sees the change of %s: %s", cand.Path, header, why)
			}
		}
	}
	return asked
}

// uniqueName is what __COUNTER__ makes: its numbers follow how often macros
// before it were used, in the headers too.
var uniqueName = regexp.MustCompile(`(__UNIQUE_ID_\w*?|__compiletime_assert_)[0-9]+`)

func counted(text []byte) []byte { return uniqueName.ReplaceAll(text, []byte("${1}N")) }

// sameCode tells in what two objects differ, beside the numbers of __COUNTER__.
func sameCode(t *testing.T, a, b string) string {
	t.Helper()
	x, err := elf.Open(a)
	qt.Assert(t, qt.IsNil(err))
	defer x.Close()
	y, err := elf.Open(b)
	qt.Assert(t, qt.IsNil(err))
	defer y.Close()
	if len(x.Sections) != len(y.Sections) {
		return fmt.Sprintf("%d sections, %d", len(x.Sections), len(y.Sections))
	}
	name := func(s string) string { return string(counted([]byte(s))) }
	for i, s := range x.Sections {
		r := y.Sections[i]
		if name(s.Name) != name(r.Name) || s.Type != r.Type || s.Flags != r.Flags {
			return s.Name + " or " + r.Name
		}
		if s.Type == elf.SHT_NOBITS || s.Type == elf.SHT_NULL || s.Type == elf.SHT_STRTAB || s.Type == elf.SHT_SYMTAB || s.Name == ".BTF" {
			continue
		}
		d, err := s.Data()
		qt.Assert(t, qt.IsNil(err))
		e, err := r.Data()
		qt.Assert(t, qt.IsNil(err))
		if !bytes.Equal(d, e) {
			return "section " + s.Name
		}
	}
	p, err := x.Symbols()
	qt.Assert(t, qt.IsNil(err))
	q, err := y.Symbols()
	qt.Assert(t, qt.IsNil(err))
	if len(p) != len(q) {
		return fmt.Sprintf("%d symbols, %d", len(p), len(q))
	}
	for i := range p {
		p[i].Name, q[i].Name = name(p[i].Name), name(q[i].Name)
		if p[i] != q[i] {
			return "symbol " + p[i].Name
		}
	}
	return ""
}

// changedHeaders lists the headers that two sources have in different states.
func changedHeaders(t *testing.T, old, now string) (out []string) {
	t.Helper()
	diff, err := fix.Derive(os.DirFS(old), os.DirFS(now), []string{"include", "arch/x86", "net", "fs", "drivers", "kernel", "block", "mm", "security", "sound"})
	qt.Assert(t, qt.IsNil(err))
	f, err := fix.Parse("update", diff)
	qt.Assert(t, qt.IsNil(err))
	for _, d := range f.Files {
		if isHeader(d.Path) && !d.Created && !d.Deleted && !strings.HasPrefix(d.Path, "tools/") {
			out = append(out, d.Path)
		}
	}
	return out
}
