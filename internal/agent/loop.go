// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/policy"
)

const (
	// defaultInterval is used until a server has said another.
	defaultInterval = 10 * time.Minute
	// firstRetry is how soon a check-in that failed is tried again; it doubles
	// up to the interval.
	firstRetry = 2 * time.Second
	// askLimit bounds one request to the server.
	askLimit = 30 * time.Second
	// fetchLimit bounds the refresh of metadata and the fetch of a live patch;
	// a server that is too slow is given up earlier (see trust/updater).
	fetchLimit = 10 * time.Minute
	// freshFor is how old metadata may be when something new is loaded by it,
	// and how often it is fetched when nothing seems to change.
	freshFor = time.Hour
	// pollTime is the length of one long poll.
	pollTime = 5 * time.Minute
)

// Run is the daemon: it puts back what this machine had before the boot, and
// then follows its server until ctx ends.
func (a *Agent) Run(ctx context.Context) error {
	a.see(func(m *moment) { m.running = true })
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer func() {
		a.stopped()
		a.leave(ctx)
	}()
	defer wg.Wait()
	defer stop()
	a.nurse.start(ctx, &wg, a.care)
	wg.Go(func() { a.courier(ctx) })
	a.Start(ctx)
	if a.userland() {
		wg.Go(func() { a.attend(ctx) })
	}
	a.notify("READY=1")
	for failures := 0; ctx.Err() == nil; {
		err := a.cycle(ctx, false)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			failures++
			a.log.Warn("check-in", "err", err)
		} else {
			failures = 0
		}
		a.rest(ctx, failures)
	}
	return nil
}

// stopped notes that the daemon ended in good order while a live patch or a
// fixed module was not confirmed: the kernel was alive, so a boot after this is no crash.
func (a *Agent) stopped() {
	if s, _ := a.journal.view(); s.Intent != nil && !s.Intent.Stopped || s.unsettled() {
		if err := a.journal.add(&Record{Stop: true}); err != nil {
			a.log.Error("journal", "err", err)
		}
	}
}

// rest waits until the next check-in is due: the server has news, a person
// asks, a retry or a window is due, or the interval is over.
func (a *Agent) rest(ctx context.Context, failures int) {
	now := time.Now()
	var server Server
	var etag string
	until := now.Add(defaultInterval)
	a.see(func(m *moment) {
		server, etag = m.server, m.etag
		if m.assignment != nil && m.assignment.Interval > 0 {
			until = now.Add(time.Duration(m.assignment.Interval) * time.Second)
		}
		if m.machine == nil {
			server = nil
		}
	})
	until = now.Add(jitter(until.Sub(now)))
	if failures > 0 {
		back := min(firstRetry<<min(failures-1, 12), until.Sub(now))
		until, etag = now.Add(jitter(back)), ""
	}
	if at := a.due(now); !at.IsZero() && at.Before(until) {
		until = at
	}
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	var wg sync.WaitGroup
	if server != nil && etag != "" {
		wg.Go(func() {
			defer cancel()
			a.poll(ctx, server, etag, until)
		})
	}
	select {
	case <-a.kick:
	case <-ctx.Done():
	}
	cancel()
	wg.Wait()
}

// poll asks the server to say when there is news. It returns then, or when
// asking makes no sense.
func (a *Agent) poll(ctx context.Context, server Server, etag string, until time.Time) {
	for ctx.Err() == nil {
		left := min(time.Until(until), pollTime)
		if left < time.Second {
			<-ctx.Done()
			return
		}
		began := time.Now()
		news, err := server.Wait(ctx, etag, left)
		switch {
		case news:
			return
		case err != nil:
			// The server, or something between, does not keep polls: the
			// interval will do. A server that went away is asked soon.
			if time.Since(began) > 10*time.Second && errors.Is(ctx.Err(), nil) {
				pause(ctx, jitter(5*time.Second))
				return
			}
			pause(ctx, jitter(30*time.Second))
		}
	}
}

// due is when something waits to be tried again or a window opens.
func (a *Agent) due(now time.Time) time.Time {
	var at time.Time
	a.mu.Lock()
	defer a.mu.Unlock()
	if r := a.now.retry; r.After(now) {
		at = r
	}
	if w := a.now.modulesDue; w.After(now) && (at.IsZero() || w.Before(at)) {
		at = w
	}
	waits := a.now.decision != nil && a.now.decision.Action == policy.Wait
	for _, p := range a.now.packages {
		if p.retry.After(now) && (at.IsZero() || p.retry.Before(at)) {
			at = p.retry
		}
		waits = waits || p.decision != nil && p.decision.Action == policy.Wait
	}
	if waits {
		if w := a.cfg.NextWindow(now); !w.IsZero() && (at.IsZero() || w.Before(at)) {
			at = w
		}
	}
	return at
}

