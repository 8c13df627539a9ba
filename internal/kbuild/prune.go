// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
)

// some prunes the candidates; with few, part after part of them until that
// many were found.
func (s *search) some(ctx context.Context, files []FileOutcome, few int) (Rest, error) {
	if few == 0 || len(s.candidates) <= few {
		return Rest{}, s.prune(ctx, files)
	}
	all := s.candidates
	known := make(map[Object]bool)
	for _, cand := range all {
		_, err := os.Stat(filepath.Join(filepath.Dir(s.m.dir), strings.ReplaceAll(cand.Path, "..", "__"), "cmd"))
		known[cand.Object] = err == nil
	}
	rank := func(c candidate) int {
		n := 0
		if c.Module != "" {
			n += 2
		}
		if !known[c.Object] {
			n++
		}
		return n
	}
	slices.SortStableFunc(all, func(a, b candidate) int { return cmp.Compare(rank(a), rank(b)) })
	enough := len(s.objects) + few
	asked := 0
	for len(s.objects) < enough && asked < len(all) && asked < few*textsPerFew {
		n := min(max(few, asked), len(all)-asked)
		s.candidates = all[asked : asked+n]
		if err := s.prune(ctx, files); err != nil {
			return Rest{}, err
		}
		asked += n
	}
	return Rest{
		Any:    asked < len(all),
		Kernel: slices.ContainsFunc(all[asked:], func(c candidate) bool { return c.Module == "" && !s.seen[c.Object] }),
	}, nil
}

// settle says what became of the files that candidates include.
func (s *search) settle(files []FileOutcome, rest Rest) {
	for i := range files {
		f := &files[i]
		switch {
		case f.Outcome != Ignored || f.Why != "":
		case rest.Any:
			f.Outcome, f.Why = Built, "not all objects that include it were looked at"
		default:
			f.Outcome, f.Why = NoEffect, fmt.Sprintf("%d objects include it, none sees a difference", f.Pruned)
		}
	}
}

// prune preprocesses the candidates before and after the fix and keeps those
// whose text differs where it matters. An object that fails to preprocess is
// kept: compiling it gives the better message.
func (s *search) prune(ctx context.Context, files []FileOutcome) (err error) {
	c, err := newCompilation(s.m.t, s.changes, Options{Jobs: runtime.NumCPU()})
	if err != nil {
		return err
	}
	if c.enc, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(c.opt.Jobs)); err != nil {
		return err
	}
	defer c.enc.Close()
	if c.dec, err = zstd.NewReader(nil, zstd.WithDecoderMaxMemory(256<<20), zstd.WithDecoderConcurrency(c.opt.Jobs)); err != nil {
		return err
	}
	defer c.dec.Close()
	var ask []candidate
	keep := make([]bool, len(s.candidates))
	for i, cand := range s.candidates {
		if s.seen[cand.Object] { // compiled anyway
			keep[i] = true
		} else {
			ask = append(ask, cand)
		}
	}
	failed, err := c.preprocessCommands(ctx, ask, s.rep)
	if err != nil {
		return err
	}
	// Some need headers that kbuild generates for the object only.
	if err := c.plain(ctx, failed, s.rep); err != nil {
		return err
	}
	if err := s.compareTexts(ctx, c, keep); err != nil {
		return err
	}
	for i, cand := range s.candidates {
		if !keep[i] {
			continue
		}
		if isAssembly(cand.Object) {
			return code.New("TS3104", cand.Source, "it includes "+files[cand.by[0]].Path+", whose change it sees")
		}
		for _, n := range cand.by {
			files[n].Pruned--
			s.add([]Object{cand.Object}, &files[n])
		}
	}
	return nil
}

