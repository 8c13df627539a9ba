// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/hostinfo"
	"github.com/tsugi-project/tsugi/internal/livepatch"
)

// A live patch may bring fixed builds of modules, for machines on which the
// module is not loaded. They lie below /lib/modules/RELEASE/updates/tsugi,
// where modprobe looks before the kernel's own directory, as long as their
// live patch is the confirmed one of this kernel. That directory is the
// agent's alone: what is in it follows from the journal and the card of the
// live patch, is checked at each check-in, and goes with the live patch. Another
// kernel has a directory of its own.

// Modules are the fixed modules that are, or are about to be, on the disk for
// one kernel.
type Modules struct {
	Kernel api.Kernel `json:"kernel"`
	Patch  string     `json:"patch,omitempty"` // id of the live patch that brought them
	// Changing: files were being put there or taken away when this was written.
	// Files are then those that shall be there in the end.
	Changing bool          `json:"changing,omitempty"`
	Files    []FixedModule `json:"files,omitempty"` // ordered by Name
}

// FixedModule is one of them.
type FixedModule struct {
	Name    string `json:"name"`    // of the module
	File    string `json:"file"`    // below updates/tsugi
	Path    string `json:"path"`    // below /lib/modules/RELEASE, of the module whose place it takes
	Digest  string `json:"sha256"`  // of the file
	BuildID string `json:"fixed"`   // its own
	Shipped string `json:"shipped"` // SHA-256 of the file whose place it takes
}

// file returns the entry of a module.
func (m *Modules) file(name string) (FixedModule, bool) {
	i := slices.IndexFunc(m.Files, func(f FixedModule) bool { return f.Name == name })
	if i < 0 {
		return FixedModule{}, false
	}
	return m.Files[i], true
}

// moduleBuildID reads the build-id of a module's bytes.
func moduleBuildID(ko []byte, ok bool) (string, error) {
	if !ok {
		return "", errors.New("it is not in the file")
	}
	f, err := elf.NewFile(bytes.NewReader(ko))
	if err != nil {
		return "", err
	}
	s := f.Section(".note.gnu.build-id")
	if s == nil || s.Type == elf.SHT_NOBITS || s.Size > 4096 {
		return "", errors.New("it does not say which build it is")
	}
	note, err := s.Data()
	if err != nil {
		return "", err
	}
	return hostinfo.ParseBuildID(note)
}

// tend makes the fixed modules on the disk those that this machine should
// have now. The caller has its turn. Errors are kept for status; nothing else
// waits for them.
func (a *Agent) tend(ctx context.Context, h *Host) {
	if a.opts.Modules == nil {
		return
	}
	if err := a.tendModules(ctx, h); err != nil && ctx.Err() == nil {
		p := problemOf("TS9432", "", err)
		a.log.Warn("fixed modules", "err", p)
		a.see(func(m *moment) { m.modulesErr = p })
		return
	}
	a.see(func(m *moment) { m.modulesErr = nil })
}

func (a *Agent) tendModules(ctx context.Context, h *Host) error {
	s, bad := a.journal.view()
	if code.Of(bad) == "TS9403" || h.Kernel.BuildID == "" {
		return nil // nothing is done by a damaged journal
	}
	if err := a.sweep(ctx, h, s); err != nil {
		return err
	}
	have := s.Modules[h.Kernel.BuildID]
	healthy, confirmed := s.Healthy[h.Kernel.BuildID]
	switch {
	case h.Off, !confirmed, a.cfg.Modules.Off:
		return a.setModules(ctx, h, have, "", nil, nil)
	case s.Current == nil || s.Current.Boot != h.BootID || s.Current.Patch.ID != healthy.ID:
		// It is on its way, or another one is: what is there stays until that
		// one is confirmed, and what a package replaced goes.
		return a.dropStale(ctx, h, have)
	}
	card, err := a.card(healthy.ID)
	if err != nil || card == nil {
		return err
	}
	want := a.eligible(h, card, have)
	if have.Changing || have.Patch != healthy.ID || !maps.Equal(digests(have.Files), want) || a.disturbed(h, have) {
		return a.install(ctx, h, healthy.ID, card, have, want)
	}
	return nil
}

// eligible are the digests of the modules of a live patch that may lie on this
// machine's disk, by name: those that are not loaded, or not any other than the
// fixed build, and those of which a file of ours is there already. Modules that
// a fix has in common are there together
// or not at all: they may depend on each other's fix.
func (a *Agent) eligible(h *Host, card *Card, have Modules) map[string]string {
	var blocked map[string]*code.Problem
	var giveWay map[string]bool
	a.see(func(m *moment) { blocked, giveWay = m.blockedModules, m.giveWay })
	swap := a.maySwap()
	out := map[string]string{}
	for _, group := range groups(card) {
		fit := true
		for _, r := range group {
			_, ours := have.file(r.Name)
			loaded, is := loadedModule(h, r.Name)
			free := !is || ours || loaded.BuildID == r.Fixed || swap && a.opts.Modules.InUse(r.Name) == ""
			fit = fit && free && blocked[r.Name+r.Module.Digest] == nil && !giveWay[r.Name]
		}
		for _, r := range group {
			if fit {
				out[r.Name] = r.Module.Digest
			}
		}
	}
	return out
}

