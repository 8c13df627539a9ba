// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/livepatch"
)

// load takes a live patch of the cache into the kernel. again says that it was
// confirmed under this kernel before, and this is a new boot.
//
// The order of steps is what survives the loss of power: nothing is loaded
// before the intent is on the medium, and the intent ends only when the live
// patch is healthy, or is known not to be in the kernel.
func (a *Agent) load(ctx context.Context, h *Host, id string, again bool) (err error) {
	defer a.large()()
	defer func() {
		// Fixed modules stay out of the way of a live patch that waits for one to
		// be unloaded, or for tasks, and of no other that failed.
		if err != nil && code.Of(err) != "TS9214" && code.Of(err) != "TS9501" {
			a.see(func(m *moment) { m.giveWay = nil })
		}
	}()
	p, card, err := a.cached(id)
	if err == nil {
		err = fits(p, h.Kernel)
	}
	if err != nil {
		return err
	}
	card.policy = a.policyOf(h, id, again)
	ref := card.ref()
	if h, err = a.admit(ctx, h, p, id); err != nil {
		return err
	}
	if !again {
		if err := a.note(h, ref, api.Preflighted); err != nil {
			return err
		}
	}
	before, _ := a.journal.view()
	began := time.Now()
	a.nurse.dismiss()
	if err := a.remember(h, &p.Manifest); err != nil {
		return err
	}
	if err := a.note(h, ref, api.Loading); err != nil {
		return err // no intent, no load
	}
	if err := a.opts.Kernel.Load(ctx, p.Module(), ref.Name); err != nil {
		pr := problemOf("TS9400", ref.ID, err)
		return errors.Join(pr, a.note(h, ref, api.Blocked, because(pr)))
	}
	// From here on the kernel has it, whether the journal can be written or not.
	if err := a.note(h, ref, api.Transitioning); err != nil {
		a.log.Error("journal", "err", err)
	}
	old := ""
	if c := before.Current; c != nil && c.Boot == h.BootID && c.Patch.Name != ref.Name {
		old = c.Patch.Name
	}
	return a.transition(ctx, h, card, old, visit{card: card, again: again, since: began})
}

// admit finds out whether this host can take a live patch, and gets the fixed
// modules out of its way when they are all that it still waits for.
func (a *Agent) admit(ctx context.Context, h *Host, p *livepatch.Patch, id string) (*Host, error) {
	problems := a.preflight(ctx, h, p)
	s, _ := a.journal.view()
	_, loaded := inTheWay(s, h, p)
	others := slices.DeleteFunc(slices.Clone(problems), func(p *code.Problem) bool {
		return p.Code == "TS9214" && slices.Contains(loaded, p.Where)
	})
	if len(others) > 0 {
		return h, refusal(others)
	}
	h, moved, err := a.makeWay(ctx, h, p, id)
	if err != nil {
		return h, err
	}
	if moved {
		problems = a.preflight(ctx, h, p)
	}
	if len(problems) > 0 {
		return h, refusal(problems)
	}
	return h, nil
}

// policyOf is the policy from whose index a live patch is loaded: the one that
// the machine follows now, and what it was when it comes back after a boot.
func (a *Agent) policyOf(h *Host, id string, again bool) string {
	s, _ := a.journal.view()
	if p, ok := s.Healthy[h.Kernel.BuildID]; again && ok && p.ID == id {
		return p.Policy
	}
	policy := ""
	a.see(func(m *moment) {
		if m.index != nil {
			policy = m.index.Policy
		}
	})
	return policy
}

// ours are the live patches that this agent put into the kernel of this boot.
func (a *Agent) ours(h *Host) []*livepatch.Manifest {
	s, _ := a.journal.view()
	var out []*livepatch.Manifest
	if s.Current != nil && s.Current.Boot == h.BootID {
		out = append(out, a.cardOf(s.Current.Patch).manifest())
	}
	if s.Intent != nil && s.Intent.Boot == h.BootID {
		out = append(out, a.cardOf(s.Intent.Patch).manifest())
	}
	return out
}

// refusal makes one problem of those that preflight found: the first, with
// the others in its reason.
func refusal(problems []*code.Problem) *code.Problem {
	p := *problems[0]
	for _, o := range problems[1:] {
		p.Why += fmt.Sprintf("; also %s", o.Error())
	}
	p.Why = strings.TrimPrefix(p.Why, "; ")
	return &p
}

