// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/hostinfo"
	"github.com/tsugi-project/tsugi/internal/policy"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// A live patch may bring fixed builds of modules, for machines on which the
// module is not loaded. They lie below /lib/modules/RELEASE/updates/tsugi,
// where modprobe looks before the kernel's own directory, as long as their
// live patch is the confirmed one of this kernel. That directory is the
// agent's alone: what is in it follows from the journal and the card of the
// live patch, is checked at each check-in, and goes with the live patch. Another
// kernel has a directory of its own.
//
// modules_fit.go says what should be there, modules_put.go makes it so, and
// modules_guard.go watches what came of it.

// Modules are the fixed modules that are, or are about to be, on the disk for
// one kernel.
type Modules struct {
	Kernel api.Kernel `json:"kernel"`
	Patch  string     `json:"patch,omitempty"` // id of the live patch that brought them
	// Changing: files were being put there or taken away when this was written.
	// Files are then those that shall be there in the end.
	Changing bool          `json:"changing,omitempty"`
	Files    []FixedModule `json:"files,omitempty"` // ordered by Name
	// Swap is set while a module is unloaded to be loaded again.
	Swap *Swap `json:"swap,omitempty"`
	// Boot is the last boot that began with files that are not confirmed, and
	// that has neither lasted nor ended in good order; Downs is how many in a
	// row ended so before it.
	Boot  string `json:"boot,omitempty"`
	Downs int    `json:"downs,omitempty"`
}

// FixedModule is one of them.
type FixedModule struct {
	Name    string `json:"name"`    // of the module
	File    string `json:"file"`    // below updates/tsugi
	Path    string `json:"path"`    // below /lib/modules/RELEASE, of the module whose place it takes
	Digest  string `json:"sha256"`  // of the file
	BuildID string `json:"fixed"`   // its own
	Shipped string `json:"shipped"` // SHA-256 of the file whose place it takes
	// Put is when it came, in milliseconds since 1970. Boot is the boot in which
	// it was first seen loaded, since Seen, and is not confirmed yet; Sure: it is.
	Put  int64  `json:"put,omitempty"`
	Boot string `json:"boot,omitempty"`
	Seen int64  `json:"seen,omitempty"`
	Sure bool   `json:"sure,omitempty"`
}

// file returns the entry of a module.
func (m *Modules) file(name string) (FixedModule, bool) {
	i := slices.IndexFunc(m.Files, func(f FixedModule) bool { return f.Name == name })
	if i < 0 {
		return FixedModule{}, false
	}
	return m.Files[i], true
}

// open reports whether one of the files is not confirmed.
func (m *Modules) open() bool {
	return slices.ContainsFunc(m.Files, func(f FixedModule) bool { return !f.Sure })
}

// moduleBuildID reads the build-id of a module's bytes.
func moduleBuildID(ko []byte, ok bool) (string, error) {
	if !ok {
		return "", errors.New("it is not in the file")
	}
	id, err := hostinfo.BuildIDOf(bytes.NewReader(ko))
	if err == nil && id == "" {
		err = errors.New("it does not say which build it is")
	}
	return id, err
}