// groups puts the modules together that a fix has in common.
func groups(card *Card) [][]Fixture {
	leader := map[string]string{}
	var find func(string) string
	find = func(n string) string {
		if leader[n] == n {
			return n
		}
		return find(leader[n])
	}
	for _, r := range card.Replacements {
		leader[r.Name] = r.Name
	}
	for _, f := range card.Fixes {
		for _, n := range f.Modules[min(1, len(f.Modules)):] {
			if leader[n] != "" && leader[f.Modules[0]] != "" {
				leader[find(n)] = find(f.Modules[0])
			}
		}
	}
	var out [][]Fixture
	at := map[string]int{}
	for _, r := range card.Replacements {
		l := find(r.Name)
		i, ok := at[l]
		if !ok {
			i = len(out)
			at[l] = i
			out = append(out, nil)
		}
		out[i] = append(out[i], r)
	}
	return out
}

func loadedModule(h *Host, name string) (api.Module, bool) {
	i := slices.IndexFunc(h.Modules, func(m api.Module) bool { return m.Name == name })
	if i < 0 {
		return api.Module{}, false
	}
	return h.Modules[i], true
}

func digests(files []FixedModule) map[string]string {
	out := map[string]string{}
	for _, f := range files {
		out[f.Name] = f.Digest
	}
	return out
}

// maySwap: the policy of the index, or who runs this machine, lets modules be
// swapped that are loaded and not in use.
func (a *Agent) maySwap() bool {
	on := a.cfg.Modules.SwapUnused
	a.see(func(m *moment) { on = on || m.index != nil && m.index.SwapUnused })
	return on
}

// disturbed reports whether the disk is not what the journal says, or the
// kernel's package has replaced a module since.
func (a *Agent) disturbed(h *Host, have Modules) bool {
	there, err := a.opts.Modules.There(h.Kernel.Release)
	if err != nil || len(there) != len(have.Files) {
		return true
	}
	for _, f := range have.Files {
		if there[f.File] != f.Digest || a.stale(h, f) {
			return true
		}
	}
	return false
}

// stale: the kernel's package has another module now than the one that was
// replaced, which was upgraded or removed.
func (a *Agent) stale(h *Host, f FixedModule) bool {
	now, err := a.opts.Modules.Shipped(h.Kernel.Release, f.Path)
	return err != nil || now.Digest != f.Shipped
}

// dropStale takes away what no longer belongs to the kernel's package.
func (a *Agent) dropStale(ctx context.Context, h *Host, have Modules) error {
	keep := slices.DeleteFunc(slices.Clone(have.Files), func(f FixedModule) bool { return a.stale(h, f) })
	if len(keep) == len(have.Files) && !have.Changing {
		return nil
	}
	return a.setModules(ctx, h, have, have.Patch, keep, nil)
}

// install puts the wanted modules of a live patch on the disk, and takes away
// what is there beside them.
func (a *Agent) install(ctx context.Context, h *Host, id string, card *Card, have Modules, want map[string]string) error {
	files, blobs, err := a.material(ctx, h, id, card, want)
	if err != nil {
		return err
	}
	if err := a.setModules(ctx, h, have, id, files, blobs); err != nil {
		return err
	}
	for _, f := range files {
		loaded, is := loadedModule(h, f.Name)
		if !is || loaded.BuildID == f.BuildID || !a.maySwap() || a.opts.Modules.InUse(f.Name) != "" {
			continue
		}
		if err := a.opts.Modules.Swap(ctx, f.Name); err != nil {
			a.blockModule(f, problemOf("TS9433", f.Name, err))
			s, _ := a.journal.view()
			left := slices.DeleteFunc(slices.Clone(files), func(o FixedModule) bool { return o.Name == f.Name })
			// Without the fixed build on the disk the shipped one loads again.
			err = errors.Join(err, a.setModules(ctx, h, s.Modules[h.Kernel.BuildID], id, left, nil), a.opts.Modules.Restore(ctx, f.Name))
			return err
		}
		if err := a.event(h, "module "+f.Name+" was swapped for its fixed build"); err != nil {
			return err
		}
		if _, err := a.host(ctx); err != nil {
			return err
		}
	}
	return nil
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
				a.blockModule(FixedModule{Name: r.Name, Digest: r.Module.Digest}, problemOf("TS9432", r.Name, err))
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
	slices.SortFunc(files, func(x, y FixedModule) int { return strings.Compare(x.Name, y.Name) })
	maps.DeleteFunc(blobs, func(file string, _ []byte) bool {
		return !slices.ContainsFunc(files, func(f FixedModule) bool { return f.File == file })
	})
	return files, blobs, nil
}

