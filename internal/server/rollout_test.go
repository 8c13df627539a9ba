// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/publish"
	"github.com/tsugi-project/tsugi/internal/rollout"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/testenv"
)

// pool are machines of a site that behave as agents do, and what each was given.
type pool struct {
	s     *site
	hosts []*host
	sick  func(i int) bool // whether machine i goes down when it loads the live patch
	given map[string]int   // how often a machine was given a key that it had not
	loads map[int]int      // how often machine i loaded it
	seq   int
}

func newPool(s *site, n int, tier string) *pool {
	p := &pool{s: s, given: map[string]int{}, loads: map[int]int{}, sick: func(int) bool { return false }}
	token := s.token(func(in *api.NewToken) { in.Tier = tier }).Secret
	for i := range n {
		h := s.enroll(token, fmt.Sprintf("m%d", i))
		h.checkIn(s.t)
		p.hosts = append(p.hosts, h)
	}
	return p
}

func (p *pool) has(i int) bool { return p.hosts[i].report.Patch.State == api.Healthy }

// round lets each machine check in once, and do what its answer lets it do:
// load the newest that it has a key for.
func (p *pool) round(patch string, version int) {
	t := p.s.t
	t.Helper()
	for i, h := range p.hosts {
		a := h.checkIn(t)
		if a == nil {
			continue
		}
		if a.Keys[patch] == "" {
			continue
		}
		p.given[patch]++
		if h.report.Patch.ID == patch {
			continue
		}
		p.loads[i]++
		load := api.Patch{ID: patch, Name: "tsugi_ext4", Version: version, State: api.Loading, Since: 5}
		p.report(h, api.ReportState, load)
		h.report.Patch = load
		if p.sick(i) {
			h.report.BootID += "-again"
			load.State = api.Quarantined
			p.report(h, api.ReportCrash, load)
			h.report.Patch = load
			h.checkIn(t)
			continue
		}
		load.State = api.Healthy
		p.report(h, api.ReportState, load)
		h.report.Patch = load
		h.checkIn(t)
	}
}

func (p *pool) report(h *host, kind api.ReportKind, patch api.Patch) {
	p.seq++
	_, err := h.Report(p.s.t.Context(), []api.Report{{
		ID: fmt.Sprint(p.seq), Time: 1, Kind: kind, BootID: h.report.BootID, Kernel: testKernel, Patch: patch,
	}})
	qt.Assert(p.s.t, qt.IsNil(err))
}

func (p *pool) with() (n int) {
	for i := range p.hosts {
		if p.has(i) {
			n++
		}
	}
	return n
}

// pass lets time go by, in which machines are heard, and rollouts are looked at.
func (p *pool) pass(d time.Duration, patch string, version int) {
	p.s.shift.Add(int64(d))
	p.round(patch, version)
	p.s.look()
	p.round(patch, version)
}

// look has the rollouts looked at by now.
func (s *site) look() {
	s.t.Helper()
	qt.Assert(s.t, qt.IsNil(s.rollOnce(s.t.Context())))
}

// calm is a site whose rollouts are looked at when the test says so.
func calm(t *testing.T, dsn string) *site {
	quiet := func(o *Options) { o.RolloutInterval = -1 }
	if dsn == "" {
		return newSite(t, quiet)
	}
	return siteOn(t, dsn, quiet)
}

func quickPlan() *api.RolloutPlan {
	return &api.RolloutPlan{
		Waves:       []api.RolloutWave{{Upto: "2", Soak: "1h"}, {Upto: "50%", Soak: "1h"}, {Upto: "100%"}},
		MaxInFlight: "100%", Ramp: 1000, Settle: "5m", Watch: "1h", Patience: "24h",
	}
}

// begin publishes version 1 into edge and begins a rollout of it in beta.
func (s *site) begin(plan *api.RolloutPlan) (*api.LivePatch, *api.Rollout) {
	s.t.Helper()
	p := s.publishVersion(1)
	r, err := s.admin.CreateRollout(s.t.Context(), api.NewRollout{LivePatch: p.ID, Tier: "beta", Plan: plan})
	qt.Assert(s.t, qt.IsNil(err))
	qt.Check(s.t, qt.Equals(r.Phase, api.RolloutPending))
	return p, r
}

