// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"maps"
	"slices"

	"github.com/tsugi-project/tsugi/internal/api"
)

const (
	maxPending = 2000 // reports that wait for the server
	maxHistory = 200
)

// State is what the journal adds up to.
type State struct {
	Seq int64 `json:"seq"`
	// Floors are the highest versions confirmed healthy, by build-id; for a
	// policy that is not the default one by build-id, a slash and its name.
	Floors map[string]int `json:"floors,omitempty"`
	// Healthy is the last confirmed live patch by build-id: what a boot
	// applies again.
	Healthy map[string]api.Patch `json:"healthy,omitempty"`
	// Intent is a live patch that was going to be loaded and is not confirmed.
	Intent *Intent `json:"intent,omitempty"`
	// Current is what was applied last, and in which boot.
	Current *Applied `json:"current,omitempty"`
	// Last is the last state that any live patch came to.
	Last        *api.Patch           `json:"last,omitempty"`
	Quarantined map[string]api.Patch `json:"quarantined,omitempty"` // by id
	ByHand      map[string]api.Patch `json:"by_hand,omitempty"`     // by id
	Hold        bool                 `json:"hold,omitempty"`
	// Modules are the fixed modules on the disk, by build-id of the kernel; Former
	// are those that were, and Bad those that are kept out, by badKey.
	Modules map[string]Modules        `json:"modules,omitempty"`
	Former  map[string][]FormerModule `json:"former_modules,omitempty"`
	Bad     map[string]BadModule      `json:"bad_modules,omitempty"`
	Members *Members                  `json:"members,omitempty"` // of structs, in the boot of the last live patch that brought some
	// Packages are those that anything was ever done with, by the id of the
	// target. Their floors and their confirmed live patches are in Floors and
	// Healthy, under that id.
	Packages map[string]PackageState `json:"packages,omitempty"`
	Pending  []api.Report            `json:"pending,omitempty"` // in order
	Dropped  int                     `json:"dropped,omitempty"` // reports given up because too many waited
	History  []api.Report            `json:"history,omitempty"`
}

// Intent is a live patch between Loading and Healthy.
type Intent struct {
	Patch  api.Patch  `json:"patch"`
	Boot   string     `json:"boot"`
	Kernel api.Kernel `json:"kernel"`
	// Stopped: the agent ended in good order before it was confirmed. The
	// kernel was alive then, so the next boot is no sign of a crash.
	Stopped bool `json:"stopped,omitempty"`
}

// Applied is a live patch that the kernel of a boot runs.
type Applied struct {
	Patch  api.Patch  `json:"patch"`
	Boot   string     `json:"boot"`
	Kernel api.Kernel `json:"kernel"`
	// Transition took this long, in milliseconds.
	Transition int64 `json:"transition_ms,omitempty"`
}

// PackageRef is a package that live patches are for.
type PackageRef struct {
	ID     string `json:"id"`     // livepatch.TargetRef.ID
	Target string `json:"target"` // "debian:libssl3=3.0.20-1~deb12u2"
}

// PackageState is to a package what Intent, Current and Last of State are to the
// kernel. What is applied is so in every boot: it lies on the disk, and the
// keeper brings it to processes.
type PackageState struct {
	Target  string     `json:"target"`
	Intent  *Intent    `json:"intent,omitempty"`
	Current *Applied   `json:"current,omitempty"`
	Last    *api.Patch `json:"last,omitempty"`
}

func (p PackageState) clone() PackageState {
	p.Intent, p.Current, p.Last = copied(p.Intent), copied(p.Current), copied(p.Last)
	return p
}

func copied[T any](p *T) *T {
	if p == nil {
		return nil
	}
	c := *p
	return &c
}

// floorKey is the line of versions that a floor is for: each policy has its own.
func floorKey(buildID, policy string) string {
	if policy == "" {
		return buildID
	}
	return buildID + "/" + policy
}

