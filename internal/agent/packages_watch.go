// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
)

// How often the agent looks at what the keeper says: a look is one call of the
// system as long as that says nothing new.
const (
	listenKeeper = 5 * time.Second
	listenClose  = time.Second // while something is watched
)

// attend listens to the keeper, beside the loop, until ctx ends. It confirms what
// was watched long enough, takes out what makes programs crash, and asks for a
// check-in when a standing changes.
func (a *Agent) attend(ctx context.Context) {
	was := ""
	for ctx.Err() == nil {
		if a.hear(ctx) != nil {
			now := a.gist()
			if now != was && was != "" {
				a.Kick()
			}
			was = now
		}
		pace := listenKeeper
		if a.carePackages(ctx) {
			pace = listenClose
		}
		pause(ctx, pace)
	}
}

// gist is what of the keeper's words changes a standing: not the counts.
func (a *Agent) gist() string {
	s, _ := a.journal.view()
	var b strings.Builder
	a.see(func(m *moment) {
		k := m.keeper
		if k.Problem != nil {
			fmt.Fprint(&b, k.Problem.Code)
		} else if k.Stale != nil {
			fmt.Fprint(&b, k.Stale.Processes > 0)
		}
		for _, ref := range packageRefs(m, s) {
			fmt.Fprint(&b, " ", ref.ID, mapped(k, ref.ID) > 0)
			if c := s.Packages[ref.ID].Current; c != nil {
				p := k.Reach[c.Patch.ID].Processes
				fmt.Fprint(&b, p.Pending > 0, p.Unprotected > 0)
			}
		}
	})
	b.WriteByte('.')
	return b.String()
}

func mapped(k *KeeperStatus, id string) int {
	if k == nil {
		return 0
	}
	return k.Mapped[id]
}

// carePackages looks after all that is applied, and reports whether something is
// watched closely.
func (a *Agent) carePackages(ctx context.Context) (watched bool) {
	s, bad := a.journal.view()
	var k *KeeperStatus
	var boot string
	a.see(func(m *moment) {
		k = m.keeper
		if m.host != nil {
			boot = m.host.BootID
		}
	})
	if k == nil || code.Of(bad) == "TS9403" {
		return false
	}
	for id, now := range s.Packages {
		if now.Current == nil {
			continue
		}
		ref := PackageRef{id, now.Target}
		p := now.Current.Patch
		open := now.Intent != nil && now.Intent.Patch.ID == p.ID && now.Intent.Patch.State == api.Applied && now.Intent.Boot == boot
		if c, found := fatal(k, p.ID, open, time.Duration(a.cfg.Health.Watch)); found && (open || p.State == api.Healthy) {
			a.settlePackage(ctx, ref, p, code.New("TS9503", p.ID, c.sentence()), "")
			continue
		}
		if !open {
			continue
		}
		watched = true
		watch := time.Duration(a.cfg.Health.Watch)
		if s.Healthy[id].ID == p.ID {
			watch = min(watch, againWatch)
		}
		if time.Since(time.UnixMilli(p.Since)) < watch {
			continue
		}
		remark := ""
		if k.Deaf != nil {
			remark = "programs that crash could not be seen: " + k.Deaf.Error()
		}
		a.settlePackage(ctx, ref, p, a.healthCommand(ctx, p.ID), remark)
	}
	return watched
}

// fatal finds a crash that speaks against a live patch: any while it is watched,
// and later on those of processes that got it late.
func fatal(k *KeeperStatus, id string, open bool, watch time.Duration) (Crash, bool) {
	i := slices.IndexFunc(k.Crashes, func(c Crash) bool {
		return c.Patch == id && time.Duration(c.After)*time.Millisecond <= watch && (open || c.Late)
	})
	if i < 0 {
		return Crash{}, false
	}
	return k.Crashes[i], true
}

func (c Crash) sentence() string {
	return fmt.Sprintf("%s (pid %d) was ended by %s %s after the live patch came into it",
		c.Program, c.PID, c.Signal, Duration(time.Duration(c.After)*time.Millisecond))
}

// settlePackage confirms a live patch, or takes it out and keeps it out.
func (a *Agent) settlePackage(ctx context.Context, ref PackageRef, p api.Patch, found *code.Problem, remark string) {
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
	if c := s.Packages[ref.ID].Current; ctx.Err() != nil || c == nil || c.Patch.ID != p.ID || c.Patch.State != p.State {
		return // it went while we waited for our turn
	}
	if found == nil {
		err = a.noteOf(host, &ref, p, api.Healthy, func(r *api.Report) { r.Detail = remark })
		a.prune()
	} else {
		err = a.unhealthyPackage(ctx, host, ref, p, found)
	}
	if err != nil {
		a.log.Error("live patch of a package", "patch", p.ID, "err", err)
		pr := problemOf("TS9402", journalName, err)
		a.about(ref, func(m *packageMoment) { m.problem = pr })
	}
	after := a.decidePackage(host, ref)
	a.about(ref, func(m *packageMoment) { m.decision = &after })
	a.Kick()
}

// unhealthyPackage takes a live patch out of all processes and keeps it out.
func (a *Agent) unhealthyPackage(ctx context.Context, h *Host, ref PackageRef, p api.Patch, why *code.Problem) error {
	a.log.Error("live patch is not healthy", "patch", p.ID, "why", why.Why)
	fill := func(r *api.Report) { r.Kind, r.Detail = api.ReportHealth, clip(why.Why, 8000) }
	if err := a.noteOf(h, &ref, p, api.Reverting, fill, because(why)); err != nil {
		a.log.Error("journal", "err", err)
	}
	// The journal keeps it out if this fails: see dropQuarantined.
	if err := a.opts.Keeper.TakeBack(ctx, p.ID); err != nil {
		a.log.Error("revert", "patch", p.ID, "err", err)
		pr := problemOf("TS9661", p.ID, err)
		a.about(ref, func(m *packageMoment) { m.problem = pr })
	}
	return a.noteOf(h, &ref, p, api.Quarantined, fill, because(why))
}