// compareTexts sets keep for the candidates that see a difference.
func (s *search) compareTexts(ctx context.Context, c *compilation, keep []bool) (err error) {
	var ask []int
	first := make(map[string]int) // of modules that share an object
	for i, cand := range s.candidates {
		if keep[i] {
			continue
		}
		if _, ok := first[cand.Path]; ok {
			continue
		}
		first[cand.Path] = i
		same, known, err := c.answered(ctx, cand.Object)
		if err != nil {
			return err
		}
		if keep[i] = known && !same; !known {
			ask = append(ask, i)
		}
	}
	defer func() {
		for i, cand := range s.candidates {
			if k, ok := first[cand.Path]; ok {
				keep[i] = keep[i] || keep[k]
			}
		}
	}()
	if len(ask) == 0 {
		return nil
	}
	w, err := lease(ctx, s.m.t)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	if err := w.apply(c.changes); err != nil {
		return err
	}
	task := s.rep.Start("compare preprocessed", int64(len(ask)), progress.Files)
	defer func() { task.Done(err) }()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(c.opt.Jobs)
	for _, i := range ask {
		g.Go(func() error {
			defer task.Add(1)
			same, err := c.preprocessesSame(gctx, s.candidates[i].Object, w)
			keep[i] = !same
			return err
		})
	}
	return kernel.OrInterrupted(ctx, g.Wait())
}

// preprocessCommands has kbuild preprocess the objects whose command is not
// known yet, for the command that it records. It returns those that kbuild
// cannot preprocess.
func (c *compilation) preprocessCommands(ctx context.Context, cands []candidate, rep progress.Reporter) (failed []Object, err error) {
	missing := c.withoutPreprocessor(cands)
	if len(missing) == 0 {
		return nil, nil // without a wait for another program that makes its own
	}
	unlock, err := kernel.Lock(ctx, filepath.Join(c.t.Home(), "locks", "build-"+filepath.Base(c.dir)), "build directory", true)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if missing = c.withoutPreprocessor(missing); len(missing) == 0 {
		return nil, nil
	}
	task := rep.Start("record commands", int64(len(missing)), progress.Files)
	defer func() { task.Done(err) }()
	const batch = 64 // each file has some megabytes until it is removed
	for len(missing) > 0 {
		n := min(batch, len(missing))
		args := []string{fmt.Sprintf("-j%d", c.opt.Jobs), "-k", "KCFLAGS=-g0"}
		for _, m := range missing[:n] {
			args = append(args, preprocessed(m.Object))
		}
		_, makeErr := c.t.Make(ctx, args...)
		if _, ok := errors.AsType[*kernel.ExitError](makeErr); makeErr != nil && !ok {
			return nil, makeErr
		}
		for _, m := range missing[:n] {
			if err := c.keepCommand(m.Object); makeErr != nil && err != nil {
				failed = append(failed, m.Object)
			} else if err != nil {
				return nil, err
			}
			task.Add(1)
		}
		missing = missing[n:]
	}
	return failed, nil
}

// withoutPreprocessor lists the candidates whose preprocessor's command is not
// known, each object once: modules may share it.
func (c *compilation) withoutPreprocessor(cands []candidate) []candidate {
	var missing []candidate
	seen := make(map[string]bool)
	for _, cand := range cands {
		if seen[cand.Path] {
			continue
		}
		seen[cand.Path] = true
		if _, err := c.preprocessor(cand.Object); err != nil {
			missing = append(missing, cand)
		}
	}
	return missing
}

// preprocessed is what make calls the preprocessed source of an object.
func preprocessed(o Object) string {
	if isAssembly(o) {
		return strings.TrimSuffix(o.Path, ".o") + ".s"
	}
	return strings.TrimSuffix(o.Path, ".o") + ".i"
}

func isAssembly(o Object) bool { return strings.HasSuffix(o.Source, ".S") }

