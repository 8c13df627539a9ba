// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/policy"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// Enroll makes this machine known to a server. An earlier enrolment of this
// very machine keeps its id there.
func (a *Agent) Enroll(ctx context.Context, e Enrollment) (*Machine, error) {
	ctx, end, err := a.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	host, err := a.host(ctx)
	if err != nil {
		return nil, err
	}
	secret, recipient, err := a.opts.Crypt.NewIdentity()
	if err != nil {
		return nil, err
	}
	req := api.EnrollRequest{
		Token: string(e.Token), MachineID: host.MachineID, Hostname: host.Hostname, Recipient: recipient,
		Agent: a.opts.Version, OS: host.OS, Kernel: host.Kernel,
	}
	var old *Machine
	a.see(func(m *moment) { old = m.machine })
	if old != nil && old.MachineID == host.MachineID && old.Server == e.Server {
		req.Previous = string(old.Credential)
	}
	e.Fresh = old == nil
	// What can't be kept is not asked for: an enrolment that is lost takes a
	// place on the server.
	if err := a.disk.WriteFile(identityName+".new", []byte(secret+"\n")); err != nil {
		return nil, err
	}
	m, err := a.opts.Link.Enroll(ctx, e, req)
	if err != nil {
		return nil, errors.Join(err, a.disk.Remove(identityName+".new"))
	}
	m.Schema, m.MachineID, m.Enrolled = 1, host.MachineID, time.Now().UnixMilli()
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	// The order: without its identity an enrolment is useless, and an identity
	// without its enrolment is harmless. What was cached for the old identity
	// can't be opened any more, and is fetched again.
	if err := errors.Join(
		a.disk.WriteFile(identityName, []byte(secret+"\n")),
		a.disk.WriteFile(machineName, append(b, '\n')),
		a.disk.Remove(identityName+".new"),
	); err != nil {
		return nil, err
	}
	a.see(func(now *moment) {
		now.machine, now.machineErr, now.renew = m, nil, true
		now.server, now.source, now.linkErr = nil, nil, nil
		now.assignment, now.etag, now.checkErr, now.indexErr = nil, "", nil, nil
		now.index, now.indexed = nil, time.Time{}
		now.packages, now.catalogue, now.catalogueErr = nil, nil, nil
		now.answered, now.tried = time.Time{}, time.Time{}
	})
	if err := a.event(host, "enrolled with "+m.Server); err != nil {
		return nil, err
	}
	a.Kick()
	return m, nil
}

// event journals something about the agent itself.
func (a *Agent) event(h *Host, detail string) error {
	return a.journal.report(api.Report{Kind: api.ReportAgent, BootID: h.BootID, Kernel: h.Kernel, Detail: detail}, nil)
}

// forgetCache drops the cached live patches. What is applied keeps its card,
// which says what it fixes.
func (a *Agent) forgetCache() {
	s, _ := a.journal.view()
	keep := ""
	if s.Current != nil {
		keep = cardFile(s.Current.Patch.ID)
	}
	names, err := a.disk.List(patchDir)
	if err != nil {
		return
	}
	for _, n := range names {
		if f := patchDir + "/" + n; f != keep {
			_ = a.disk.Remove(f) // unreadable from now on, and no harm
		}
	}
}

