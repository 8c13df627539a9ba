// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/order"
)

// install puts the wanted modules of a live patch on the disk, takes away what
// is there beside them, and swaps those that may be swapped. A module that
// modprobe would not be led to is left out, with those that share a fix with it.
func (a *Agent) install(ctx context.Context, h *Host, id string, card *Card, have Modules, want map[string]string) error {
	for {
		files, blobs, err := a.material(ctx, h, id, card, want)
		if err != nil {
			return err
		}
		err = a.setModules(ctx, h, have, id, files, blobs)
		if err == nil {
			return a.swapAll(ctx, h, id, card, files)
		}
		u, ok := errors.AsType[*Unfound](err)
		if !ok || !a.blockUnfound(u, files) {
			return err
		}
		s, _ := a.journal.view()
		have = s.Modules[h.Kernel.BuildID]
		want = a.eligible(h, s, card, have)
	}
}

// blockUnfound reports whether it could block one of them.
func (a *Agent) blockUnfound(u *Unfound, files []FixedModule) bool {
	some := false
	for _, f := range files {
		if slices.Contains(u.Files, f.File) {
			p := *u.Problem
			p.Where = f.Name
			a.blockModule(f.Name, f.Digest, &p)
			some = true
		}
	}
	return some
}

// swapAll swaps what may be swapped. If one of a group does not load, what was
// swapped of that group before is swapped back: they are there together or not
// at all.
func (a *Agent) swapAll(ctx context.Context, h *Host, id string, card *Card, files []FixedModule) error {
	s, _ := a.journal.view()
	if !a.maySwap(s) {
		return nil
	}
	done := map[string]bool{}
	for _, f := range files {
		loaded, is := loadedModule(h, f.Name)
		if !is || loaded.BuildID == f.BuildID || a.opts.Modules.InUse(f.Name) != "" {
			continue
		}
		err := a.swap(ctx, h, f.Name, "its fixed build")
		switch {
		case err == nil:
			done[f.Name] = true
			continue
		case ctx.Err() != nil && code.Of(err) == "":
			return err
		}
		a.blockModule(f.Name, f.Digest, problemOf("TS9433", f.Name, err))
		group := groupOf(card, f.Name)
		left := slices.DeleteFunc(slices.Clone(files), func(o FixedModule) bool { return slices.Contains(group, o.Name) })
		// Without the fixed build on the disk the shipped one loads again. Nobody
		// interrupts this: the machine would be left without the module.
		whole := context.WithoutCancel(ctx)
		s, _ := a.journal.view()
		err = errors.Join(err, a.setModules(whole, h, s.Modules[h.Kernel.BuildID], id, left, nil), a.opts.Modules.Restore(whole, f.Name))
		for _, name := range group {
			if done[name] && a.opts.Modules.InUse(name) == "" {
				err = errors.Join(err, a.swap(whole, h, name, "the shipped build again"))
			}
		}
		return err
	}
	if len(done) > 0 {
		_, err := a.host(ctx)
		return err
	}
	return nil
}

// swap unloads a module and loads the one on the disk. That it is about to is
// in the journal first: whatever ends the agent in between, the module is
// loaded again, and a boot that this ends in is remembered.
func (a *Agent) swap(ctx context.Context, h *Host, name, by string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s, _ := a.journal.view()
	m := s.Modules[h.Kernel.BuildID]
	m.Kernel = h.Kernel
	before := m
	m.Swap = &Swap{Module: name, Boot: h.BootID}
	m.Files = slices.Clone(m.Files)
	for i := range m.Files {
		if f := &m.Files[i]; f.Name == name && !f.Sure {
			f.Boot, f.Seen = h.BootID, time.Now().UnixMilli()
		}
	}
	if err := a.journal.add(&Record{Modules: &m}); err != nil {
		return err
	}
	err := a.opts.Modules.Swap(ctx, name)
	switch {
	case err != nil && code.Of(err) == "" && ctx.Err() != nil: // it was not begun
		return errors.Join(err, a.journal.add(&Record{Modules: &before}))
	case err != nil:
		return err // it stays in the journal until the module is loaded again
	}
	m.Swap = nil
	if err := a.journal.add(&Record{Modules: &m}); err != nil {
		return err
	}
	return a.event(h, "module "+name+" was swapped for "+by)
}

// unswapped loads a module again that a swap has left unloaded.
func (a *Agent) unswapped(ctx context.Context, h *Host) error {
	s, _ := a.journal.view()
	m := s.Modules[h.Kernel.BuildID]
	if m.Swap == nil {
		return nil
	}
	if _, is := loadedModule(h, m.Swap.Module); !is && m.Swap.Boot == h.BootID {
		if err := a.opts.Modules.Restore(ctx, m.Swap.Module); err != nil {
			return err
		}
		if err := a.event(h, "module "+m.Swap.Module+" was loaded again after a swap that did not end"); err != nil {
			return err
		}
	}
	m.Swap = nil
	return a.journal.add(&Record{Modules: &m})
}

