// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"errors"
	"slices"
)

// Give keeps a live patch from now on, as Apply does, for all processes: Run
// brings them to it. One that is there already stays as it is. back allows it to
// take the place of a newer version, as a signed recall demands.
func (k *Keeper) Give(ctx context.Context, file []byte, back bool) (Patch, error) {
	p, splices, err := k.read(file)
	if err != nil {
		return Patch{}, err
	}
	p.Given = true
	unlock, err := k.turn(ctx, wishName)
	if err != nil {
		return Patch{}, err
	}
	defer unlock()
	all, err := k.dir.list()
	if err != nil {
		return Patch{}, err
	}
	others := all
	if back {
		others = slices.DeleteFunc(slices.Clone(all), func(o Patch) bool { return o.Target == p.Target && o.ID != p.ID })
	}
	if err := k.mayApply(others, p, splices); err != nil {
		return Patch{}, err
	}
	for _, o := range all {
		switch {
		case o.ID != p.ID:
		case o.inEffect() && o.Only == nil:
			p.Applied = o.Applied
		default:
			p.Applied = max(p.Applied, o.Applied+1) // told from the time before
		}
	}
	p.meet(all)
	if err := k.dir.put(p, file); err != nil {
		return Patch{}, err
	}
	for _, o := range all {
		if o.Target != p.Target || o.ID == p.ID || o.By != "" {
			continue
		}
		o.By, o.Out = p.ID, false
		if err := k.dir.put(o, nil); err != nil {
			// Two of one package would be in each other's way.
			return Patch{}, errors.Join(err, k.dir.drop(p.ID))
		}
	}
	return p, nil
}

// TakeBack has Run take a live patch out of all processes. One that is not there
// is no error.
func (k *Keeper) TakeBack(ctx context.Context, id string) error {
	unlock, err := k.turn(ctx, revertName)
	if err != nil {
		return err
	}
	defer unlock()
	all, err := k.dir.list()
	if err != nil {
		return err
	}
	if err := k.keep(all); err != nil {
		return err
	}
	for _, p := range all {
		if p.ID != id || !p.inEffect() {
			continue
		}
		p.Out = true
		if err := k.dir.put(p, nil); err != nil {
			return err
		}
	}
	return nil
}

// Kept are the live patches that are in effect.
func (k *Keeper) Kept() ([]Patch, error) {
	all, err := k.dir.list()
	return slices.DeleteFunc(all, func(p Patch) bool { return !p.inEffect() }), err
}

// inEffect: it is neither taken out nor replaced.
func (p Patch) inEffect() bool { return !p.Out && p.By == "" }
