// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/policy"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// How long things take on a machine.
const (
	leastLoad, mostLoad = time.Second, 4 * time.Second // the transition
	watchTime           = 4 * time.Second              // of the health watch
	leastBoot, mostBoot = 8 * time.Second, 15 * time.Second
)

// machine is one of the fleet. One goroutine runs it.
type machine struct {
	site *site
	opts *options
	n    int
	host string
	id   trust.Identity
	c    *client.Client

	boot, run  string
	up         time.Time
	patch      api.Patch
	current    trust.Offer // what is applied; Version 0: nothing
	line       string      // policy of the index that it came from
	floor      map[string]int
	quarantine map[string]bool
	as         *api.Assignment
	etag       string
}

func newMachine(n int, s *site, o *options) *machine {
	sites := []string{"tokyo", "osaka", "nagoya", "sapporo"}
	what := []string{"web", "web", "web", "api", "api", "db", "cache", "queue"}
	m := &machine{
		site: s, opts: o, n: n, host: fmt.Sprintf("%s-%03d.%s.example", what[n%len(what)], n, sites[n/8%len(sites)]),
		floor: map[string]int{}, quarantine: map[string]bool{},
	}
	m.bootAnew(time.Duration(n%90+1) * 26 * time.Hour)
	return m
}

// bootAnew is a boot that was some time ago.
func (m *machine) bootAnew(ago time.Duration) {
	m.boot, m.run = uuid.NewString(), hex.EncodeToString(random(8))
	m.up, m.current, m.line = time.Now().Add(-ago), trust.Offer{}, ""
}

func random(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32()) // tells runs apart, no more
	}
	return b
}

// enroll makes the machine known.
func (m *machine) enroll(ctx context.Context) error {
	var err error
	if m.id, err = trust.NewIdentity(); err != nil {
		return err
	}
	c, err := m.site.client(m.n, "")
	if err != nil {
		return err
	}
	hash := sha256.Sum256(fmt.Appendf(nil, "demo fleet %s", m.host))
	a, err := c.Enroll(ctx, api.EnrollRequest{
		Token: m.site.token, MachineID: hex.EncodeToString(hash[:]), Hostname: m.host, Recipient: m.id.Recipient(), Agent: "1.0.0-demo",
		OS: "Debian GNU/Linux 12 (bookworm)", Kernel: m.opts.kernel,
	})
	if err != nil {
		return err
	}
	m.c, err = m.site.client(m.n, a.Credential)
	return err
}

// turn checks in, does what is decided, and waits.
func (m *machine) turn(ctx context.Context) error {
	a, etag, err := m.c.CheckIn(ctx, api.CheckIn{
		Agent: "1.0.0-demo", BootID: m.boot, Run: m.run, Uptime: int64(time.Since(m.up).Seconds()), Clock: time.Now().UnixMilli(),
		Kernel: m.opts.kernel, Patch: m.patch, Able: true,
	}, m.etag)
	if err != nil {
		return err
	}
	if m.etag = etag; a != nil {
		m.as = a
	}
	if m.as == nil {
		return nil
	}
	d, err := m.decide(ctx)
	if err != nil {
		return err
	}
	switch d.Action {
	case policy.Apply:
		m.apply(ctx, *d.Offer)
		return nil
	case policy.Revert:
		m.revert(ctx)
		return nil
	case policy.Keep, policy.Wait:
	}
	_, err = m.c.Wait(ctx, m.etag, time.Duration(m.as.Interval)*time.Second)
	return err
}

// live does so until the context ends. What fails is tried again, as agents do.
func (m *machine) live(ctx context.Context) {
	for ctx.Err() == nil {
		if err := m.turn(ctx); err != nil {
			m.opts.pause(ctx, between(2*time.Second, 10*time.Second))
		}
	}
}

