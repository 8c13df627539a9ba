// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Finding is what a look at one process has brought.
type Finding struct {
	ID ID
	// Program tells one program's run of the process from the next one, which
	// an execve begins. 0 where it can't be told.
	Program uint64
	UID     uint32 // who owns it: its effective user, or root where it can't be traced by that one
	// BuildIDs are those wanted ones of which the process runs code, in order.
	BuildIDs []string
	// Static: the program is linked statically and is none of the wanted; what
	// it has of libraries can't be told. Problem is TS9608 then.
	Static bool
	// Problem is why the process could not be looked into.
	Problem *code.Problem
}

// FindOptions change how Find looks.
type FindOptions struct {
	// Workers is how many processes are looked at together; 0 is one for each
	// processor.
	Workers int
	// Text uses the text of /proc/PID/maps and the memory, as on kernels before
	// 6.11, in place of the kernel's own answer.
	Text bool
	// Each is how long one process may take; 0 is Limit.
	Each time.Duration
}

// Find looks which of the processes run code of an ELF file whose build-id is
// wanted, in all containers, whatever the file is called and whether it is
// still on the disk. Processes without one are left out of the answer, and
// those that have ended. It is quick, and a first look: [Process.Objects] says
// where in the process the file lies, by the process's own memory.
func Find(ctx context.Context, ids []ID, wanted func(buildID string) bool, opt FindOptions) ([]Finding, error) {
	workers := opt.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	found := make([]Finding, len(ids))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(workers, len(ids)) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(ids) || ctx.Err() != nil {
					return
				}
				found[i] = look(ctx, ids[i], wanted, opt)
			}
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(found, func(f Finding) bool {
		return len(f.BuildIDs) == 0 && !f.Static && (f.Problem == nil || Gone(f.Problem))
	}), nil
}

// Look is Find for one process that is held already.
func (p *Process) Look(ctx context.Context, wanted func(buildID string) bool, opt FindOptions) (Finding, error) {
	f := Finding{ID: p.id, UID: p.uid}
	s, err := p.sight(ctx)
	if err != nil {
		return f, err
	}
	f.Program = s.image.sum()
	if !opt.Text {
		answer, sure, err := p.ask(ctx, s, wanted)
		switch {
		case err == nil && sure:
			f.BuildIDs = answer
			return f, nil
		case err != nil && !errors.Is(err, errNoQuery):
			return f, p.looked(err, false)
		}
	}
	objects, err := p.Objects(ctx)
	if err != nil {
		return f, err
	}
	for _, o := range objects {
		if o.BuildID != "" && wanted(o.BuildID) {
			f.BuildIDs = append(f.BuildIDs, o.BuildID)
		}
	}
	slices.Sort(f.BuildIDs)
	f.BuildIDs = slices.Compact(f.BuildIDs)
	if f.Static = Static(objects) && len(f.BuildIDs) == 0; f.Static {
		f.Problem = code.New("TS9608", p.id.String(), objects[0].Path)
	}
	return f, nil
}

// ask lets the kernel name the build-ids. The answer is sure when it has named
// one for each file, and the program is not alone: that one may be static.
func (p *Process) ask(ctx context.Context, s *sight, wanted func(string) bool) ([]string, bool, error) {
	type named struct {
		ids     []string
		files   int
		unnamed bool
	}
	a, err := within(ctx, p.id, p.uid, func() (a named, err error) {
		var last Mapping
		err = executables(s.maps, func(m Mapping, id string) bool {
			if a.files == 0 || m.Dev != last.Dev || m.Inode != last.Inode {
				a.files++
			}
			last = m
			switch {
			case id == "":
				a.unnamed = true
			case !slices.Contains(a.ids, id):
				a.ids = append(a.ids, id)
			}
			return a.files <= maxObjects
		})
		return a, err
	})
	if err != nil {
		return nil, false, err
	}
	ids := slices.DeleteFunc(a.ids, func(id string) bool { return !wanted(id) })
	slices.Sort(ids)
	return ids, !a.unnamed && (len(ids) > 0 || a.files > 1), nil
}

func look(ctx context.Context, id ID, wanted func(string) bool, opt FindOptions) Finding {
	if opt.Each > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, opt.Each)
		defer cancel()
	}
	p, err := OpenID(ctx, id)
	if err != nil {
		return Finding{ID: id, Problem: problem(id, err)}
	}
	defer p.Close()
	f, err := p.Look(ctx, wanted, opt)
	if err != nil {
		if code.Of(err) == "TS9603" {
			return Finding{ID: id} // it can't run code of a 64-bit file
		}
		f.Problem = problem(id, err)
	}
	return f
}

// problem is err, as one if it is not.
func problem(id ID, err error) *code.Problem {
	if p, ok := errors.AsType[*code.Problem](err); ok {
		return p
	}
	return code.New("TS9604", id.String(), "").With(err)
}

// Static tells whether objects are those of a program that is linked
// statically: it is alone, and asks for no loader.
func Static(objects []Object) bool {
	return len(objects) == 1 && !objects[0].Interp
}
