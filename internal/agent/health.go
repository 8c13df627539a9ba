// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
)

// againWatch is how long a live patch is watched that was confirmed under this
// kernel before. It is short because a loss of power in this time quarantines
// a live patch that is known to be good.
const againWatch = 10 * time.Second

// nurse watches what was just applied, beside the loop.
type nurse struct {
	mu    sync.Mutex
	calls chan visit // nil until the agent runs as a daemon
	leave context.CancelFunc
	at    context.Context // of the visit that is under way; nil: none
}

type visit struct {
	card  *Card
	again bool
	since time.Time // of the load
	ctx   context.Context
	leave context.CancelFunc
}

// start lets the nurse work until ctx ends.
func (n *nurse) start(ctx context.Context, wg *sync.WaitGroup, care func(context.Context, visit)) {
	calls := make(chan visit, 1)
	n.mu.Lock()
	n.calls = calls
	n.mu.Unlock()
	wg.Go(func() {
		for {
			select {
			case v := <-calls:
				stop := context.AfterFunc(ctx, v.leave)
				care(v.ctx, v)
				stop()
				n.done(v)
			case <-ctx.Done():
				return
			}
		}
	})
}

// done ends a visit.
func (n *nurse) done(v visit) {
	v.leave()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.at == v.ctx {
		n.at = nil
	}
}

// busy reports whether something is watched, or can't be here.
func (n *nurse) busy() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.at != nil || n.calls == nil
}

// call asks for a watch over a live patch that is applied now. An agent that
// is no daemon leaves that to the daemon.
func (n *nurse) call(v visit) {
	n.dismiss()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.calls == nil {
		return
	}
	ctx, leave := context.WithCancel(context.Background())
	n.leave, n.at = leave, ctx
	v.ctx, v.leave = ctx, leave
	select {
	case <-n.calls: // one that was not begun
	default:
	}
	n.calls <- v
}

// dismiss ends the watch: what was watched is about to go.
func (n *nurse) dismiss() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.leave != nil {
		n.leave()
		n.leave, n.at = nil, nil
	}
}

// care watches a live patch and confirms it, or takes it out.
func (a *Agent) care(ctx context.Context, v visit) {
	found, remark := a.examine(ctx, v)
	if ctx.Err() != nil {
		return
	}
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
	s, _ := a.journal.view()
	ref := v.card.ref()
	if ctx.Err() != nil || s.Current == nil || s.Current.Patch.ID != ref.ID || s.Current.Boot != host.BootID {
		return // it went while we waited for our turn
	}
	if found == nil {
		err := a.note(host, ref, api.Healthy, func(r *api.Report) { r.Detail = remark })
		if err != nil {
			a.log.Error("journal", "err", err)
			a.see(func(m *moment) { m.problem = problemOf("TS9402", journalName, err) })
			return
		}
		a.prune()
		a.Kick()
		return
	}
	a.unhealthy(ctx, host, ref, found)
	a.Kick()
}

// examine waits for the watch to end, or for a reason to end it.
func (a *Agent) examine(ctx context.Context, v visit) (found *code.Problem, remark string) {
	watch := time.Duration(a.cfg.Health.Watch)
	if v.again {
		watch = min(watch, againWatch)
	}
	seen, cancel := context.WithTimeout(ctx, watch)
	defer cancel()
	line, err := a.opts.Kernel.Complaint(seen, v.since, v.card.Offer.Name, v.card.functions())
	switch {
	case line != "":
		return code.New("TS9503", v.card.Offer.Name, "the kernel said: "+line), ""
	case err != nil && seen.Err() == nil:
		remark = "the kernel log could not be watched: " + err.Error()
		a.log.Warn("kernel log", "err", err)
		<-seen.Done()
	}
	if ctx.Err() != nil || v.again {
		return nil, remark
	}
	return a.healthCommand(ctx, v.card.Offer.Name), remark
}

// healthCommand runs the health command, if there is one, and says why what is
// watched is not healthy.
func (a *Agent) healthCommand(ctx context.Context, name string) *code.Problem {
	argv := a.cfg.Health.Command
	if len(argv) == 0 || a.opts.Run == nil {
		return nil
	}
	limited, stop := context.WithTimeout(ctx, time.Duration(a.cfg.Health.Timeout))
	defer stop()
	out, err := a.opts.Run(limited, argv)
	if err == nil || ctx.Err() != nil {
		return nil
	}
	why := fmt.Sprintf("%s: %v", argv[0], err)
	if out = strings.TrimSpace(out); out != "" {
		why += ": " + out
	}
	return code.New("TS9503", name, clip(why, 2000))
}

// unhealthy takes a live patch out and keeps it out.
func (a *Agent) unhealthy(ctx context.Context, h *Host, ref api.Patch, why *code.Problem) {
	a.log.Error("live patch is not healthy", "patch", ref.ID, "why", why.Why)
	fill := func(r *api.Report) { r.Kind, r.Detail = api.ReportHealth, clip(why.Why, 8000) }
	if err := a.note(h, ref, api.Reverting, fill, because(why)); err != nil {
		a.log.Error("journal", "err", err)
	}
	t, err := a.opts.Kernel.Revert(ctx, ref.Name, time.Duration(a.cfg.Transition.Limit), a.tell)
	if err == nil && !t.Done {
		err = code.New("TS9502", ref.Name, holders(t.Stalls, a.cfg.Transition.Limit))
	}
	if err != nil {
		p := problemOf("TS9502", ref.Name, err)
		a.log.Error("revert", "patch", ref.ID, "err", p)
		a.see(func(m *moment) { m.problem = p })
	}
	// It is kept out even if it could not be taken out: the next boot is
	// without it.
	if err := a.note(h, ref, api.Quarantined, fill, because(why), measured(t)); err != nil {
		a.log.Error("journal", "err", err)
	}
}
