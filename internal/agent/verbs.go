// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
)

// event journals something about the agent itself.
func (a *Agent) event(h *Host, detail string) error {
	return a.journal.report(api.Report{Kind: api.ReportAgent, BootID: h.BootID, Kernel: h.Kernel, Detail: detail}, nil)
}

// Refresh checks in now and does what follows from it. What a person took out
// by hand may come back.
func (a *Agent) Refresh(ctx context.Context) error {
	var machine *Machine
	var mErr error
	a.see(func(m *moment) { machine, mErr = m.machine, m.machineErr })
	if mErr != nil {
		return mErr
	}
	if machine == nil {
		return code.New("TS9416", "", "")
	}
	s, _ := a.journal.view()
	no := false
	for _, id := range slices.Sorted(maps.Keys(s.ByHand)) {
		p := s.ByHand[id]
		if err := a.journal.add(&Record{ByHand: &no, Patch: &p}); err != nil {
			return err
		}
	}
	a.mu.Lock()
	clear(a.tries) // a person who asks does not want to wait for a backoff
	a.mu.Unlock()
	if err := a.cycle(ctx, true); err != nil {
		return err
	}
	var err error
	a.see(func(m *moment) {
		err = errors.Join(m.linkErr, m.indexErr)
		if m.problem != nil {
			err = errors.Join(err, m.problem)
		}
		for _, id := range slices.Sorted(maps.Keys(m.packages)) {
			err = errors.Join(err, errorOf(m.packages[id].problem))
		}
	})
	return err
}

// Revert takes out what is applied, or reverses the transition under way, and
// keeps it out until a person asks (refresh, apply) or a newer version comes.
func (a *Agent) Revert(ctx context.Context) (*api.Patch, error) {
	a.interrupt()
	ctx, end, err := a.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	host, err := a.host(ctx)
	if err != nil {
		return nil, err
	}
	s, _ := a.journal.view()
	var p *api.Patch
	switch {
	case s.Intent != nil && s.Intent.Boot == host.BootID:
		p = &s.Intent.Patch
	case s.Current != nil && s.Current.Boot == host.BootID:
		p = &s.Current.Patch
	default:
		return nil, code.New("TS9418", "", "")
	}
	yes := true
	out := []api.Patch{*p}
	if h, ok := s.Healthy[host.Kernel.BuildID]; ok && h.ID != p.ID {
		out = append(out, h)
	}
	for _, q := range out {
		if err := a.journal.add(&Record{ByHand: &yes, Patch: &q}); err != nil {
			// The person still gets it out; it may come back after a boot.
			a.log.Error("journal", "err", err)
		}
	}
	a.see(func(m *moment) { m.local = nil })
	err = a.takeOut(ctx, host, *p, "by hand")
	if cur := s.Current; err == nil && cur != nil && cur.Patch.ID != p.ID && cur.Boot == host.BootID {
		// The transition to a newer one was reversed; the older is still there.
		err = a.takeOut(ctx, host, cur.Patch, "by hand")
	}
	a.tend(ctx)
	a.decided(host)
	a.Kick()
	return p, err
}

// decided shows the decisions that hold now.
func (a *Agent) decided(host *Host) {
	a.decidedPackages(host)
	d := a.decide(host, time.Now())
	a.see(func(m *moment) { m.decision, m.pending, m.problem, m.retry = &d, d.Offer, nil, time.Time{} })
}

// Hold stops changes on this machine, or lets them go on.
func (a *Agent) Hold(ctx context.Context, on bool) error {
	s, _ := a.journal.view()
	if s.Hold == on {
		return nil
	}
	if err := a.journal.add(&Record{Hold: &on}); err != nil {
		return err
	}
	host, err := a.host(ctx)
	if err != nil {
		return err
	}
	a.decided(host)
	word := "held by hand"
	if !on {
		word = "no longer held by hand"
	}
	a.Kick()
	return a.event(host, word)
}