func (c *compilation) keepCommand(o Object) error {
	made := filepath.Join(c.t.Build, preprocessed(o))
	dir, base := filepath.Split(made)
	cmd, err := os.ReadFile(dir + "." + base + ".cmd")
	if err != nil {
		return code.New("TS3108", o.Path, "").With(err)
	}
	if err := errors.Join(os.Remove(made), os.Remove(dir+"."+base+".cmd")); err != nil {
		return err
	}
	if _, err := parseCmd(cmd, preprocessed(o)); err != nil {
		return code.New("TS3108", o.Path, "").With(err)
	}
	if err := os.MkdirAll(c.file(o, ""), 0o755); err != nil {
		return kernel.DiskError(c.dir, err)
	}
	return kernel.DiskError(c.dir, renameio.WriteFile(c.file(o, "icmd"), cmd, 0o644))
}

// preprocessor is the command that preprocesses an object's source, from that
// of a .i file or of the object itself.
func (c *compilation) preprocessor(o Object) (*recorded, error) {
	if r, err := c.recorded(o); err == nil {
		return r, nil
	}
	b, err := os.ReadFile(c.file(o, "icmd"))
	if err != nil {
		return nil, err
	}
	return parseCmd(b, preprocessed(o))
}

// answered looks for the answer of an earlier preprocessesSame.
func (c *compilation) answered(ctx context.Context, o Object) (same, known bool, err error) {
	name, err := c.lookup(ctx, o, answerEntry)
	if err != nil || name == "" {
		return false, false, err
	}
	if name == unchanged {
		return true, true, nil
	}
	b, err := os.ReadFile(c.file(o, name))
	return string(b) == "yes", err == nil, nil
}

// preprocessesSame tells whether the fix can make no difference to an object.
// The answer is kept under what the preprocessor read, and the original text
// for other fixes.
func (c *compilation) preprocessesSame(ctx context.Context, o Object, w *workspace) (bool, error) {
	orig, err := c.originalText(ctx, o)
	if err != nil {
		return false, err
	}
	patched, reads, err := c.preprocess(ctx, o, w)
	if err != nil || orig == nil || patched == nil {
		return false, err
	}
	// In assembly nothing tells a declaration that has no effect.
	same := isAssembly(o) && slices.Equal(items(orig), items(patched)) || !isAssembly(o) && !differ(orig, patched)
	text := "no"
	if same {
		text = "yes"
	}
	_, err = c.keep(o, answerEntry, reads, func(name string) error {
		return renameio.WriteFile(c.file(o, name), []byte(text), 0o644)
	})
	return same, err
}

// originalText is the preprocessed source of an object, from the cache if it
// was asked for before.
func (c *compilation) originalText(ctx context.Context, o Object) ([]byte, error) {
	file := c.file(o, "orig.i.zst")
	if b, err := os.ReadFile(file); err == nil {
		if text, err := c.dec.DecodeAll(b, nil); err == nil {
			used(file)
			return text, nil
		}
	}
	text, _, err := c.preprocess(ctx, o, nil)
	if err != nil || text == nil {
		return nil, err
	}
	b := c.enc.EncodeAll(text, nil)
	return text, kernel.DiskError(file, renameio.WriteFile(file, b, 0o644))
}

// preprocess returns an object's preprocessed source and the files that it is
// of, or nil when the compiler refuses it.
func (c *compilation) preprocess(ctx context.Context, o Object, w *workspace) (text []byte, reads []string, err error) {
	r, err := c.preprocessor(o)
	if err != nil {
		return nil, nil, err
	}
	rule, err := os.CreateTemp(c.file(o, ""), ".tmp-*")
	if err != nil {
		return nil, nil, kernel.DiskError(c.dir, err)
	}
	defer os.Remove(rule.Name())
	if err := rule.Close(); err != nil {
		return nil, nil, err
	}
	p := c.paths(o, w)
	p.preprocessOnly, p.out, p.dependencies = true, "-", rule.Name()
	args := r.compiler(p)
	text, err = kernel.Command{Dir: c.cwd(w), Name: args[0], Args: args[1:]}.Run(ctx)
	if _, ok := errors.AsType[*kernel.ExitError](err); ok {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	reads, err = c.ruleReads(rule.Name(), w)
	return text, reads, err
}