func (s *site) stands(id string) *api.Rollout {
	s.t.Helper()
	r, err := s.admin.Rollout(s.t.Context(), id)
	qt.Assert(s.t, qt.IsNil(err))
	return r
}

// TestARolloutGoesInWaves: a real server over HTTP, twenty machines, and nobody
// has a key before their wave.
func TestARolloutGoesInWaves(t *testing.T) {
	t.Parallel()
	waves(t, calm(t, ""))
}

func TestARolloutGoesInWavesOnPostgreSQL(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a PostgreSQL")
	}
	waves(t, calm(t, testenv.Postgres(t)))
}

func waves(t *testing.T, s *site) {
	m := newPool(s, 20, "beta")
	p, r := s.begin(quickPlan())
	qt.Check(t, qt.DeepEquals(s.livePatchOf(p.ID).Tiers, []string{"edge", "beta"}))
	m.round(p.ID, 1)
	qt.Check(t, qt.Equals(m.given[p.ID], 0)) // it is published, and nobody may have it
	one, err := s.admin.Machine(t.Context(), m.hosts[0].enrolled.Machine)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(one.Protection, api.Unprotected))
	qt.Check(t, qt.StringContains(one.Reason, "its rollout has not come"))
	qt.Assert(t, qt.IsNotNil(one.Rollout))
	qt.Check(t, qt.Equals(one.Rollout.Word, string(rollout.WaitsStart)))

	s.look()
	m.round(p.ID, 1)
	qt.Check(t, qt.Equals(m.with(), 2))
	for range 4 { // within the soak nothing more happens
		m.pass(6*time.Minute, p.ID, 1)
	}
	qt.Check(t, qt.Equals(m.with(), 2))
	now := s.stands(r.ID)
	qt.Check(t, qt.Equals(now.Wave, 1))
	qt.Check(t, qt.Equals(now.Health.Well, 2))
	qt.Check(t, qt.Equals(now.Waves[0].State, "soaks"))
	qt.Check(t, qt.Equals(now.Waves[0].Well, 2))
	waiting := slices.IndexFunc(m.hosts, func(h *host) bool { return h.report.Patch.ID == "" })
	why, err := s.admin.ExplainRollout(t.Context(), r.ID, m.hosts[waiting].enrolled.Machine)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(why.Word, string(rollout.WaitsSoak)), qt.Commentf("%s", why.Why))
	qt.Check(t, qt.IsTrue(why.Until > 0))

	for range 6 {
		m.pass(12*time.Minute, p.ID, 1)
	}
	qt.Check(t, qt.Equals(m.with(), 10))
	for range 16 {
		m.pass(10*time.Minute, p.ID, 1)
	}
	qt.Check(t, qt.Equals(m.with(), 20))
	now = s.stands(r.ID)
	qt.Check(t, qt.Equals(now.Phase, api.RolloutDone), qt.Commentf("%s", now.Reason))
	for i := range m.hosts {
		qt.Check(t, qt.Equals(m.loads[i], 1)) // nothing twice, nobody left out
	}
	steps, err := s.admin.RolloutSteps(t.Context(), r.ID, "")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(steps.Items[0].What, string(rollout.Finish)))
	qt.Check(t, qt.Equals(steps.Items[len(steps.Items)-1].What, string(rollout.Begin)))

	// Whoever comes later has it at once.
	late := newPool(s, 1, "beta")
	late.hosts[0].etag = ""
	late.round(p.ID, 1)
	qt.Check(t, qt.Equals(late.with(), 1))
	_, err = s.admin.CreateRollout(t.Context(), api.NewRollout{LivePatch: p.ID, Tier: "beta"})
	refused(t, err, http.StatusConflict, "TS8107")

	// Long after it is shown as it ended, and its machines need no memory,
	// unless somebody works with them.
	s.shift.Add(int64(3 * time.Hour))
	s.look()
	rec := s.rollouts.byID(r.ID)
	qt.Assert(t, qt.IsTrue(rec.rests()))
	now = s.stands(r.ID)
	qt.Check(t, qt.Equals(now.Health.Well, 20))
	for _, w := range now.Waves {
		qt.Check(t, qt.Equals(w.State, "over"), qt.Commentf("wave %d", w.Wave))
	}
	release := rec.keep()
	qt.Assert(t, qt.IsNil(s.readMachines(t.Context(), rec)))
	s.look()
	qt.Check(t, qt.IsFalse(rec.rests()))
	release()
	s.look()
	qt.Check(t, qt.IsTrue(rec.rests()))
}

