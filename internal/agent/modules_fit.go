// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"slices"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
)

// eligible are the digests of the modules of a live patch that may lie on this
// machine's disk, by name: those that are not loaded, or not any other than the
// fixed build. A module that stands alone stays where it is when its shipped
// build is loaded, by the initramfs for one: what loads next is the fixed one.
// Modules that a fix has in common are there together or not at all: they may
// depend on each other's fix. Under a hold nothing is added.
func (a *Agent) eligible(h *Host, s *State, card *Card, have Modules) map[string]string {
	var kept map[string]*code.Problem
	a.see(func(m *moment) { kept = m.blockedModules })
	way := a.givingWay(h, s)
	swap, held := a.maySwap(s), a.held(s)
	unfit := map[string]*code.Problem{}
	out := map[string]string{}
	for _, group := range groups(card) {
		fit := true
		for _, r := range group {
			f, ours := have.file(r.Name)
			same := ours && f.Digest == r.Module.Digest
			loaded, is := loadedModule(h, r.Name)
			free := !is || loaded.BuildID == r.Fixed || ours && len(group) == 1 || swap && a.opts.Modules.InUse(r.Name) == ""
			_, bad := s.Bad[badKey(r.Name, r.Module.Digest)]
			fit = fit && free && (same || !held) && !bad && kept[r.Name+r.Module.Digest] == nil && !slices.Contains(way, r.Name)
			if fit {
				// Whether it is the package's is looked at each time: that may change.
				if p := a.unlike(h, r); p != nil {
					unfit[r.Name+r.Module.Digest], fit = p, false
				}
			}
		}
		for _, r := range group {
			if fit {
				out[r.Name] = r.Module.Digest
			}
		}
	}
	a.see(func(m *moment) { m.unfitModules = unfit })
	return out
}

// unlike says why the module on the disk is not the one that a fixed module is
// for.
func (a *Agent) unlike(h *Host, r FixedBuild) *code.Problem {
	shipped, err := a.opts.Modules.Shipped(h.Kernel.Release, r.Path)
	switch {
	case err != nil:
		return problemOf("TS9432", r.Name, err)
	case shipped.BuildID != r.BuildID:
		return code.New("TS9434", r.Name, fmt.Sprintf("the file has build-id %s; the fixed module is for %s", clip(shipped.BuildID, 12), clip(r.BuildID, 12)))
	}
	return nil
}

// givingWay are the modules that another live patch changes in the kernel,
// which is on its way or waits for them to be unloaded: it knows their shipped
// builds.
func (a *Agent) givingWay(h *Host, s *State) []string {
	var out []string
	a.see(func(m *moment) {
		if w := m.giveWay; w != nil && (m.pending != nil && m.pending.ID == w.to || m.local != nil && m.local.ID == w.to) {
			out = slices.Clone(w.modules)
		}
	})
	if s.Intent != nil && s.Intent.Boot == h.BootID {
		out = append(out, a.cardOf(s.Intent.Patch).objects()...)
	}
	return out
}

// groups puts the modules together that a fix has in common.
func groups(card *Card) [][]FixedBuild {
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
	var out [][]FixedBuild
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

// groupOf are the names of the modules that share a fix with one, and its own.
func groupOf(card *Card, name string) []string {
	for _, group := range groups(card) {
		var names []string
		for _, r := range group {
			names = append(names, r.Name)
		}
		if slices.Contains(names, name) {
			return names
		}
	}
	return []string{name}
}

// held: somebody wants this machine to stay as it is.
func (a *Agent) held(s *State) bool {
	held := s.Hold
	a.see(func(m *moment) { held = held || m.assignment != nil && m.assignment.Hold })
	return held
}

// swapAllowed: the policy of the index, or who runs this machine, lets modules
// be swapped that are loaded and not in use.
func (a *Agent) swapAllowed() bool {
	on := a.cfg.Modules.SwapUnused
	a.see(func(m *moment) { on = on || m.index != nil && m.index.SwapUnused })
	return on
}

// maySwap: and now is the time for it. A swap changes the running kernel, as a
// live patch does, and waits for what a live patch waits for.
func (a *Agent) maySwap(s *State) bool {
	return a.swapAllowed() && !a.held(s) && a.cfg.InWindow(time.Now())
}
