// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/splice"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// patience is how long a change waits for another one.
const patience = 30 * time.Second

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

// Apply keeps a live patch from now on, and brings all processes to it. It
// replaces an older version for the same target, and refuses to go back to
// one.
func (k *Keeper) Apply(ctx context.Context, file []byte) (*Report, error) {
	began := k.now()
	l, splices, err := Open(file)
	if err != nil {
		return nil, err
	}
	m := &l.Manifest
	p := Patch{
		ID: trust.PatchID(m.Target.Name, m.Version), Target: m.Target.Name, Version: m.Version,
		Digest: digest(file), CVEs: m.CVEs(), Applied: began.UnixMilli(),
	}
	for _, f := range m.Fixes {
		p.Fixes = append(p.Fixes, f.ID)
	}
	for _, s := range splices {
		p.Files = append(p.Files, s.Name)
	}
	unlock, err := k.dir.lock(patience)
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
	if err := k.dir.put(p, file); err != nil {
		return nil, err
	}
	for _, old := range all {
		if old.Target == p.Target && old.ID != p.ID && old.By == "" {
			old.By, old.Out = p.ID, false
			if err := k.dir.put(old, nil); err != nil {
				return nil, err
			}
		}
	}
	return k.bring(ctx, began, p.ID)
}

// mayApply refuses what would go back, and two live patches for one file.
func (k *Keeper) mayApply(all []Patch, p Patch, splices []*splice.File) error {
	for _, old := range all {
		if old.Target == p.Target {
			switch {
			case old.Version > p.Version && !old.Out:
				return code.New("TS9423", p.ID, fmt.Sprintf("it is version %d, this machine has version %d", p.Version, old.Version))
			case old.Version == p.Version && old.Digest != p.Digest:
				return code.New("TS9663", p.ID, "another file of this version was applied: build it with a higher one")
			}
			continue
		}
		if old.Out || old.By != "" {
			continue
		}
		_, theirs, err := k.dir.read(old)
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

// Revert takes a live patch, named by its id or its target, out of all
// processes, and new ones don't get it.
func (k *Keeper) Revert(ctx context.Context, id string) (*Report, error) {
	began := k.now()
	unlock, err := k.dir.lock(patience)
	if err != nil {
		return nil, err
	}
	defer unlock()
	all, err := k.dir.list()
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(p Patch) bool { return p.By == "" && (p.ID == id || p.Target == id) })
	if i < 0 {
		return nil, code.New("TS9664", id, "")
	}
	p := all[i]
	p.Out = true
	if err := k.dir.put(p, nil); err != nil {
		return nil, err
	}
	return k.bring(ctx, began, p.ID)
}

// bring is one pass over all processes. What was taken out, or replaced, and is
// nowhere any more is forgotten. The report is about one live patch, or about
// all with "".
func (k *Keeper) bring(ctx context.Context, began time.Time, id string) (*Report, error) {
	patches, want, err := k.load()
	if err != nil {
		return nil, err
	}
	r := &Report{Patches: []Patch{}}
	ps, err := k.engine.Bring(ctx, want)
	if err != nil {
		return nil, err
	}
	unclear := map[string]bool{} // files of which a process may have another version
	for _, p := range ps {
		if p.Standing == Pending || p.Standing == Unprotected {
			unclear[p.BuildID] = true
		}
		if id == "" || p.Patch == id {
			r.Processes = append(r.Processes, p)
		}
	}
	for _, p := range patches {
		if id == "" || p.ID == id {
			r.Patches = append(r.Patches, p)
		}
		if !p.Out && p.By == "" {
			continue
		}
		_, splices, err := k.dir.read(p)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(splices, func(s *splice.File) bool { return unclear[s.BuildID] }) {
			if err := k.dir.drop(p.ID); err != nil {
				return nil, err
			}
		}
	}
	return k.sum(r, began), nil
}

func digest(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}