func newState() *State {
	return &State{
		Floors: map[string]int{}, Healthy: map[string]api.Patch{},
		Quarantined: map[string]api.Patch{}, ByHand: map[string]api.Patch{}, Modules: map[string]Modules{},
		Former: map[string][]FormerModule{}, Bad: map[string]BadModule{}, Packages: map[string]PackageState{},
	}
}

func (s *State) clone() *State {
	c := *s
	c.Floors, c.Healthy = maps.Clone(s.Floors), maps.Clone(s.Healthy)
	c.Quarantined, c.ByHand = maps.Clone(s.Quarantined), maps.Clone(s.ByHand)
	c.Modules, c.Former, c.Bad = maps.Clone(s.Modules), maps.Clone(s.Former), maps.Clone(s.Bad)
	c.Pending, c.History = slices.Clone(s.Pending), slices.Clone(s.History)
	c.Intent, c.Current, c.Last = copied(s.Intent), copied(s.Current), copied(s.Last)
	c.Packages = make(map[string]PackageState, len(s.Packages))
	for id, p := range s.Packages {
		c.Packages[id] = p.clone()
	}
	return &c
}

// add changes the state as a record says. It is the only place that does.
func (s *State) add(r *Record) {
	switch {
	case r.Base != nil:
		fresh := newState()
		*s = *r.Base.clone()
		for to, from := range map[*map[string]api.Patch]map[string]api.Patch{
			&s.Healthy: fresh.Healthy, &s.Quarantined: fresh.Quarantined, &s.ByHand: fresh.ByHand,
		} {
			if *to == nil {
				*to = from
			}
		}
		if s.Floors == nil {
			s.Floors = fresh.Floors
		}
		if s.Modules == nil {
			s.Modules = fresh.Modules
		}
		if s.Former == nil {
			s.Former = fresh.Former
		}
		if s.Bad == nil {
			s.Bad = fresh.Bad
		}
	case r.Report != nil:
		s.report(r.Report, r.Package)
	case r.Sent != nil:
		s.Pending = slices.DeleteFunc(s.Pending, func(p api.Report) bool { return slices.Contains(r.Sent, p.ID) })
	case r.Hold != nil:
		s.Hold = *r.Hold
	case r.ByHand != nil && *r.ByHand:
		s.ByHand[r.Patch.ID] = *r.Patch
	case r.ByHand != nil:
		delete(s.ByHand, r.Patch.ID)
	case r.Clear != "":
		delete(s.Quarantined, r.Clear)
		maps.DeleteFunc(s.Bad, func(_ string, b BadModule) bool { return b.Name == r.Clear })
	case r.Bad != nil:
		s.Bad[badKey(r.Bad.Name, r.Bad.Digest)] = *r.Bad
	case r.Modules != nil:
		s.modules(r.Modules)
	case r.Members != nil:
		s.Members = r.Members // never changed in place
	case r.Stop:
		if s.Intent != nil {
			s.Intent.Stopped = true
		}
		for _, p := range s.Packages {
			if p.Intent != nil {
				p.Intent.Stopped = true
			}
		}
		for id, m := range s.Modules {
			m.Files = slices.Clone(m.Files)
			for i := range m.Files {
				m.Files[i].Boot, m.Files[i].Seen = "", 0
			}
			if m.Boot != "" { // what is known of another kernel's boots stays
				m.Boot, m.Downs = "", 0
			}
			s.Modules[id] = m
		}
	}
	s.Seq = r.Seq
}

// unsettled reports whether a loss of power now would speak against a fixed
// module, or a live patch of a package.
func (s *State) unsettled() bool {
	for _, p := range s.Packages {
		if p.Intent != nil && !p.Intent.Stopped {
			return true
		}
	}
	for _, m := range s.Modules {
		if m.Boot != "" || slices.ContainsFunc(m.Files, func(f FixedModule) bool { return f.Boot != "" }) {
			return true
		}
	}
	return false
}