// jitter spreads a time by a tenth, so that a fleet does not come at once.
func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return d - d/10 + rand.N(d/5+1)
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// Kick asks for a check-in now.
func (a *Agent) Kick() {
	select {
	case a.kick <- struct{}{}:
	default:
	}
}

// cycle checks in, refreshes what changed, decides and acts. With force it
// fetches the metadata in any case.
func (a *Agent) cycle(ctx context.Context, force bool) error {
	if _, err := a.host(ctx); err != nil {
		return err
	}
	var asked error
	if a.link() {
		asked = a.checkIn(ctx, false)
		a.see(func(m *moment) { m.checkErr = asked })
		if asked == nil {
			a.refresh(ctx, force)
			a.wakeCourier()
		}
	}
	// What is known already is acted on without the server too: a window
	// opens, a retry is due.
	if err := a.act(ctx); err != nil && asked == nil {
		return nil // told by status and reports; not a failure of the check-in
	}
	return asked
}

// link sees to it that there is a connection, and reports whether there is.
func (a *Agent) link() bool {
	a.mu.Lock()
	m := &a.now
	machine, have := m.machine, m.server != nil
	host := m.host
	a.mu.Unlock()
	if machine == nil {
		return false
	}
	if host != nil && machine.MachineID != "" && machine.MachineID != host.MachineID {
		a.see(func(m *moment) {
			m.linkErr = code.New("TS9409", machineName, "it was written on another machine: this one is a copy of it")
			m.server, m.source = nil, nil
		})
		return false
	}
	if have {
		return true
	}
	server, source, err := a.opts.Link.Open(machine)
	a.see(func(m *moment) {
		m.server, m.source, m.linkErr = server, source, err
	})
	if err != nil {
		a.log.Warn("connection", "err", err)
	}
	return err == nil
}

// checkIn asks once, and once more if the server wants to know the modules.
func (a *Agent) checkIn(ctx context.Context, again bool) error {
	var server Server
	var etag string
	var host *Host
	var want []api.Wish
	a.see(func(m *moment) {
		server, etag, host = m.server, m.etag, m.host
		if m.assignment != nil {
			want = m.assignment.Want
		}
		m.tried = time.Now()
	})
	in := a.checkInOf(host, again || slices.Contains(want, api.WantModules), slices.Contains(want, api.WantStale))
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	if len(in.Modules) > 0 {
		etag = "" // the answer to this one is always new
	}
	began := time.Now()
	as, tag, err := server.CheckIn(ctx, in, etag)
	if code.Of(err) == "TS7601" && saysStale(&in) {
		// It asked for that once and is an older one now, or the one beside it is.
		leaveStale(&in)
		as, tag, err = server.CheckIn(ctx, in, etag)
	}
	if err != nil {
		return explain(err, time.Now())
	}
	a.told(host)
	now := time.Now()
	a.see(func(m *moment) {
		m.answered = now
		m.etag = tag
		if as != nil && slices.Contains(as.Want, api.WantStale) && !m.staleAsked {
			m.staleAsked = true // once: beside this server there may be an older one
			if k := m.keeper; in.Stale == nil && k != nil && k.Stale != nil && k.Stale.Processes > 0 {
				a.Kick()
			}
		}
		if as == nil {
			return
		}
		m.assignment = as
		if as.Time > 0 {
			m.skew = began.Add(now.Sub(began) / 2).Sub(time.UnixMilli(as.Time))
		}
	})
	if as != nil && slices.Contains(as.Want, api.WantModules) && !again {
		return a.checkIn(ctx, true)
	}
	return nil
}