// TestAMachineThatWaitsAtAnotherServerHearsThatARolloutIsDone: it may have the
// live patch from then on, and no line of the rollout names it.
func TestAMachineThatWaitsAtAnotherServerHearsThatARolloutIsDone(t *testing.T) {
	t.Parallel()
	s := calm(t, "")
	h := newPool(s, 1, "beta").hosts[0]
	_, r := s.begin(&api.RolloutPlan{Start: s.clock().Add(time.Hour).Format(time.RFC3339)})
	qt.Assert(t, qt.IsNil(s.catchUp(t.Context())))
	h.checkIn(t)
	first := s.Server
	done := make(chan bool)
	go func() {
		changed, err := h.Wait(t.Context(), h.etag, time.Minute)
		qt.Check(t, qt.IsNil(err))
		done <- changed
	}()
	eventually(t, "it waits", func() bool { return first.waiters.number() == 1 })
	s.start(func(o *Options) { o.RolloutInterval = -1 })
	begun := time.Now()
	qt.Assert(t, qt.IsNil(s.commit(t.Context(), s.rollouts.byID(r.ID), rollout.Step{What: rollout.Finish, Why: "all have it"}, s.clock())))
	qt.Check(t, qt.IsTrue(<-done))
	qt.Check(t, qt.IsTrue(time.Since(begun) < 40*time.Second))
}

// leaving is a publisher whose caller goes away as it begins.
type leaving struct {
	Publisher
	leave func()
}

func (l *leaving) Promote(ctx context.Context, id, tier, actor string, checks ...publish.Check) (store.LivePatch, error) {
	l.leave()
	return l.Publisher.Promote(ctx, id, tier, actor, checks...)
}

// TestARolloutIsMadeWholeWhoeverGoesAway: what was stored is carried on.
func TestARolloutIsMadeWholeWhoeverGoesAway(t *testing.T) {
	t.Parallel()
	ctx, leave := context.WithCancel(t.Context())
	s := newSite(t, func(o *Options) {
		o.RolloutInterval, o.Publish = -1, &leaving{o.Publish, leave}
	})
	p := s.publishVersion(1)
	r, err := s.newRollout(ctx, "ann", p.ID, "beta", nil)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(r.phase(), rollout.Pending))
	qt.Check(t, qt.DeepEquals(s.livePatchOf(p.ID).Tiers, []string{"edge", "beta"}))
}

func (s *site) livePatchOf(id string) *api.LivePatch {
	s.t.Helper()
	p, err := s.admin.LivePatch(s.t.Context(), id)
	qt.Assert(s.t, qt.IsNil(err))
	return p
}