// decide asks package policy, as the agent does, about what this machine has
// the keys of.
func (m *machine) decide(ctx context.Context) (policy.Decision, error) {
	f := policy.Facts{BuildID: m.opts.kernel.BuildID, Current: m.current.Version, Hold: m.as.Hold, InWindow: true}
	if m.as.Sequence > 0 {
		x, err := m.site.index(ctx, m.as.Tier, f.BuildID, m.as.Policy, m.as.Sequence)
		if err != nil {
			return policy.Decision{}, err
		}
		mine := *x
		mine.Patches = slices.DeleteFunc(slices.Clone(x.Patches), func(o trust.Offer) bool {
			return m.as.Keys[o.ID] == "" && o.Version != m.current.Version
		})
		f.Index = &mine
	}
	f.Floor, f.Moved = m.floor[m.as.Policy], m.current.Version > 0 && m.line != m.as.Policy
	for id := range m.quarantine {
		f.Quarantined = append(f.Quarantined, id)
	}
	return policy.Decide(f), nil
}

// say tells where a live patch stands, at once.
func (m *machine) say(ctx context.Context, kind api.ReportKind, o trust.Offer, s api.State, change ...func(*api.Report)) {
	m.patch = api.Patch{ID: o.ID, Name: o.Name, Version: o.Version, State: s, Since: time.Now().UnixMilli(), Policy: m.as.Policy}
	r := api.Report{ID: uuid.NewString(), Time: m.patch.Since, Kind: kind, BootID: m.boot, Kernel: m.opts.kernel, Patch: m.patch}
	for _, c := range change {
		c(&r)
		m.patch.Problem = r.Patch.Problem
	}
	for ctx.Err() == nil {
		if _, err := m.c.Report(ctx, []api.Report{r}); err == nil {
			return
		}
		m.opts.pause(ctx, time.Second)
	}
}

// apply loads what is offered, and goes down with it if this machine is one of
// those that do.
func (m *machine) apply(ctx context.Context, o trust.Offer) {
	m.opts.pause(ctx, between(0, 2*time.Second)) // not all in one moment
	if _, err := trust.Unwrap(m.as.Keys[o.ID], m.id); err != nil {
		m.say(ctx, api.ReportState, o, api.Blocked, func(r *api.Report) {
			r.Patch.Problem = &api.Problem{Code: "TS7105", What: "the content key can't be read", Why: err.Error()}
		})
		m.quarantine[o.ID] = true
		return
	}
	falls := m.falls(o.Version)
	m.say(ctx, api.ReportState, o, api.Loading)
	took := between(leastLoad, mostLoad)
	if !m.opts.pause(ctx, took) {
		return
	}
	m.current, m.line = o, m.as.Policy
	m.say(ctx, api.ReportState, o, api.Applied, func(r *api.Report) { r.Transition = took.Milliseconds() })
	if falls {
		m.opts.pause(ctx, between(time.Second/2, watchTime))
		m.fall(ctx, o)
		return
	}
	if !m.opts.pause(ctx, watchTime) {
		return
	}
	m.floor[m.as.Policy] = max(m.floor[m.as.Policy], o.Version)
	m.say(ctx, api.ReportState, o, api.Healthy)
}

// fall is a kernel that goes down, silently, and comes back: the crash guard
// finds what was not confirmed.
func (m *machine) fall(ctx context.Context, o trust.Offer) {
	fmt.Printf("%s goes down with %s\n", m.host, o.ID)
	before := m.boot
	if !m.opts.pause(ctx, between(leastBoot, mostBoot)) {
		return
	}
	m.bootAnew(5 * time.Second)
	m.quarantine[o.ID] = true
	m.say(ctx, api.ReportCrash, o, api.Quarantined, func(r *api.Report) {
		r.Patch.Problem = &api.Problem{
			Code: "TS9504", What: "the machine went down before the live patch was confirmed", Where: o.ID, Why: "it was applied when that boot ended",
			Fix: "see whether the live patch or the power was the reason; let it in again with: tsugi clear ID",
		}
		r.Detail = "boot " + before + " ended before it was confirmed"
	})
}

func (m *machine) revert(ctx context.Context) {
	o := m.current
	m.say(ctx, api.ReportState, o, api.Reverting)
	if !m.opts.pause(ctx, between(leastLoad, mostLoad)) {
		return
	}
	m.current, m.line = trust.Offer{}, ""
	// The way back was signed: what is below is good again.
	m.floor[m.as.Policy] = 0
	m.say(ctx, api.ReportState, o, api.Reverted)
}