func (a *Agent) prepare(ctx context.Context, h *Host, p *livepatch.Patch, r Fixture) (FixedModule, []byte, error) {
	ko, ok := p.Payload(r.Module)
	if !ok {
		return FixedModule{}, nil, code.New("TS9431", r.Name, "it is not in the file")
	}
	shipped, err := a.opts.Modules.Shipped(h.Kernel.Release, r.Path)
	if err != nil {
		return FixedModule{}, nil, err
	}
	if shipped.BuildID != r.BuildID {
		return FixedModule{}, nil, code.New("TS9434", r.Name, fmt.Sprintf("the file has build-id %s; the fixed module is for %s", clip(shipped.BuildID, 12), clip(r.BuildID, 12)))
	}
	if problems := a.opts.Modules.Fit(ctx, r.Replacement, ko); len(problems) > 0 {
		return FixedModule{}, nil, refusal(problems)
	}
	return FixedModule{Name: r.Name, File: path.Base(r.Path), Path: r.Path, Digest: r.Module.Digest, BuildID: r.Fixed, Shipped: shipped.Digest}, ko, nil
}

// makeWay takes the fixed modules from the disk that a live patch is about to
// change in the kernel: it knows the functions of the shipped build and where
// they lie, and would meet the fixed one when that loads. One that is loaded
// already is what preflight refuses, until it is unloaded or the next boot has
// loaded the shipped one.
func (a *Agent) makeWay(ctx context.Context, h *Host, p *livepatch.Patch) (*Host, error) {
	if a.opts.Modules == nil {
		return h, nil
	}
	s, _ := a.journal.view()
	have := s.Modules[h.Kernel.BuildID]
	changes := p.Manifest.Objects()
	meets := func(f FixedModule) bool { return slices.Contains(changes, f.Name) }
	if !slices.ContainsFunc(have.Files, meets) {
		return h, nil
	}
	a.see(func(m *moment) {
		m.giveWay = map[string]bool{}
		for _, o := range changes {
			m.giveWay[o] = true
		}
	})
	left := slices.DeleteFunc(slices.Clone(have.Files), meets)
	if err := a.setModules(ctx, h, have, have.Patch, left, nil); err != nil {
		return h, err
	}
	for _, f := range have.Files {
		loaded, is := loadedModule(h, f.Name)
		if !meets(f) || !is || loaded.BuildID != f.BuildID || !a.maySwap() || a.opts.Modules.InUse(f.Name) != "" {
			continue
		}
		if err := a.opts.Modules.Swap(ctx, f.Name); err != nil {
			return h, err
		}
		if err := a.event(h, "module "+f.Name+" was swapped for the shipped build"); err != nil {
			return h, err
		}
	}
	return a.host(ctx)
}

// blockModule keeps a fixed module out until the agent starts again or another
// build of it comes.
func (a *Agent) blockModule(f FixedModule, p *code.Problem) {
	a.log.Warn("fixed module", "module", f.Name, "err", p)
	a.see(func(m *moment) {
		if m.blockedModules == nil {
			m.blockedModules = map[string]*code.Problem{}
		}
		m.blockedModules = maps.Clone(m.blockedModules)
		m.blockedModules[f.Name+f.Digest] = p
	})
}

// setModules journals what shall be there, makes it so, and journals that it
// is. After a loss of power in between the next look finds Changing set and
// does it again.
func (a *Agent) setModules(ctx context.Context, h *Host, have Modules, id string, files []FixedModule, blobs map[string][]byte) error {
	there, err := a.opts.Modules.There(h.Kernel.Release)
	if err != nil {
		return err
	}
	if !have.Changing && have.Patch == id && slices.Equal(have.Files, files) && maps.Equal(there, byFile(files)) {
		return nil
	}
	if len(there) == 0 && len(files) == 0 && len(have.Files) == 0 && !have.Changing {
		return nil
	}
	next := Modules{Kernel: h.Kernel, Patch: id, Changing: true, Files: files}
	if err := a.journal.add(&Record{Modules: &next}); err != nil {
		return err // no intent, no change
	}
	add := map[string][]byte{}
	var keep []string
	for _, f := range files {
		keep = append(keep, f.File)
		if b, ok := blobs[f.File]; ok && there[f.File] != f.Digest {
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
	if names := moduleNames(files); names != moduleNames(have.Files) {
		return a.event(h, cmpWord("fixed modules on the disk: ", names, "no fixed modules on the disk any more"))
	}
	return nil
}

func cmpWord(prefix, names, none string) string {
	if names == "" {
		return none
	}
	return prefix + names
}

func moduleNames(files []FixedModule) string {
	var out []string
	for _, f := range files {
		out = append(out, f.Name)
	}
	return strings.Join(out, ", ")
}

func byFile(files []FixedModule) map[string]string {
	out := map[string]string{}
	for _, f := range files {
		out[f.File] = f.Digest
	}
	return out
}

// sweep takes away what was put there for kernels that are not installed any
// more, so that nothing of them stays, and for a build of this release that no
// longer runs: its modules are not for this one.
func (a *Agent) sweep(ctx context.Context, h *Host, s *State) error {
	for _, id := range slices.Sorted(maps.Keys(s.Modules)) {
		m := s.Modules[id]
		if id == h.Kernel.BuildID || m.Kernel.Release != h.Kernel.Release && a.opts.Modules.Installed(m.Kernel.Release) {
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