// TestASickWaveHaltsTheRollout: the first machines go down, nobody else gets it,
// and a person has it taken out.
func TestASickWaveHaltsTheRollout(t *testing.T) {
	t.Parallel()
	s := calm(t, "")
	m := newPool(s, 20, "beta")
	m.sick = func(int) bool { return len(m.loads)%2 == 1 } // the first, and not the second
	p, r := s.begin(quickPlan())
	s.look()
	m.round(p.ID, 1)
	s.look()
	now := s.stands(r.ID)
	qt.Check(t, qt.Equals(now.Phase, api.RolloutHalted))
	qt.Check(t, qt.StringContains(now.Reason, "crashed"))
	qt.Check(t, qt.Equals(s.livePatchOf(p.ID).Blocked, 0)) // the gate decides, not the first report
	// The server may have seen the first go down before the second came.
	had := len(m.loads)
	qt.Check(t, qt.IsTrue(had == 1 || had == 2))
	for range 10 {
		m.pass(time.Hour, p.ID, 1)
	}
	qt.Check(t, qt.Equals(len(m.loads), had))
	_, err := s.admin.TellRollout(t.Context(), r.ID, "skip", "")
	qt.Assert(t, qt.IsNil(err))
	m.pass(time.Minute, p.ID, 1)
	qt.Check(t, qt.Equals(len(m.loads), had)) // a wave that is skipped lets none begin over budget
	qt.Check(t, qt.Equals(s.stands(r.ID).Phase, api.RolloutHalted))

	_, err = s.admin.TellRollout(t.Context(), r.ID, "revert", "")
	refused(t, err, http.StatusUnprocessableEntity, "TS8104")
	now, err = s.admin.TellRollout(t.Context(), r.ID, "revert", "it crashes")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(now.Phase, api.RolloutReverting))
	s.look()
	qt.Check(t, qt.IsTrue(s.livePatchOf(p.ID).Recall))
	for _, h := range m.hosts {
		h.checkIn(t)
		if h.report.Patch.State == api.Healthy {
			h.report.Patch.State = api.Reverted
			h.checkIn(t)
		}
	}
	s.look()
	now = s.stands(r.ID)
	qt.Check(t, qt.Equals(now.Phase, api.RolloutAborted), qt.Commentf("%s", now.Reason))
	s.shift.Add(int64(3 * time.Hour)) // nobody looks any more: it is shown as it ended
	s.look()
	then := s.stands(r.ID)
	qt.Check(t, qt.DeepEquals(then.Health.Failed, now.Health.Failed))
	qt.Check(t, qt.DeepEquals(then.Waves, now.Waves))
	rec := s.rollouts.byID(r.ID)
	rec.counted = nil
	_, err = s.rolloutStanding(t.Context(), rec)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsNil(rec.counted), qt.Commentf("no machine was visited"))
	audit, err := s.admin.Audit(t.Context(), client.AuditFilter{Limit: 100})
	qt.Assert(t, qt.IsNil(err))
	for _, action := range []string{"rollout.create", "rollout.begin", "rollout.halt", "rollout.revert", "rollout.recall", "rollout.close", "rollout.fail"} {
		qt.Check(t, qt.IsTrue(slices.ContainsFunc(audit.Items, func(e api.AuditEntry) bool { return e.Action == action && e.Object == r.ID })), qt.Commentf("%s", action))
	}
}

// TestARolloutOutlivesServers: in the middle of a wave one server goes and
// another comes, and then two work at once.
func TestARolloutOutlivesServers(t *testing.T) {
	t.Parallel()
	replicas(t, calm(t, ""))
}

func TestARolloutOutlivesServersOnPostgreSQL(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a PostgreSQL")
	}
	replicas(t, calm(t, testenv.Postgres(t)))
}

func replicas(t *testing.T, s *site) {
	m := newPool(s, 20, "beta")
	p, r := s.begin(quickPlan())
	s.look()
	first := s.Server
	s.start(func(o *Options) { o.RolloutInterval = -1 })
	second := s.Server
	rec := second.rollouts.byID(r.ID)
	qt.Assert(t, qt.IsNotNil(rec)) // read from the store
	qt.Check(t, qt.Equals(rec.phase(), rollout.Running))
	// Machines ask either.
	m.round(p.ID, 1)
	for i, h := range m.hosts {
		if i%2 == 0 {
			h.Client = s.client(h.enrolled.Credential)
		}
	}
	both := func(d time.Duration) {
		s.shift.Add(int64(d))
		m.round(p.ID, 1)
		qt.Assert(t, qt.IsNil(first.catchUp(t.Context())))
		qt.Assert(t, qt.IsNil(second.catchUp(t.Context())))
		// They do it at the same time, as if there were no lease.
		var wg sync.WaitGroup
		for _, srv := range []*Server{first, second} {
			wg.Go(func() { moveAll(t, srv) })
		}
		wg.Wait()
		qt.Assert(t, qt.IsNil(first.catchUp(t.Context())))
		qt.Assert(t, qt.IsNil(second.catchUp(t.Context())))
		m.round(p.ID, 1)
	}
	for n := 0; n < 60 && s.stands(r.ID).Phase != api.RolloutDone; n++ {
		both(7 * time.Minute)
		now := s.stands(r.ID)
		qt.Assert(t, qt.IsTrue(m.with() <= []int{2, 10, 20}[now.Wave-1]), qt.Commentf("wave %d: %d", now.Wave, m.with()))
	}
	now := s.stands(r.ID)
	qt.Check(t, qt.Equals(now.Phase, api.RolloutDone), qt.Commentf("%s", now.Reason))
	qt.Check(t, qt.Equals(m.with(), 20))
	for i := range m.hosts {
		qt.Check(t, qt.Equals(m.loads[i], 1))
	}
	// Both know the same.
	qt.Check(t, qt.Equals(first.rollouts.byID(r.ID).revision(), second.rollouts.byID(r.ID).revision()))
}

