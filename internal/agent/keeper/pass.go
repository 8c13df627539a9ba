// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"slices"
	"time"

	"github.com/tsugi-project/tsugi/internal/process/proc"
)

// bring is one pass over all processes, without those that waits holds back, for
// the targets of some live patches, or for all without ids. What was taken out,
// or replaced, and can be nowhere any more is forgotten. The report is about
// those live patches.
func (k *Keeper) bring(ctx context.Context, began time.Time, w *waits, ids ...string) (*Report, error) {
	patches, want, broken := k.load()
	if patches == nil {
		return nil, broken
	}
	if err := k.keep(patches); err != nil {
		return nil, err
	}
	about := func(id string) bool { return len(ids) == 0 || slices.Contains(ids, id) }
	if len(ids) > 0 {
		broken = nil // they are others
		patches, want = ofTargets(patches, want, ids)
	}
	r := &Report{Patches: []Patch{}}
	ps, err := k.engine.Bring(ctx, w.hold(want, began))
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, err
	}
	w.note(ps, want, k.now(), true)
	for _, p := range ps {
		if about(p.Patch) {
			r.Processes = append(r.Processes, p)
		}
	}
	for _, p := range patches {
		if about(p.ID) {
			r.Patches = append(r.Patches, p)
		}
		if p.inEffect() {
			if err := k.met(p, ps); err != nil {
				return nil, err
			}
			continue
		}
		splices, err := k.dir.files(p)
		if err != nil {
			continue // nobody knows whether a process has it
		}
		builds := map[string]bool{}
		for _, s := range splices {
			builds[s.BuildID] = true
		}
		if !slices.ContainsFunc(ps, func(x Process) bool { return mayHave(p, builds, want, x) }) {
			if err := k.dir.drop(p.ID); err != nil {
				return nil, err
			}
		}
	}
	return k.sum(r, began), broken
}

// ofTargets are the live patches and wants of the targets of some live patches.
func ofTargets(patches []Patch, want []Want, ids []string) ([]Patch, []Want) {
	targets, of := map[string]bool{}, map[string]string{}
	for _, p := range patches {
		of[p.ID] = p.Target
		if slices.Contains(ids, p.ID) {
			targets[p.Target] = true
		}
	}
	patches = slices.DeleteFunc(slices.Clone(patches), func(p Patch) bool { return !targets[p.Target] })
	want = slices.DeleteFunc(slices.Clone(want), func(w Want) bool { return !targets[of[w.Patch]] })
	return patches, want
}

// mayHave reports whether a process may still have a live patch that is out or
// replaced, of files with some build-ids.
func mayHave(p Patch, builds map[string]bool, want []Want, x Process) bool {
	switch x.Standing {
	case Pending, Unprotected:
		return builds[x.BuildID]
	case Unknown:
		// Nobody has seen which files it maps.
		never := slices.Contains(p.Strangers, x.id()) || p.Only != nil && !slices.Contains(p.Only, x.id())
		return !(x.stranger() && never) && slices.ContainsFunc(want, func(w Want) bool {
			return w.Patch == x.Patch && slices.ContainsFunc(w.builds(), func(b string) bool { return builds[b] })
		})
	}
	return false
}

func (w Want) builds() (ids []string) {
	for _, f := range w.Files {
		ids = append(ids, f.BuildID)
	}
	return ids
}

// stranger reports whether a process may not be looked into at all, so that no
// live patch comes into it: not one that gives no answer now.
func (p Process) stranger() bool {
	return p.Standing == Unknown && p.Problem != nil && p.Problem.Code == "TS9607"
}

// met writes down which processes a live patch could not come into, after its
// first pass. Who can't be looked into later on may have it.
func (k *Keeper) met(p Patch, ps []Process) error {
	if p.Met {
		return nil
	}
	p.Met, p.Strangers = true, nil
	seen := map[proc.ID]bool{}
	for _, x := range ps {
		if x.Patch == p.ID && x.stranger() && !seen[x.id()] {
			p.Strangers = append(p.Strangers, x.id())
			seen[x.id()] = true
		}
	}
	return k.dir.put(p, nil)
}

// meet has a live patch that is kept anew remember what was met before. When it is
// for more than some processes now, others are met.
func (p *Patch) meet(all []Patch) {
	for _, old := range all {
		if old.ID == p.ID && (old.Only == nil || p.Only != nil) {
			p.Met, p.Strangers = old.Met, old.Strangers
		}
	}
}