func (a *Agent) checkInOf(h *Host, modules, stale bool) api.CheckIn {
	s, _ := a.journal.view()
	in := api.CheckIn{
		Agent: a.opts.Version, BootID: h.BootID, Run: a.run,
		Uptime: int64(time.Since(h.Booted) / time.Second), Clock: time.Now().UnixMilli(),
		Kernel: h.Kernel, Patch: a.standing(), ModulesDigest: modulesDigest(h.Modules),
		Able: len(h.Problems) == 0, Hold: s.Hold, Orderly: a.arrived(h),
	}
	for _, p := range h.Problems[:min(len(h.Problems), 30)] { // of the 32 that the server takes, two are left for what follows
		in.Problems = append(in.Problems, *wire(p))
	}
	var card *Card
	var err error
	if a.current(s, h) > 0 {
		if card, err = a.card(s.Current.Patch.ID); err == nil && card != nil {
			in.Replacements = a.standingModules(card, s, h)
		}
	} else {
		in.Replacements = leftModules(s, h)
	}
	if a.userland() {
		in.Packages = a.tellPackages(s, stale)
		if stale {
			in.Stale = a.tellStale()
		}
		if p := a.keeperProblem(s); p != nil {
			in.Problems = append(in.Problems, *wire(p))
		}
	}
	if p := takenBack(s, h, card); p != nil && err == nil {
		in.Problems = append(in.Problems, *wire(p))
	}
	if modules {
		in.Modules = h.Modules[:min(len(h.Modules), api.MaxModules)]
	}
	return in
}

// standingModules is what a check-in says about the fixed modules of what is
// applied.
func (a *Agent) standingModules(c *Card, s *State, h *Host) (out []api.Replacement) {
	if len(c.Replacements) == 0 {
		return nil
	}
	a.see(func(m *moment) {
		now := *m
		now.host = h
		out = replacements(c, s, &now)
	})
	return out
}

func modulesDigest(modules []api.Module) string {
	h := sha256.New()
	for _, m := range modules {
		io.WriteString(h, m.Name+" "+m.BuildID+"\n")
	}
	return hex.EncodeToString(h.Sum(nil))
}

// explain turns an error of a connection into what a person can do.
func explain(err error, now time.Time) error {
	if c, ok := certificateTime(err, now); ok {
		return c
	}
	if errors.Is(err, context.DeadlineExceeded) && code.Of(err) == "" {
		return code.New("TS7612", "", "no answer in "+askLimit.String())
	}
	return err
}

// refresh fetches metadata if the server has newer, if the last is old, or by
// force, and keeps the index. Its problems are for status: what is applied
// stays, and nothing new is loaded without fresh metadata.
func (a *Agent) refresh(ctx context.Context, force bool) {
	var source Source
	var as *api.Assignment
	var host *Host
	due := force
	st, _ := a.journal.view()
	a.see(func(m *moment) {
		source, as, host = m.source, m.assignment, m.host
		seq := int64(0)
		tier := ""
		policy := ""
		if m.index != nil {
			seq, tier, policy = m.index.Sequence, m.index.Tier, m.index.Policy
		}
		due = due || m.indexErr != nil || time.Since(m.indexed) >= freshFor ||
			a.userland() && stalePackages(m, st) ||
			as != nil && (as.Sequence > seq || as.Sequence > 0 && (as.Tier != tier || as.Policy != policy) || as.Sequence == 0 && seq > 0)
	})
	if !due || as == nil || source == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, fetchLimit)
	defer cancel()
	err := source.Refresh(ctx)
	if err == nil && a.userland() {
		perr := a.refreshPackages(ctx, source, as)
		a.see(func(m *moment) { m.catalogueErr = perr })
	}
	if err == nil {
		x, xerr := source.Index(ctx, as.Tier, host.Kernel.BuildID, as.Policy)
		err = xerr
		if err == nil {
			a.see(func(m *moment) { m.index, m.indexed = x, time.Now() })
			if x != nil {
				if kerr := a.keepIndex(x); kerr != nil {
					a.log.Warn("cached index", "err", kerr)
				}
			}
		}
	}
	if err != nil {
		a.log.Warn("signed metadata", "err", err)
	}
	a.see(func(m *moment) {
		m.indexErr = err
		if err != nil && m.skew.Abs() > badSkew {
			m.indexErr = clockProblem(m.skew, time.Now()).With(err)
		}
	})
}

// badSkew is a clock that is so wrong that signed metadata may look expired,
// or expired metadata fresh.
const badSkew = time.Hour

func clockProblem(skew time.Duration, now time.Time) *code.Problem {
	return code.New("TS9411", "", fmt.Sprintf("this machine says %s, its server %s",
		now.UTC().Format(time.DateTime), now.Add(-skew).UTC().Format(time.DateTime)))
}