// moveAll moves all rollouts on, whoever has the lease.
func moveAll(t *testing.T, s *Server) {
	s.rolling.turn.Lock()
	defer s.rolling.turn.Unlock()
	for _, r := range s.rollouts.list() {
		qt.Check(t, qt.IsNil(s.moveOn(t.Context(), r)))
	}
}

// TestTheLeaseGoesToAnotherServer: the one that has it is gone without a word.
func TestTheLeaseGoesToAnotherServer(t *testing.T) {
	t.Parallel()
	s := calm(t, "")
	leads := func(srv *Server) bool {
		qt.Assert(t, qt.IsNil(srv.rollOnce(t.Context())))
		return srv.rolling.until.Load() > 0
	}
	first := s.Server
	qt.Check(t, qt.IsTrue(leads(first)))
	since := first.rolling.since.Load()
	s.start(func(o *Options) { o.RolloutInterval = -1 })
	qt.Check(t, qt.IsFalse(leads(s.Server)))
	s.shift.Add(int64(leaseTime + time.Second))
	qt.Check(t, qt.IsTrue(leads(s.Server)))
	qt.Check(t, qt.IsFalse(leads(first)))
	qt.Check(t, qt.Equals(s.rolling.since.Load(), since)) // machines were heard all the time
	s.shift.Add(int64(time.Hour))
	qt.Check(t, qt.IsTrue(leads(first)))
	qt.Check(t, qt.IsTrue(first.rolling.since.Load() > since)) // and now they were not
}

// TestATierThatGetsLivePatchesByRolloutsOnly: what is published there waits for
// a rollout, which begins by itself; what was there before is everybody's.
func TestATierThatGetsLivePatchesByRolloutsOnly(t *testing.T) {
	t.Parallel()
	s := calm(t, "")
	m := newPool(s, 6, "edge")
	before := s.publishVersion(1)
	qt.Assert(t, qt.IsNil(s.catchUp(t.Context())))
	m.round(before.ID, 1)
	qt.Check(t, qt.Equals(m.with(), 6))
	_, err := s.admin.SetRolloutSettings(t.Context(), api.RolloutSettings{
		Tiers: map[string]api.RolloutTier{"edge": {Only: true, Plan: quickPlan()}}, Ladder: api.RolloutLadder{Rungs: []api.RolloutRung{}},
	})
	qt.Assert(t, qt.IsNil(err))
	p := s.publishVersion(2)
	qt.Assert(t, qt.IsNil(s.catchUp(t.Context())))
	for _, h := range m.hosts {
		if a := h.checkIn(t); a != nil {
			qt.Check(t, qt.Equals(a.Keys[p.ID], ""))
			qt.Check(t, qt.Not(qt.Equals(a.Keys[before.ID], "")))
		}
	}
	s.shift.Add(int64(slowly))
	s.look() // makes the rollout
	s.look() // begins it
	list, err := s.admin.Rollouts(t.Context(), client.RolloutQuery{LivePatch: p.ID})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(list.Items, 1))
	qt.Check(t, qt.Equals(list.Items[0].Phase, api.RolloutRunning))
	m.loads = map[int]int{}
	m.round(p.ID, 2)
	qt.Check(t, qt.Equals(len(m.loads), 2))

	// A machine that goes to another tier leaves; there it is nobody's turn.
	tier := "stable"
	gone := m.hosts[0].enrolled.Machine
	_, err = s.admin.ChangeMachine(t.Context(), gone, api.MachineChange{Tier: &tier})
	qt.Assert(t, qt.IsNil(err))
	a := m.hosts[0].checkIn(t)
	qt.Assert(t, qt.IsNotNil(a))
	qt.Check(t, qt.HasLen(a.Keys, 0))
}

