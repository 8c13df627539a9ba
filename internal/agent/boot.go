// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/policy"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// Start makes sense of what the last run of the agent left, and puts back what
// this machine had before the boot. It needs no network. Why something could
// not be done is in the journal and in status.
func (a *Agent) Start(ctx context.Context) {
	ctx, end, err := a.begin(ctx)
	if err != nil {
		return
	}
	defer end()
	host, err := a.host(ctx)
	if err != nil {
		a.log.Error("host", "err", err)
		return
	}
	a.arrive(host)
	x := a.cachedIndex(host.Kernel.BuildID)
	a.see(func(m *moment) { m.index = x })
	err = a.recover(ctx, host)
	if gerr := a.guardModules(host); err == nil {
		err = gerr
	}
	if err == nil && !host.Off {
		err = a.again(ctx, host)
	}
	if err != nil && ctx.Err() == nil {
		p := problemOf("TS9400", "", err)
		a.log.Error("start", "err", p)
		a.see(func(m *moment) { m.problem = p })
	}
	a.tend(ctx)
	d := a.decide(host, time.Now())
	a.see(func(m *moment) { m.decision = &d })
	if err := a.startPackages(ctx, host); err != nil && ctx.Err() == nil {
		a.log.Error("start", "err", err)
	}
}

// recover ends what an earlier run began. An intent of another boot that was
// not confirmed is taken for the reason that the boot ended: that live patch
// is not loaded again before a person says so.
func (a *Agent) recover(ctx context.Context, h *Host) error {
	s, bad := a.journal.view()
	if code.Of(bad) == "TS9403" {
		return bad
	}
	i := s.Intent
	switch {
	case i == nil:
		return a.compare(ctx, h)
	case i.Boot == h.BootID && i.Patch.State == api.Applied && !i.Stopped && a.nurse.busy():
		return a.compare(ctx, h)
	case i.Boot == h.BootID:
		return a.resume(ctx, h, i)
	case i.Stopped:
		return a.noteAt(h, i, api.Known, nil)
	default:
		why := code.New("TS9504", i.Patch.ID, "it was "+string(i.Patch.State)+" when that boot ended")
		a.log.Error("crash guard", "patch", i.Patch.ID, "state", string(i.Patch.State))
		return a.noteAt(h, i, api.Quarantined, why)
	}
}

// noteAt journals the end of an intent of another boot, under the kernel that
// it was for.
func (a *Agent) noteAt(h *Host, i *Intent, s api.State, why *code.Problem) error {
	return a.note(h, i.Patch, s, because(why), func(r *api.Report) {
		r.Kernel = i.Kernel
		if s == api.Quarantined {
			r.Kind = api.ReportCrash
			r.Detail = "boot " + i.Boot + " ended before it was confirmed"
		}
	})
}

// resume goes on in the same boot with what the kernel shows now.
func (a *Agent) resume(ctx context.Context, h *Host, i *Intent) error {
	loaded, err := a.opts.Kernel.Loaded(ctx)
	if err != nil {
		return err
	}
	n := slices.IndexFunc(loaded, func(l Loaded) bool { return l.Name == i.Patch.Name })
	card := a.cardOf(i.Patch)
	old := ""
	s, _ := a.journal.view()
	if c := s.Current; c != nil && c.Boot == h.BootID && c.Patch.Name != i.Patch.Name {
		old = c.Patch.Name
	}
	v := visit{card: card, again: s.Healthy[h.Kernel.BuildID].ID == i.Patch.ID, since: time.UnixMilli(i.Patch.Since)}
	switch {
	case n < 0 && i.Patch.State == api.Applied:
		return a.compare(ctx, h)
	case n < 0:
		// The agent ended between its note and the kernel's work.
		return a.note(h, i.Patch, api.Known)
	case i.Patch.State == api.Applied && loaded[n].Enabled && !loaded[n].Transition:
		if err := a.note(h, i.Patch, api.Applied, func(r *api.Report) { r.Transition = s.Current.Transition }); err != nil {
			return err
		}
		a.nurse.call(v)
		return nil
	case !loaded[n].Enabled:
		return a.giveUp(ctx, h, i.Patch, Transition{}, code.New("TS9501", i.Patch.Name, "it was being reversed"))
	default:
		if err := a.note(h, i.Patch, api.Transitioning); err != nil {
			return err
		}
		return a.transition(ctx, h, card, old, v)
	}
}

// again applies what was confirmed under this kernel before. It is read from
// the cache and verified anew. The signed index of the last check-in is obeyed
// where it forbids; that it may have expired since does not matter here,
// because nothing new is loaded: a machine that was off for a month is not
// left without the protection that it had.
func (a *Agent) again(ctx context.Context, h *Host) error {
	s, bad := a.journal.view()
	p, ok := s.Healthy[h.Kernel.BuildID]
	if code.Of(bad) == "TS9403" {
		return bad
	}
	if !ok || a.current(s, h) > 0 || s.Intent != nil {
		return nil
	}
	if _, no := s.Quarantined[p.ID]; no {
		return nil
	}
	if _, no := s.ByHand[p.ID]; no {
		return nil
	}
	var x *trust.Index
	a.see(func(m *moment) { x = m.index })
	if x != nil {
		if why := policy.Barred(x, p.Version, p.Policy); why != "" {
			a.log.Warn("not applied again", "patch", p.ID, "why", why)
			return a.noteOnce(h, p, api.Blocked, code.New("TS9415", p.ID, why))
		}
	}
	err := a.load(ctx, h, p.ID, true)
	if err == nil || ctx.Err() != nil {
		return err
	}
	pr := problemOf("TS9400", p.ID, err)
	if _, ok := errors.AsType[settled](err); !ok {
		if nerr := a.noteOnce(h, p, api.Blocked, pr); nerr != nil {
			a.log.Error("journal", "err", nerr)
		}
	}
	a.failed(p.ID, pr)
	return pr
}