// isBad reports whether a fixed module of this name is kept out.
func (s *State) isBad(name string) bool {
	for _, b := range s.Bad {
		if b.Name == name {
			return true
		}
	}
	return false
}

// maxFormer bounds what is remembered of fixed modules that are gone.
const maxFormer = 256

// modules takes what is on the disk now, and remembers what was there before.
func (s *State) modules(m *Modules) {
	id := m.Kernel.BuildID
	former := slices.Clone(s.Former[id])
	for _, old := range s.Modules[id].Files {
		f := FormerModule{Name: old.Name, BuildID: old.BuildID}
		still := slices.ContainsFunc(m.Files, func(n FixedModule) bool { return n.BuildID == old.BuildID })
		if !still && !slices.Contains(former, f) {
			former = append(former, f)
		}
	}
	if n := len(former) - maxFormer; n > 0 {
		former = slices.Delete(former, 0, n)
	}
	if len(former) > 0 {
		s.Former[id] = former
	}
	if m.Changing || len(m.Files) > 0 || m.Swap != nil {
		s.Modules[id] = *m
		return
	}
	delete(s.Modules, id)
	maps.DeleteFunc(s.Former, func(k string, _ []FormerModule) bool {
		_, there := s.Modules[k]
		return k != id && !there // of kernels from before
	})
}

func (s *State) report(r *api.Report, about *PackageRef) {
	s.Pending = append(s.Pending, *r)
	if n := len(s.Pending) - maxPending; n > 0 {
		s.Pending = slices.Delete(s.Pending, 0, n)
		s.Dropped += n
	}
	s.History = append(s.History, *r)
	if n := len(s.History) - maxHistory; n > 0 {
		s.History = slices.Delete(s.History, 0, n)
	}
	if r.Patch.State == "" {
		return
	}
	if about == nil {
		now := PackageState{Intent: s.Intent, Current: s.Current, Last: s.Last}
		s.turn(&now, r, r.Kernel.BuildID)
		s.Intent, s.Current, s.Last = now.Intent, now.Current, now.Last
		return
	}
	now := s.Packages[about.ID]
	now.Target = about.Target
	s.turn(&now, r, about.ID)
	if r.Patch.State == api.Known && now.Current != nil && now.Current.Patch.ID == r.Patch.ID {
		now.Current = nil // what took its place was taken out
	}
	s.Packages[about.ID] = now
}

// turn takes a new state of a live patch of the kernel or package id.
func (s *State) turn(now *PackageState, r *api.Report, id string) {
	p := r.Patch
	p.Since = r.Time
	now.Last = &p
	intended := now.Intent != nil && now.Intent.Patch.ID == p.ID
	current := now.Current != nil && now.Current.Patch.ID == p.ID
	switch p.State {
	case api.Loading:
		now.Intent = &Intent{Patch: p, Boot: r.BootID, Kernel: r.Kernel}
	case api.Transitioning, api.Applied:
		if intended {
			now.Intent.Patch, now.Intent.Boot, now.Intent.Stopped = p, r.BootID, false
		}
		if p.State == api.Applied {
			now.Current = &Applied{Patch: p, Boot: r.BootID, Kernel: r.Kernel, Transition: r.Transition}
		}
	case api.Healthy:
		now.Intent = nil
		line := floorKey(id, p.Policy)
		s.Floors[line] = max(s.Floors[line], p.Version)
		s.Healthy[id] = p
		if current {
			now.Current.Patch = p
		}
	case api.Reverting:
		if current {
			now.Current.Patch = p
		}
	case api.Known, api.Blocked, api.Waiting:
		if intended {
			now.Intent = nil
		}
	case api.Reverted, api.Quarantined:
		if intended {
			now.Intent = nil
		}
		if current {
			now.Current = nil
		}
		if s.Healthy[id].ID == p.ID {
			delete(s.Healthy, id)
		}
		if p.State == api.Quarantined {
			s.Quarantined[p.ID] = p
		}
	}
}
