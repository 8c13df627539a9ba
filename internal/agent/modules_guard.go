// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
)

// A fixed module is loaded by others than the agent: on demand, or by a boot
// before the agent starts. So there is no intent before it as there is for a
// live patch. What guards a machine is what can be seen: a file's build is
// watched once it is found loaded, as a live patch is, and a boot that ended
// in that time speaks against it; and boots that end soon, twice in a row and
// in no good order, speak against every file that was never confirmed.

const (
	// lasting is how long a boot has to last with fixed modules that are not
	// confirmed, to say nothing against them.
	lasting = 10 * time.Minute
	// maxDowns boots in a row that did not are enough.
	maxDowns = 2
)

// Swap is a module that was going to be unloaded and loaded again.
type Swap struct {
	Module string `json:"module"`
	Boot   string `json:"boot"`
}

// BadModule is a fixed module that this machine keeps out until a person lets
// it in again.
type BadModule struct {
	Name    string       `json:"name"`
	Digest  string       `json:"sha256"`
	Since   int64        `json:"since"`
	Problem *api.Problem `json:"problem"`
}

func badKey(name, digest string) string { return name + " " + digest }

// FormerModule is a fixed module that was on the disk.
type FormerModule struct {
	Name    string `json:"name"`
	BuildID string `json:"fixed"`
}

// guardModules looks at a start how the boots ended that had fixed modules
// which are not confirmed: those of other kernels too, for a person may have
// booted this one because of that.
func (a *Agent) guardModules(h *Host) error {
	s, bad := a.journal.view()
	if code.Of(bad) == "TS9403" {
		return nil
	}
	for _, id := range slices.Sorted(maps.Keys(s.Modules)) {
		if err := a.guardKernel(h, s.Modules[id]); err != nil {
			return err
		}
	}
	return nil
}

// guardKernel does it for one kernel.
func (a *Agent) guardKernel(h *Host, m Modules) error {
	if len(m.Files) == 0 {
		return nil
	}
	next := m
	next.Files = slices.Clone(m.Files)
	another := m.Boot != "" && m.Boot != h.BootID
	if another {
		next.Downs++
	}
	tooMany := another && next.Downs >= maxDowns
	for i := range next.Files {
		f := &next.Files[i]
		seen := f.Boot != "" && f.Boot != h.BootID
		if f.Sure || !seen && !tooMany {
			continue
		}
		why := fmt.Sprintf("%d boots in a row ended soon, and it was on the disk in each, not confirmed", next.Downs)
		kind := api.ReportHealth
		if seen {
			why, kind = "boot "+f.Boot+" ended while its first load was being watched", api.ReportCrash
		}
		if err := a.outcast(h, m.Kernel, *f, kind, code.New("TS9436", f.Name, why)); err != nil {
			return err
		}
		f.Boot, f.Seen = "", 0
	}
	if tooMany {
		next.Downs = 0
	}
	if next.Boot = ""; next.open() && m.Kernel.BuildID == h.Kernel.BuildID {
		next.Boot = h.BootID
	}
	if next.Boot == m.Boot && next.Downs == m.Downs && slices.Equal(next.Files, m.Files) {
		return nil
	}
	return a.journal.add(&Record{Modules: &next})
}

// outcast keeps a fixed module out, and tells the server.
func (a *Agent) outcast(h *Host, k api.Kernel, f FixedModule, kind api.ReportKind, why *code.Problem) error {
	a.log.Error("fixed module", "module", f.Name, "err", why)
	if err := a.journal.add(&Record{Bad: &BadModule{Name: f.Name, Digest: f.Digest, Since: time.Now().UnixMilli(), Problem: wire(why)}}); err != nil {
		return err
	}
	s, _ := a.journal.view()
	r := api.Report{Kind: kind, BootID: h.BootID, Kernel: k, Detail: clip("fixed module "+f.Name+": "+why.Error(), 8000)}
	if p, ok := s.Healthy[k.BuildID]; ok {
		r.Patch = api.Patch{ID: p.ID, Name: p.Name, Version: p.Version, Policy: p.Policy} // no state: it stays as it is
	}
	return a.journal.report(r, nil)
}

// watchModules watches the fixed builds that are loaded until they are
// confirmed. The log of the kernel is looked at now, and at the end of the watch.
func (a *Agent) watchModules(ctx context.Context, h *Host) error {
	s, _ := a.journal.view()
	m := s.Modules[h.Kernel.BuildID]
	var due time.Time
	defer func() {
		var before time.Time
		a.see(func(m *moment) { before, m.modulesDue = m.modulesDue, due })
		if !due.Equal(before) {
			a.Kick() // the loop may rest for longer, when it was not it that came here
		}
	}()
	if len(m.Files) == 0 || m.Changing {
		return nil
	}
	now := time.Now()
	next := m
	next.Files = slices.Clone(m.Files)
	soonest := func(t time.Time) {
		if due.IsZero() || t.Before(due) {
			due = t
		}
	}
	put := h.Booted
	for i := range next.Files {
		f := &next.Files[i]
		if at := time.UnixMilli(f.Put); at.After(put) {
			put = at
		}
		loaded, is := loadedModule(h, f.Name)
		_, bad := s.Bad[badKey(f.Name, f.Digest)]
		if f.Sure || bad || !is || loaded.BuildID != f.BuildID {
			continue
		}
		if f.Boot != h.BootID {
			f.Boot, f.Seen = h.BootID, now.UnixMilli()
		}
		if line := a.complaint(ctx, h, *f); line != "" {
			if err := a.outcast(h, h.Kernel, *f, api.ReportHealth, code.New("TS9437", f.Name, "the kernel said: "+line)); err != nil {
				return err
			}
			f.Boot, f.Seen = "", 0
			continue
		}
		end := time.UnixMilli(f.Seen).Add(time.Duration(a.cfg.Health.Watch))
		if now.Before(end) {
			soonest(end)
			continue
		}
		f.Boot, f.Seen, f.Sure = "", 0, true
		if err := a.event(h, "fixed module "+f.Name+" is loaded and confirmed"); err != nil {
			return err
		}
	}
	if next.Boot == h.BootID && (!next.open() || now.Sub(put) >= lasting) {
		next.Boot, next.Downs = "", 0
	}
	if next.Boot == m.Boot && slices.Equal(next.Files, m.Files) {
		return nil
	}
	return a.journal.add(&Record{Modules: &next})
}

// complaint is what the kernel has said of a fixed module since it can have
// been loaded.
func (a *Agent) complaint(ctx context.Context, h *Host, f FixedModule) string {
	since := h.Booted
	if at := time.UnixMilli(f.Put); at.After(since) {
		since = at
	}
	now, cancel := context.WithCancel(ctx)
	cancel() // what is there, and no waiting
	line, err := a.opts.Kernel.Complaint(now, since, f.Name, nil)
	if err != nil {
		a.log.Warn("kernel log", "err", err)
	}
	return line
}