// tend makes the fixed modules on the disk those that this machine should
// have now. The caller has its turn. Errors are kept for status; nothing else
// waits for them. It reads the machine itself: a transition may have taken
// minutes, and a module may have been loaded meanwhile.
func (a *Agent) tend(ctx context.Context) {
	if a.opts.Modules == nil {
		return
	}
	h, err := a.host(ctx)
	if err == nil {
		err = a.tendModules(ctx, h)
	}
	if err != nil && ctx.Err() == nil {
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
	if err := a.unswapped(ctx, h); err != nil {
		return err
	}
	if err := a.watchModules(ctx, h); err != nil {
		return err
	}
	s, _ = a.journal.view()
	have := s.Modules[h.Kernel.BuildID]
	healthy, confirmed := s.Healthy[h.Kernel.BuildID]
	switch {
	case h.Off, !confirmed, a.cfg.Modules.Off:
		return a.setModules(ctx, h, have, "", nil, nil)
	case s.Current == nil || s.Current.Boot != h.BootID || s.Current.Patch.ID != healthy.ID:
		if a.goneForGood(s, healthy) {
			return a.setModules(ctx, h, have, "", nil, nil)
		}
		// It is on its way, or another one is: what is there stays until that
		// one is confirmed, and what a package replaced goes.
		return a.dropStale(ctx, h, have)
	}
	card, err := a.card(healthy.ID)
	if err != nil || card == nil {
		return err
	}
	want := a.eligible(h, s, card, have)
	if have.Changing || have.Patch != healthy.ID || !sameFiles(have.Files, want) || a.disturbed(h, have) {
		return a.install(ctx, h, healthy.ID, card, have, want)
	}
	return a.swapAll(ctx, h, healthy.ID, card, have.Files)
}

// goneForGood: nothing that happens by itself brings this live patch back.
func (a *Agent) goneForGood(s *State, p api.Patch) bool {
	_, quarantined := s.Quarantined[p.ID]
	_, byHand := s.ByHand[p.ID]
	var x *trust.Index
	a.see(func(m *moment) { x = m.index })
	if quarantined || byHand || x != nil && policy.Barred(x, p.Version, p.Policy) != "" {
		return true
	}
	names, err := a.disk.List(patchDir)
	return err == nil && !slices.Contains(names, strings.TrimPrefix(cipherFile(p.ID), patchDir+"/"))
}

// sameFiles compares what is there with what should be, by name and digest.
func sameFiles(files []FixedModule, want map[string]string) bool {
	for _, f := range files {
		if want[f.Name] != f.Digest {
			return false
		}
	}
	return len(files) == len(want)
}

// disturbed reports whether the disk is not what the journal says, modprobe is
// not led to it, or the kernel's package has replaced a module since.
func (a *Agent) disturbed(h *Host, have Modules) bool {
	there, err := a.opts.Modules.There(h.Kernel.Release)
	if err != nil || len(there) != len(have.Files) {
		return true
	}
	for _, f := range have.Files {
		if t := there[f.File]; t.Digest != f.Digest || !t.Found || a.stale(h, f) {
			return true
		}
	}
	return false
}

// stale: the kernel's package has another module now than the one that was
// replaced, which was upgraded or removed, or the machine has a build of its own.
func (a *Agent) stale(h *Host, f FixedModule) bool {
	now, err := a.opts.Modules.Shipped(h.Kernel.Release, f.Path)
	return err != nil || now.Digest != f.Shipped
}

// takenBack tells of them; nil: there are none.
func takenBack(s *State, h *Host, card *Card) *code.Problem {
	names := taken(s, h, card)
	if len(names) == 0 {
		return nil
	}
	return code.New("TS9438", clip(strings.Join(names, ", "), 1000), "").
		WithFix("unload it, or reboot; if it is there again after a boot it is in the initramfs: update-initramfs -u -k " + h.Kernel.Release + " (or dracut -f)")
}

// taken are fixed modules that are loaded although their files were taken away
// and nothing brings them now: what was recalled or reverted still runs, or
// comes back with each boot out of an initramfs.
func taken(s *State, h *Host, card *Card) []string {
	var out []string
	have := s.Modules[h.Kernel.BuildID]
	for _, f := range s.Former[h.Kernel.BuildID] {
		loaded, is := loadedModule(h, f.Name)
		wanted := slices.ContainsFunc(have.Files, func(o FixedModule) bool { return o.BuildID == f.BuildID }) ||
			card != nil && slices.ContainsFunc(card.Replacements, func(r FixedBuild) bool { return r.Fixed == f.BuildID })
		if is && loaded.BuildID == f.BuildID && !wanted {
			out = append(out, f.Name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func loadedModule(h *Host, name string) (api.Module, bool) {
	i := slices.IndexFunc(h.Modules, func(m api.Module) bool { return m.Name == name })
	if i < 0 {
		return api.Module{}, false
	}
	return h.Modules[i], true
}
