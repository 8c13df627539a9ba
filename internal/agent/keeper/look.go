// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"cmp"
	"context"
	"slices"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/order"
	"github.com/tsugi-project/tsugi/internal/process"
	"github.com/tsugi-project/tsugi/internal/process/proc"
)

// Look says how processes stand by what is in them.
func (h Host) Look(ctx context.Context, want []Want) ([]Process, []Outdated, error) {
	ids, err := proc.List(ctx)
	if err != nil {
		return nil, nil, err
	}
	var out []Process
	for _, w := range want {
		found, err := find(ctx, w.Files, ids)
		if err != nil {
			return nil, nil, err
		}
		for _, f := range found {
			if f.Problem != nil && !w.covers(f.ID) {
				continue
			}
			if f.Problem != nil {
				out = append(out, row(w, nil, f.ID, Unknown, f.Problem))
				continue
			}
			rs, err := h.look(ctx, w, f)
			if err != nil {
				return nil, nil, err
			}
			out = append(out, rs...)
		}
	}
	names(ctx, out)
	outdated, err := h.outdated(ctx, ids)
	return out, outdated, err
}

// look tells how one process stands to w.
func (h Host) look(ctx context.Context, w Want, f proc.Finding) ([]Process, error) {
	p, err := proc.OpenID(ctx, f.ID)
	if err != nil {
		return nil, ctx.Err() // it has ended
	}
	defer p.Close()
	there, err := h.Engine.State(ctx, p)
	if proc.Gone(err) {
		return nil, ctx.Err()
	}
	var out []Process
	for _, file := range w.Files {
		if !slices.Contains(f.BuildIDs, file.BuildID) {
			continue
		}
		has := slices.ContainsFunc(there, func(i process.Installed) bool {
			return i.BuildID == file.BuildID && i.Patch == w.Patch && i.State == process.InEffect
		})
		switch {
		case !has && !w.covers(f.ID): // what it has is not this one's business
		case err != nil:
			out = append(out, row(w, file, f.ID, Unprotected, problemOf(err)))
		case w.Out && !has:
		case w.Out:
			out = append(out, row(w, file, f.ID, Pending, code.New("TS9665", "", "it still has what is to be taken out")))
		case has:
			out = append(out, row(w, file, f.ID, Protected, nil))
		default:
			why := p.Obstacle(ctx)
			if why == nil {
				why = code.New("TS9665", "", "")
			}
			out = append(out, row(w, file, f.ID, Pending, why))
		}
	}
	return out, ctx.Err()
}

// outdated finds the processes that run with files that have been replaced.
func (h Host) outdated(ctx context.Context, ids []proc.ID) ([]Outdated, error) {
	var out []Outdated
	for _, id := range ids {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if o, ok := outdated(ctx, id); ok {
			out = append(out, o)
		}
	}
	return out, nil
}

// outdated is for people: a process that can't be read is left out.
func outdated(ctx context.Context, id proc.ID) (Outdated, bool) {
	p, err := proc.OpenID(ctx, id)
	if err != nil {
		return Outdated{}, false
	}
	defer p.Close()
	maps, err := p.Mappings(ctx)
	// Nearly all processes are told by this alone, and cost no look at files.
	if err != nil || !slices.ContainsFunc(maps, func(m proc.Mapping) bool { return m.Deleted && m.Exec }) {
		return Outdated{}, false
	}
	objects, err := p.ObjectsIn(ctx, maps)
	if err != nil {
		return Outdated{}, false
	}
	gone, err := p.Outdated(ctx, objects)
	if err != nil || len(gone) == 0 {
		return Outdated{}, false
	}
	o := Outdated{PID: id.PID}
	if s, err := p.Status(ctx); err == nil {
		o.Name = s.Name
	}
	order.Sort(gone, func(x, y proc.Replaced) int { return cmp.Compare(x.Object.Path, y.Object.Path) })
	for _, g := range gone {
		o.Files = append(o.Files, g.Object.Path)
		o.builds = append(o.builds, g.Object.BuildID)
	}
	return o, true
}