// transition watches the kernel switch, from the load on or where an earlier
// run of the agent left it. old is the module that is replaced, or "".
func (a *Agent) transition(ctx context.Context, h *Host, card *Card, old string, v visit) error {
	ref := card.ref()
	a.tell(nil)
	t, err := a.opts.Kernel.Watch(ctx, ref.Name, time.Duration(a.cfg.Transition.Limit), a.tell)
	switch {
	case errors.Is(context.Cause(ctx), errInterrupted):
		return settled{errInterrupted} // who interrupted takes it out
	case ctx.Err() != nil:
		return context.Cause(ctx) // the agent ends; its next run takes this up again
	case err != nil:
		return a.giveUp(ctx, h, ref, t, problemOf("TS9400", ref.ID, err))
	case !t.Done:
		return a.giveUp(ctx, h, ref, t, code.New("TS9501", ref.Name, holders(t.Stalls, a.cfg.Transition.Limit)))
	}
	a.tell(nil)
	if err := a.note(h, ref, api.Applied, measured(t)); err != nil {
		// Not confirmed, and the journal does not even know it: it must not stay.
		return a.giveUp(ctx, h, ref, t, problemOf("TS9402", journalName, err))
	}
	if old != "" {
		if err := a.opts.Kernel.Remove(ctx, old); err != nil {
			a.log.Warn("module of the replaced live patch", "module", old, "err", err)
		}
	}
	a.nurse.call(v)
	return nil
}

func (a *Agent) tell(stalls []api.Stall) {
	a.see(func(m *moment) { m.stalls = stalls })
}

func measured(t Transition) func(*api.Report) {
	return func(r *api.Report) {
		r.Transition = t.Duration.Milliseconds()
		r.Stalls = t.Stalls[:min(len(t.Stalls), 32)]
	}
}

func holders(stalls []api.Stall, limit Duration) string {
	var names []string
	for _, s := range stalls {
		name := fmt.Sprintf("%s (pid %d)", s.Comm, s.PID)
		if s.Function != "" {
			name += " in " + s.Function
		}
		names = append(names, name)
	}
	who := "tasks that the kernel does not name"
	if len(names) > 0 {
		who = strings.Join(names[:min(len(names), 5)], ", ")
		if n := len(names) - 5; n > 0 {
			who += fmt.Sprintf(" and %d more", n)
		}
	}
	return fmt.Sprintf("not over after %s; held up by %s", limit, who)
}

// giveUp reverses a transition, or takes out what was applied, and notes that
// the live patch waits for its next try.
func (a *Agent) giveUp(ctx context.Context, h *Host, ref api.Patch, t Transition, why *code.Problem) error {
	back, err := a.opts.Kernel.Revert(ctx, ref.Name, time.Duration(a.cfg.Transition.Limit), a.tell)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		why = code.New("TS9502", ref.Name, "").With(errors.Join(why, err))
	case !back.Done:
		why = code.New("TS9502", ref.Name, holders(back.Stalls, a.cfg.Transition.Limit))
	}
	if err != nil || !back.Done {
		// The kernel still has it; the intent stays, so that a boot that this
		// ends in is remembered.
		a.log.Error("live patch stays in the kernel", "patch", ref.ID, "err", why)
		return settled{why}
	}
	return settled{errors.Join(why, a.note(h, ref, api.Waiting, measured(t), because(why)))}
}

// takeOut reverts what is applied.
func (a *Agent) takeOut(ctx context.Context, h *Host, ref api.Patch, why string) error {
	a.nurse.dismiss()
	detail := func(r *api.Report) { r.Detail = why }
	if err := a.note(h, ref, api.Reverting, detail); err != nil {
		// A person or the index wants it away: that does not need the journal.
		a.log.Error("journal", "err", err)
	}
	t, err := a.opts.Kernel.Revert(ctx, ref.Name, time.Duration(a.cfg.Transition.Limit), a.tell)
	if err == nil && !t.Done {
		err = code.New("TS9502", ref.Name, holders(t.Stalls, a.cfg.Transition.Limit))
	}
	if err != nil {
		return err
	}
	a.tell(nil)
	return a.note(h, ref, api.Reverted, measured(t), detail)
}

// cardOf is the card of a live patch, or as much of one as its name gives.
func (a *Agent) cardOf(ref api.Patch) *Card {
	if c, err := a.card(ref.ID); err == nil && c != nil {
		c.policy = ref.Policy
		return c
	}
	c := &Card{policy: ref.Policy}
	c.Offer.ID, c.Offer.Name, c.Offer.Version = ref.ID, ref.Name, ref.Version
	c.Functions = []livepatch.Function{}
	return c
}