// Leave ends the enrolment. Without force the server has to hear of it.
func (a *Agent) Leave(ctx context.Context, force bool) error {
	ctx, end, err := a.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	var known bool
	a.see(func(m *moment) { known = m.machine != nil || m.machineErr != nil })
	if !known {
		return code.New("TS9416", "", "")
	}
	host, err := a.host(ctx)
	if err != nil {
		return err
	}
	if a.link() {
		var server Server
		a.see(func(m *moment) { server = m.server })
		limited, cancel := context.WithTimeout(ctx, askLimit)
		defer cancel()
		if err := server.Leave(limited); err != nil && !force {
			return code.New("TS9417", "", "").With(err)
		}
	} else if !force {
		var why error
		a.see(func(m *moment) { why = errors.Join(m.linkErr, m.machineErr) })
		return code.New("TS9417", "", "").With(why)
	}
	if err := errors.Join(a.disk.Remove(machineName), a.disk.Remove(identityName), a.disk.Remove(indexName), a.opts.Link.Forget()); err != nil {
		return err
	}
	a.forgetCache()
	a.see(func(m *moment) {
		m.machine, m.machineErr, m.server, m.source, m.linkErr = nil, nil, nil, nil, nil
		m.assignment, m.etag, m.checkErr, m.index, m.indexErr = nil, "", nil, nil, nil
		m.packages, m.catalogue, m.catalogueErr = nil, nil, nil
	})
	return a.event(host, "left its server")
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

// Clear ends the quarantine of a live patch, or lets a fixed module in again
// by its name. "journal" puts a damaged journal
// aside, and "all" ends every quarantine.
func (a *Agent) Clear(ctx context.Context, what string) ([]string, error) {
	ctx, end, err := a.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	host, err := a.host(ctx)
	if err != nil {
		return nil, err
	}
	if what == journalName {
		return []string{journalName}, a.clearJournal(host)
	}
	s, _ := a.journal.view()
	ids := []string{what}
	if what == "all" {
		ids = slices.Sorted(maps.Keys(s.Quarantined))
		for _, b := range s.Bad {
			ids = append(ids, b.Name)
		}
		slices.Sort(ids)
		ids = slices.Compact(ids)
	} else if _, ok := s.Quarantined[what]; !ok && !s.isBad(what) {
		return nil, code.New("TS9419", what, quarantineList(s))
	}
	for _, id := range ids {
		if err := a.journal.add(&Record{Clear: id}); err != nil {
			return nil, err
		}
		if err := a.event(host, "quarantine cleared: "+id); err != nil {
			return nil, err
		}
		a.mu.Lock()
		delete(a.tries, id)
		a.mu.Unlock()
	}
	a.decided(host)
	a.Kick()
	return ids, nil
}

func quarantineList(s *State) string {
	ids := slices.Sorted(maps.Keys(s.Quarantined))
	for _, b := range s.Bad {
		ids = append(ids, b.Name)
	}
	slices.Sort(ids)
	if len(ids) == 0 {
		return "nothing is in quarantine"
	}
	return fmt.Sprintf("in quarantine are %v", ids)
}

// clearJournal begins a new journal beside the damaged one.
func (a *Agent) clearJournal(h *Host) error {
	if _, bad := a.journal.view(); code.Of(bad) != "TS9403" {
		return code.New("TS9419", journalName, "the journal is not damaged")
	}
	b, err := a.disk.ReadFile(journalName)
	if err != nil {
		return diskProblem(journalName, err)
	}
	if err := a.disk.WriteFile(journalName+".damaged", b); err != nil {
		return err
	}
	if err := a.disk.Remove(journalName); err != nil {
		return err
	}
	a.journal.mu.Lock()
	a.journal.state, a.journal.good, a.journal.bad = newState(), 0, nil
	a.journal.mu.Unlock()
	a.Kick()
	return a.event(h, "the damaged journal was put aside; floors and quarantines begin anew")
}

// ApplyFile applies a live patch file that root gives. If the signed index
// offers this very file, it is as good as fetched; otherwise local must say
// that root vouches for it.
func (a *Agent) ApplyFile(ctx context.Context, file []byte, local bool) (*api.Patch, error) {
	ctx, end, err := a.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	host, err := a.host(ctx)
	if err != nil {
		return nil, err
	}
	if host.Off {
		return nil, code.New("TS9420", "", "")
	}
	if err := a.recover(ctx, host); err != nil {
		return nil, err
	}
	p, err := livepatch.Read(file)
	if err != nil {
		return nil, err
	}
	if p.Manifest.Userland() {
		return a.applyPackageFile(ctx, host, file, p)
	}
	if err := fits(p, host.Kernel); err != nil {
		return nil, err
	}
	m := &p.Manifest
	o := trust.Offer{
		ID: trust.PatchID(m.Target.Name, m.Version), Name: m.Name, Version: m.Version,
		Digest: digest(file), Size: int64(len(file)), CVEs: m.CVEs(),
	}
	s, _ := a.journal.view()
	var x *trust.Index
	var applied *api.Patch
	a.see(func(m *moment) { x = m.index })
	if a.current(s, host) > 0 {
		applied = &s.Current.Patch
	}
	if err := mayApply(s, host.Kernel.BuildID, x, applied, o, local); err != nil {
		return nil, err
	}
	c, err := a.takeFile(s, o, p, file)
	if err != nil {
		return nil, err
	}
	ref := c.ref()
	err = a.load(ctx, host, o.ID, false)
	if err != nil {
		if _, ok := errors.AsType[settled](err); !ok && ctx.Err() == nil {
			err = errors.Join(err, a.noteOnce(host, ref, api.Blocked, problemOf("TS9400", o.ID, err)))
		}
	}
	a.decided(host)
	if err != nil {
		a.localFailed(ref, err)
	}
	a.Kick()
	if s, _ = a.journal.view(); s.Current != nil && s.Current.Patch.ID == ref.ID {
		ref = s.Current.Patch
	}
	return &ref, err
}

// mayApply holds for a file what policy holds for an offer of index x, for the
// kernel or package id.
func mayApply(s *State, id string, x *trust.Index, applied *api.Patch, o trust.Offer, local bool) error {
	if applied != nil && applied.ID == o.ID {
		return code.New("TS9421", o.ID, "")
	}
	if q, ok := s.Quarantined[o.ID]; ok {
		why := ""
		if q.Problem != nil {
			why = q.Problem.What
		}
		return code.New("TS9422", o.ID, why)
	}
	offered := false
	floor := s.Floors[floorKey(id, "")]
	if x != nil {
		floor = s.Floors[floorKey(id, x.Policy)]
		line := x.Policy
		if was, ok := s.Healthy[id]; ok && was.ID == o.ID {
			line = was.Policy // it was here before, of that one
		}
		if why := policy.Barred(x, o.Version, line); why != "" {
			return code.New("TS9415", o.ID, why)
		}
		offered = slices.ContainsFunc(x.Patches, func(p trust.Offer) bool { return p.Digest == o.Digest })
		floor = policy.Bar(x, floor)
	}
	if o.Version < floor {
		return code.New("TS9423", o.ID, fmt.Sprintf("it is version %d, this machine had version %d", o.Version, floor))
	}
	if !offered && !local {
		return code.New("TS9424", o.ID, "")
	}
	return nil
}

// takeFile takes a file of root into the cache. That it was taken out by hand
// before does not count any more.
func (a *Agent) takeFile(s *State, o trust.Offer, p *livepatch.Patch, file []byte) (*Card, error) {
	no := false
	if by, ok := s.ByHand[o.ID]; ok {
		if err := a.journal.add(&Record{ByHand: &no, Patch: &by}); err != nil {
			return nil, err
		}
	}
	c, err := newCard(o, "", p, file, "")
	if err != nil {
		return nil, err
	}
	return c, a.keep(c, file)
}
