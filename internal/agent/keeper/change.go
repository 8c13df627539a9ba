// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/process/proc"
	"github.com/tsugi-project/tsugi/internal/splice"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// Open reads a live patch of libraries or programs, and what it puts into
// processes.
func Open(file []byte) (*livepatch.Patch, []*splice.File, error) {
	p, err := livepatch.Read(file)
	if err != nil {
		return nil, nil, err
	}
	var all []*splice.File
	for _, f := range p.Manifest.Files {
		b, ok := p.Splice(f)
		if !ok {
			return nil, nil, code.New("TS7002", f.Name, "")
		}
		s, err := splice.Decode(b)
		if err != nil {
			return nil, nil, err
		}
		if s.BuildID != f.BuildID {
			return nil, nil, code.New("TS7003", f.Name, "it is for a file with build-id "+s.BuildID+", the manifest says "+f.BuildID)
		}
		all = append(all, s)
	}
	return p, all, nil
}

// Apply keeps a live patch from now on, and brings all processes to it, or
// those of only, whose number is not empty. It replaces an older version for
// the same target, in all of them or in those, and refuses to go back to one.
func (k *Keeper) Apply(ctx context.Context, file []byte, only ...proc.ID) (*Report, error) {
	began := k.now()
	p, splices, err := k.read(file)
	if err != nil {
		return nil, err
	}
	unlock, err := k.turn(ctx, wishName)
	if err != nil {
		return nil, err
	}
	defer unlock()
	all, err := k.dir.list()
	if err != nil {
		return nil, err
	}
	if err := k.mayApply(all, p, splices); err != nil {
		return nil, err
	}
	if len(only) > 0 {
		if _, err := k.plan(ctx, p, splices, only); err != nil {
			return nil, err
		}
		p.Only = scope(all, p, only)
	}
	p.meet(all)
	if err := k.dir.put(p, file); err != nil {
		return nil, err
	}
	for _, old := range all {
		if old.Target == p.Target && old.ID != p.ID && old.By == "" && p.Only == nil {
			old.By, old.Out = p.ID, false
			if err := k.dir.put(old, nil); err != nil {
				return nil, err
			}
		}
	}
	ctx, stop := k.yielding(ctx, revertName)
	defer stop()
	r, err := k.bring(ctx, began, nil, p.ID)
	if errors.Is(context.Cause(ctx), errYielded) && err != nil {
		err = code.New("TS9662", p.ID, "a revert came first: tsugi status --processes says what has become of it")
	}
	return r, err
}

// Plan says which processes Apply would change, and changes nothing. Without
// only it is about all.
func (k *Keeper) Plan(ctx context.Context, file []byte, only ...proc.ID) (*Report, error) {
	began := k.now()
	p, splices, err := k.read(file)
	if err != nil {
		return nil, err
	}
	all, err := k.dir.list()
	if err != nil {
		return nil, err
	}
	if err := k.mayApply(all, p, splices); err != nil {
		return nil, err
	}
	p.Applied = 0 // it is not
	r := &Report{Patches: []Patch{p}}
	if r.Processes, err = k.plan(ctx, p, splices, only); err != nil {
		return nil, err
	}
	return k.sum(r, began), nil
}

// plan looks how processes stand to a live patch. Each of only has to map one of
// its files.
func (k *Keeper) plan(ctx context.Context, p Patch, splices []*splice.File, only []proc.ID) ([]Process, error) {
	w := Want{Patch: p.ID, Files: splices}
	if len(only) > 0 {
		w.Only = only
	}
	ps, _, err := k.engine.Look(ctx, []Want{w})
	if err != nil {
		return nil, err
	}
	ps = slices.DeleteFunc(ps, func(p Process) bool { return !w.covers(p.id()) })
	for _, id := range only {
		if !slices.ContainsFunc(ps, func(p Process) bool { return p.id() == id }) {
			return nil, code.New("TS9666", id.String(), "it maps none of "+strings.Join(p.Files, ", ")+" of "+p.Target)
		}
	}
	for i := range ps {
		if ps[i].Problem != nil && ps[i].Problem.Code == "TS9665" {
			ps[i].Standing, ps[i].Problem = Ready, nil
		}
	}
	return ps, nil
}

// scope is what a live patch is for that is applied to some processes: what it
// was for, and those.
func scope(all []Patch, p Patch, only []proc.ID) []proc.ID {
	for _, old := range all {
		if old.ID != p.ID || old.Out || old.By != "" {
			continue
		}
		if old.Only == nil {
			return nil
		}
		for _, id := range old.Only {
			if !slices.Contains(only, id) {
				only = append(only, id)
			}
		}
	}
	return only
}

// read reads a live patch that is to be applied.
func (k *Keeper) read(file []byte) (Patch, []*splice.File, error) {
	l, splices, err := Open(file)
	if err != nil {
		return Patch{}, nil, err
	}
	m := &l.Manifest
	p := Patch{
		ID: trust.PatchID(m.Target.Name, m.Version), Target: m.Target.Name, Version: m.Version,
		Digest: digest(file), CVEs: m.CVEs(), Applied: k.now().UnixMilli(),
	}
	for _, f := range m.Fixes {
		p.Fixes = append(p.Fixes, f.ID)
	}
	for _, s := range splices {
		p.Files = append(p.Files, s.Name)
		p.BuildIDs = append(p.BuildIDs, s.BuildID)
	}
	return p, splices, nil
}

// mayApply refuses what would go back, and two live patches for one file.
func (k *Keeper) mayApply(all []Patch, p Patch, splices []*splice.File) error {
	for _, old := range all {
		if old.Target == p.Target {
			switch {
			case old.Version > p.Version && old.inEffect():
				return code.New("TS9423", p.ID, fmt.Sprintf("it is version %d, this machine has version %d", p.Version, old.Version))
			case old.Version == p.Version && old.Digest != p.Digest:
				return code.New("TS9663", p.ID, "another file of this version was applied: build it with a higher one")
			}
			continue
		}
		if old.Out || old.By != "" {
			continue
		}
		theirs, err := k.dir.files(old)
		if err != nil {
			return err
		}
		for _, s := range splices {
			if slices.ContainsFunc(theirs, func(o *splice.File) bool { return o.BuildID == s.BuildID }) {
				return code.New("TS9663", p.ID, "for "+s.Name+" there is "+old.ID+" already: take that out, or build one live patch of both")
			}
		}
	}
	return nil
}

// Revert takes a live patch, named by its id, or all of a target out of all
// processes, and new ones don't get it. Where an older version is kept, as the
// newer one was applied to some processes only, they go back to that.
func (k *Keeper) Revert(ctx context.Context, id string) (*Report, error) {
	began := k.now()
	unlock, err := k.turn(ctx, revertName)
	if err != nil {
		return nil, err
	}
	defer unlock()
	all, err := k.dir.list()
	if err != nil {
		return nil, err
	}
	var ids []string
	if err := k.keep(all); err != nil {
		return nil, err
	}
	for _, p := range all {
		if p.By == "" && (p.ID == id || p.Target == id) {
			p.Out = true
			if err := k.dir.put(p, nil); err != nil {
				return nil, err
			}
			ids = append(ids, p.ID)
		}
	}
	if len(ids) == 0 {
		return nil, code.New("TS9664", id, "")
	}
	return k.bring(ctx, began, nil, ids...)
}

// keep writes down what of the records follows from others: it must hold when
// those are gone.
func (k *Keeper) keep(all []Patch) error {
	for _, p := range all {
		if p.unwritten {
			if err := k.dir.put(p, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

func digest(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}