// TestEmergencyTakesTwo: one person's yes is not enough, and nobody says it twice.
func TestEmergencyTakesTwo(t *testing.T) {
	t.Parallel()
	s := calm(t, "")
	m := newPool(s, 8, "beta")
	plan := quickPlan()
	plan.Emergency = true
	p, r := s.begin(plan)
	qt.Check(t, qt.Equals(r.Needed, 2))
	s.look()
	m.round(p.ID, 1)
	qt.Check(t, qt.Equals(m.with(), 0))
	yes := func(by string) error {
		return s.act(t.Context(), s.rollouts.byID(r.ID), rollout.Action{Verb: rollout.Approve, By: by})
	}
	qt.Assert(t, qt.IsNil(yes("ann")))
	qt.Check(t, qt.IsNotNil(yes("ann")))
	s.look()
	m.round(p.ID, 1)
	qt.Check(t, qt.Equals(m.with(), 0))
	qt.Assert(t, qt.IsNil(yes("bob")))
	s.look()
	m.round(p.ID, 1)
	qt.Check(t, qt.Equals(m.with(), 8))
}

// TestWhoApprovesIsAnotherPerson: nobody makes the account that agrees with them.
func TestWhoApprovesIsAnotherPerson(t *testing.T) {
	t.Parallel()
	s := calm(t, "")
	admin, manager := api.Grant{Role: "admin"}, api.Grant{Role: "release-manager"}
	ann, bob, carol := s.person("anna", admin), s.person("bob", admin), s.person("carol", manager)
	p := s.publishVersion(1)
	begin := func(tier string, plan *api.RolloutPlan) string {
		t.Helper()
		var r api.Rollout
		ann.do("POST", "/v1/rollouts", api.NewRollout{LivePatch: p.ID, Tier: tier, Plan: plan}, 201, &r)
		return "/v1/rollouts/" + r.ID
	}
	makes := func(who *browser, name string) *browser {
		t.Helper()
		var made api.UserMade
		who.do("POST", "/v1/users", api.NewUser{Name: name, Grants: []api.Grant{manager}}, 201, &made)
		b := s.browser()
		b.do("POST", "/v1/links/redeem", api.RedeemLink{Secret: secretOf(made.Link), Password: goodPassword}, 200, nil)
		return b
	}
	dolly, eve := makes(ann, "dolly"), makes(bob, "eve")
	root := s.browser()
	root.header.Set("Authorization", "Bearer "+s.secret)

	one := quickPlan()
	one.Approvals = 1
	at := begin("beta", one)
	ann.refused("POST", at+"/approve", api.RolloutAction{}, 403, "TS8223") // she made it
	dolly.refused("POST", at+"/approve", api.RolloutAction{}, 403, "TS8223")
	root.refused("POST", at+"/approve", api.RolloutAction{}, 403, "TS8205")
	qt.Check(t, qt.HasLen(s.stands(at[len("/v1/rollouts/"):]).Approvals, 0))
	eve.do("POST", at+"/approve", api.RolloutAction{}, 200, nil)

	// The audit log names the key that somebody used, as it does of all else.
	var key api.KeyMade
	ann.do("POST", "/v1/account/keys", api.NewKey{Name: "phone"}, 201, &key)
	phone := s.browser()
	phone.header.Set("Authorization", "Bearer "+key.Secret)
	phone.do("POST", at+"/abort", api.RolloutAction{Reason: "wrong tier"}, 200, nil)
	audit, err := s.admin.Audit(t.Context(), client.AuditFilter{Limit: 1})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(audit.Items[0].Action, "rollout.abort"))
	qt.Check(t, qt.Equals(audit.Items[0].Actor, "anna/phone"))

	// All at once takes two, whoever of them comes first.
	at = begin("candidate", quickPlan())
	bob.do("POST", at+"/hurry", api.RolloutAction{Reason: "it is exploited"}, 200, nil)
	eve.refused("POST", at+"/approve", api.RolloutAction{}, 403, "TS8223") // bob asked
	dolly.refused("POST", at+"/approve", api.RolloutAction{}, 403, "TS8223")
	ann.do("POST", at+"/approve", api.RolloutAction{}, 200, nil)
	carol.do("POST", at+"/approve", api.RolloutAction{}, 200, nil)
	qt.Check(t, qt.HasLen(s.stands(at[len("/v1/rollouts/"):]).Approvals, 2))
	// Who made an account can't agree after it either: dan is not the one who asked.
	dan := s.person("dan", admin)
	frank := makes(dan, "frank")
	urgent := quickPlan()
	urgent.Emergency = true
	at = begin("stable", urgent)
	frank.do("POST", at+"/approve", api.RolloutAction{}, 200, nil)
	dan.refused("POST", at+"/approve", api.RolloutAction{}, 403, "TS8223")
	carol.do("POST", at+"/approve", api.RolloutAction{}, 200, nil)
}