// material reads the wanted modules out of the live patch, and leaves out what
// this machine would not load: a module that can't be loaded is worse than one
// that has a fault.
func (a *Agent) material(ctx context.Context, h *Host, id string, card *Card, want map[string]string) ([]FixedModule, map[string][]byte, error) {
	if len(want) == 0 {
		return nil, nil, nil
	}
	defer a.large()()
	p, _, err := a.cached(id)
	if err != nil {
		return nil, nil, err
	}
	var files []FixedModule
	blobs := map[string][]byte{}
	for _, group := range groups(card) {
		var part []FixedModule
		fit := true
		for _, r := range group {
			if want[r.Name] == "" {
				fit = false
				break
			}
			f, ko, err := a.prepare(ctx, h, p, r)
			if err != nil {
				a.blockModule(r.Name, r.Module.Digest, problemOf("TS9432", r.Name, err))
				fit = false
				break
			}
			part = append(part, f)
			blobs[f.File] = ko
		}
		if fit {
			files = append(files, part...)
		}
	}
	order.Sort(files, func(x, y FixedModule) int { return strings.Compare(x.Name, y.Name) })
	maps.DeleteFunc(blobs, func(file string, _ []byte) bool {
		return !slices.ContainsFunc(files, func(f FixedModule) bool { return f.File == file })
	})
	return files, blobs, nil
}

func (a *Agent) prepare(ctx context.Context, h *Host, p *livepatch.Patch, r FixedBuild) (FixedModule, []byte, error) {
	ko, ok := p.Payload(r.Module)
	if !ok {
		return FixedModule{}, nil, code.New("TS9431", r.Name, "it is not in the file")
	}
	shipped, err := a.opts.Modules.Shipped(h.Kernel.Release, r.Path)
	if err != nil {
		return FixedModule{}, nil, err
	}
	if problems := a.opts.Modules.Fit(ctx, r.Replacement, ko); len(problems) > 0 {
		return FixedModule{}, nil, refusal(problems)
	}
	return FixedModule{Name: r.Name, File: path.Base(r.Path), Path: r.Path, Digest: r.Module.Digest, BuildID: r.Fixed, Shipped: shipped.Digest}, ko, nil
}

// giveWay are modules whose fixed builds stay out for a live patch that
// changes them in the kernel.
type giveWay struct {
	to      string // id
	modules []string
}

// inTheWay are the modules that a live patch changes in the kernel and of which
// a fixed build of ours is on the disk, or loaded.
func inTheWay(s *State, h *Host, p *livepatch.Patch) (files, loaded []string) {
	have := s.Modules[h.Kernel.BuildID]
	for _, o := range p.Manifest.Objects() {
		if _, is := have.file(o); is {
			files = append(files, o)
		}
		l, is := loadedModule(h, o)
		ours := slices.ContainsFunc(have.Files, func(f FixedModule) bool { return f.BuildID == l.BuildID }) ||
			slices.ContainsFunc(s.Former[h.Kernel.BuildID], func(f FormerModule) bool { return f.BuildID == l.BuildID })
		if is && l.BuildID != "" && ours {
			loaded = append(loaded, o)
		}
	}
	return files, loaded
}

// makeWay takes the fixed modules from the disk that a live patch is about to
// change in the kernel: it knows the functions of the shipped build and where
// they lie, and would meet the fixed one when that loads. One that is loaded
// already is what preflight refuses, until it is unloaded or the next boot has
// loaded the shipped one. Nothing of this is done for a live patch that this
// host could not take anyway. moved tells whether anything was done.
func (a *Agent) makeWay(ctx context.Context, h *Host, p *livepatch.Patch, id string) (now *Host, moved bool, err error) {
	s, _ := a.journal.view()
	files, loaded := inTheWay(s, h, p)
	if a.opts.Modules == nil || len(files)+len(loaded) == 0 {
		return h, false, nil
	}
	a.see(func(m *moment) { m.giveWay = &giveWay{to: id, modules: p.Manifest.Objects()} })
	have := s.Modules[h.Kernel.BuildID]
	if len(files) > 0 {
		left := slices.DeleteFunc(slices.Clone(have.Files), func(f FixedModule) bool { return slices.Contains(files, f.Name) })
		if err := a.setModules(ctx, h, have, have.Patch, left, nil); err != nil {
			return h, true, err
		}
	}
	for _, name := range loaded {
		// The live patch is loaded now because hold and window let it.
		if !a.swapAllowed() || a.opts.Modules.InUse(name) != "" {
			continue
		}
		if err := a.swap(ctx, h, name, "the shipped build"); err != nil {
			return h, true, errors.Join(err, a.unswapped(context.WithoutCancel(ctx), h))
		}
		moved = true
	}
	h, err = a.host(ctx)
	return h, moved || len(files) > 0, err
}

// blockModule keeps a fixed module out until the agent starts again or another
// build of it comes.
func (a *Agent) blockModule(name, digest string, p *code.Problem) {
	a.log.Warn("fixed module", "module", name, "err", p)
	a.see(func(m *moment) {
		if m.blockedModules == nil {
			m.blockedModules = map[string]*code.Problem{}
		}
		m.blockedModules = maps.Clone(m.blockedModules)
		m.blockedModules[name+digest] = p
	})
}

// dropStale takes away what no longer belongs to the kernel's package, and what
// the crash guard or the watch has found bad.
func (a *Agent) dropStale(ctx context.Context, h *Host, have Modules) error {
	s, _ := a.journal.view()
	there, err := a.opts.Modules.There(h.Kernel.Release)
	if err != nil {
		return err
	}
	keep := slices.DeleteFunc(slices.Clone(have.Files), func(f FixedModule) bool {
		_, bad := s.Bad[badKey(f.Name, f.Digest)]
		return bad || there[f.File].Digest != f.Digest || a.stale(h, f)
	})
	if len(keep) == len(have.Files) && !have.Changing {
		return nil
	}
	return a.setModules(ctx, h, have, have.Patch, keep, nil)
}

// setModules journals what shall be there, makes it so, and journals that it
// is. After a loss of power in between the next look finds Changing set and
// does it again.
func (a *Agent) setModules(ctx context.Context, h *Host, have Modules, id string, files []FixedModule, blobs map[string][]byte) error {
	there, err := a.opts.Modules.There(h.Kernel.Release)
	if err != nil {
		return err
	}
	files = carry(have, files)
	if !have.Changing && have.Patch == id && slices.Equal(have.Files, files) && asListed(there, files) {
		return nil
	}
	if len(there) == 0 && len(files) == 0 && len(have.Files) == 0 && !have.Changing {
		return nil
	}
	next := Modules{Kernel: h.Kernel, Patch: id, Changing: true, Files: files, Swap: have.Swap, Boot: have.Boot, Downs: have.Downs}
	if next.open() {
		next.Boot = h.BootID
	}
	if err := a.journal.add(&Record{Modules: &next}); err != nil {
		return err // no intent, no change
	}
	add := map[string][]byte{}
	var keep []string
	for _, f := range files {
		keep = append(keep, f.File)
		if b, ok := blobs[f.File]; ok && there[f.File].Digest != f.Digest {
			add[f.File] = b
		}
	}
	if err := a.opts.Modules.Put(ctx, h.Kernel.Release, add, keep); err != nil {
		return err
	}
	done := next
	done.Changing = false
	if err := a.journal.add(&Record{Modules: &done}); err != nil {
		return err
	}
	a.Kick() // the server hears of it at once
	names := moduleNames(files)
	switch {
	case names == moduleNames(have.Files):
		return nil
	case names == "":
		return a.event(h, "no fixed modules on the disk any more")
	}
	return a.event(h, "fixed modules on the disk: "+names)
}

// carry keeps what is known of files that stay.
func carry(have Modules, files []FixedModule) []FixedModule {
	out := slices.Clone(files)
	for i, f := range out {
		if old, ok := have.file(f.Name); ok && old.Digest == f.Digest {
			out[i].Put, out[i].Boot, out[i].Seen, out[i].Sure = old.Put, old.Boot, old.Seen, old.Sure
		} else {
			out[i].Put = time.Now().UnixMilli()
		}
	}
	return out
}

// asListed: these files are there and no others, and modprobe finds them.
func asListed(there map[string]FileThere, files []FixedModule) bool {
	for _, f := range files {
		if t := there[f.File]; t.Digest != f.Digest || !t.Found {
			return false
		}
	}
	return len(there) == len(files)
}

func moduleNames(files []FixedModule) string {
	var out []string
	for _, f := range files {
		out = append(out, f.Name)
	}
	return strings.Join(out, ", ")
}

// sweep takes away what was put there for kernels that are not installed any
// more, so that nothing of them stays, and for a build of this release that no
// longer runs: its modules are not for this one. From a kernel of which one was
// found bad all are taken: it would take the next boot of that kernel down
// before the agent runs there, and which of them go together is known there.
func (a *Agent) sweep(ctx context.Context, h *Host, s *State) error {
	for _, id := range slices.Sorted(maps.Keys(s.Modules)) {
		m := s.Modules[id]
		bad := slices.ContainsFunc(m.Files, func(f FixedModule) bool { _, is := s.Bad[badKey(f.Name, f.Digest)]; return is })
		if id == h.Kernel.BuildID || !bad && m.Kernel.Release != h.Kernel.Release && a.opts.Modules.Installed(m.Kernel.Release) {
			continue
		}
		gone := Modules{Kernel: m.Kernel, Changing: true}
		if err := a.journal.add(&Record{Modules: &gone}); err != nil {
			return err
		}
		if err := a.opts.Modules.Put(ctx, m.Kernel.Release, nil, nil); err != nil {
			return err
		}
		gone.Changing = false
		if err := a.journal.add(&Record{Modules: &gone}); err != nil {
			return err
		}
	}
	return nil
}