// TestABundleKeepsToTheRollout: no file brings what the rollout has not.
func TestABundleKeepsToTheRollout(t *testing.T) {
	t.Parallel()
	s := calm(t, "")
	m := newPool(s, 2, "beta")
	p, r := s.begin(&api.RolloutPlan{Waves: []api.RolloutWave{{Upto: "1", Soak: "1d"}, {Upto: "100%"}}})
	s.look()
	found, err := s.recipients(t.Context(), "beta", []string{m.hosts[0].enrolled.Machine, m.hosts[1].enrolled.Machine})
	qt.Assert(t, qt.IsNil(err))
	n := 0
	for _, f := range found {
		may, err := f.May(p.ID)
		qt.Assert(t, qt.IsNil(err))
		if may {
			n++
		}
	}
	qt.Check(t, qt.Equals(n, 1))
	qt.Check(t, qt.Equals(s.stands(r.ID).Health.Offered, 1))
}

// TestPlansAreTheSame in the API's words and in package rollout's.
func TestPlansAreTheSame(t *testing.T) {
	t.Parallel()
	in := quickPlan()
	in.Windows, in.Timezone, in.Start, in.Revert, in.Approvals = []string{"Mon-Fri 22:00-04:00"}, "Asia/Tokyo", "2026-11-22T13:00:00Z", true, 1
	in.Freezes = []api.RolloutFreeze{{From: "2026-12-20T00:00:00Z", To: "2027-01-05T00:00:00Z", Reason: "end of year"}}
	in.Budget = &api.RolloutBudget{Crashes: api.RolloutLimit{Count: 1, Percent: 0.5}, Failures: api.RolloutLimit{Count: 3}}
	p, err := planOf("plan", in)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(planOut(&p), *in))
	_, err = planOf("plan", &api.RolloutPlan{Waves: []api.RolloutWave{{Upto: "50%"}}})
	qt.Check(t, qt.Equals(code.Of(err), "TS8101"))
	_, err = planOf("plan", &api.RolloutPlan{Settle: "soon"})
	qt.Check(t, qt.Equals(code.Of(err), "TS8101"))
}

// TestTheLadderPromotes by itself, and not before it has soaked.
func TestTheLadderPromotes(t *testing.T) {
	t.Parallel()
	s := calm(t, "")
	m := newPool(s, 3, "edge")
	p := s.publishVersion(1)
	_, err := s.admin.SetRolloutSettings(t.Context(), api.RolloutSettings{Ladder: api.RolloutLadder{Rungs: []api.RolloutRung{
		{From: "edge", To: "beta", Auto: true, Soak: "2h", Well: 3},
	}}})
	qt.Assert(t, qt.IsNil(err))
	step := func(d time.Duration) []string {
		s.shift.Add(int64(d))
		s.look()
		return s.livePatchOf(p.ID).Tiers
	}
	qt.Check(t, qt.DeepEquals(step(3*time.Hour), []string{"edge"})) // no machine is well with it
	m.round(p.ID, 1)
	on, err := s.admin.Promotions(t.Context())
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(on.Items, 1))
	qt.Check(t, qt.IsTrue(on.Items[0].Ready), qt.Commentf("%s", on.Items[0].Why))
	qt.Check(t, qt.DeepEquals(step(slowly), []string{"edge", "beta"}))
	qt.Check(t, qt.DeepEquals(step(3*time.Hour), []string{"edge", "beta"}))
}
