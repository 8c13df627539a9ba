// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/testenv"
	"github.com/tsugi-project/tsugi/internal/trust"
	"github.com/tsugi-project/tsugi/internal/trust/updater"
)

// TestALivePatchReachesAWaitingMachine is the whole way: token, enrolment,
// check-in, long poll, publication, metadata over HTTP, decryption, report.
func TestALivePatchReachesAWaitingMachine(t *testing.T) {
	t.Parallel()
	life(t, newSite(t))
}

// TestTheSameOnPostgreSQL: the queries are tested in package store; this is
// the whole of it once.
func TestTheSameOnPostgreSQL(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a PostgreSQL")
	}
	life(t, siteOn(t, testenv.Postgres(t)))
}

func life(t *testing.T, s *site) {
	token := s.token()
	e, err := api.ParseEnrollment(token.Enroll)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(e.URL, s.web.URL))
	h := s.enroll(e.Token, "web-1")
	qt.Check(t, qt.Equals(h.enrolled.Tier, "edge"))

	a := h.checkIn(t)
	qt.Assert(t, qt.IsNotNil(a))
	qt.Check(t, qt.Equals(a.Machine, h.enrolled.Machine))
	qt.Check(t, qt.Equals(a.Sequence, 0))
	qt.Check(t, qt.Equals(a.Interval, 3600))
	qt.Check(t, qt.IsNil(h.checkIn(t)))

	woken := make(chan bool)
	go func() {
		changed, err := h.Wait(t.Context(), h.etag, time.Minute)
		qt.Check(t, qt.IsNil(err))
		woken <- changed
	}()
	eventually(t, "the machine waits", func() bool { return s.waiters.number() == 1 })
	p := s.publishVersion(1)
	qt.Check(t, qt.DeepEquals(p.Tiers, []string{"edge"}))
	qt.Assert(t, qt.IsTrue(<-woken))

	a = h.checkIn(t)
	qt.Assert(t, qt.IsNotNil(a))
	qt.Assert(t, qt.Equals(a.Sequence, 1))
	key, err := trust.Unwrap(a.Keys[p.ID], h.id)
	qt.Assert(t, qt.IsNil(err))

	root, err := h.Root(t.Context())
	qt.Assert(t, qt.IsNil(err))
	tuf, err := updater.New(updater.Options{Dir: t.TempDir(), BaseURL: s.web.URL + "/tuf", HTTP: s.web.Client(), Now: s.clock})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(tuf.Bootstrap(root)))
	qt.Assert(t, qt.IsNil(tuf.Refresh(t.Context())))
	x, err := tuf.Index(t.Context(), a.Tier, testKernel.BuildID, "")
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(x.Sequence, a.Sequence))
	cipher, err := tuf.Patch(t.Context(), a.Tier, x.Patches[0])
	qt.Assert(t, qt.IsNil(err))
	plain, err := trust.Open(cipher, key, x.Patches[0].Size)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.DeepEquals(plain, artifact(t, 1)))

	m, err := s.admin.Machine(t.Context(), h.enrolled.Machine)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(m.Protection, api.Unprotected))
	qt.Check(t, qt.Equals(m.Target, p.ID))
	h.report.Patch = api.Patch{ID: p.ID, Name: "tsugi_ext4", Version: 1, State: api.Healthy, Since: 5}
	qt.Check(t, qt.IsNil(h.checkIn(t))) // stored, and the answer is the same
	m, err = s.admin.Machine(t.Context(), h.enrolled.Machine)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(m.Protection, api.Protected))
	qt.Check(t, qt.DeepEquals(m.CVEs, []string{"CVE-2026-12345"}))
	got, err := s.admin.LivePatch(t.Context(), p.ID)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(got.Machines, map[string]int{"healthy": 1}))
}

func TestAWaitEndsByItself(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	h := s.enroll(s.token().Secret, "a")
	h.checkIn(t)
	changed, err := h.Wait(t.Context(), h.etag, time.Second)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsFalse(changed))
	changed, err = h.Wait(t.Context(), `"another"`, time.Minute)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(changed))
	_, err = h.Wait(t.Context(), h.etag, 0)
	refused(t, err, http.StatusUnprocessableEntity, "TS7601")
}

func TestTooManyWaitersAreSentAway(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(o *Options) { o.MaxWaiters = 1 })
	token := s.token().Secret
	a, b := s.enroll(token, "a"), s.enroll(token, "b")
	a.checkIn(t)
	b.checkIn(t)
	done := make(chan bool)
	go func() {
		changed, err := a.Wait(t.Context(), a.etag, time.Minute)
		qt.Check(t, qt.IsNil(err))
		done <- changed
	}()
	eventually(t, "a waits", func() bool { return s.waiters.number() == 1 })
	_, err := b.Wait(t.Context(), b.etag, time.Minute)
	refused(t, err, http.StatusServiceUnavailable, "TS7610")
	hold := true
	_, err = s.admin.ChangeMachine(t.Context(), a.enrolled.Machine, api.MachineChange{Hold: &hold})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(<-done))
	qt.Check(t, qt.IsTrue(a.checkIn(t).Hold))
	eventually(t, "there is room again", func() bool { return s.waiters.number() == 0 })
}

func TestATokenThatIsNoGoodEnrollsNobody(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	enroll := func(token string) error {
		in, _ := enrollment(t, token, "x")
		_, err := s.client("").Enroll(t.Context(), in)
		return err
	}
	refused(t, enroll(api.NewCredential(api.TokenCredential)), http.StatusUnauthorized, "TS7621")
	refused(t, enroll("tst_short"), http.StatusUnauthorized, "TS7621")

	revoked := s.token()
	before := s.enroll(revoked.Secret, "before")
	qt.Assert(t, qt.IsNil(s.admin.RevokeToken(t.Context(), revoked.ID)))
	refused(t, enroll(revoked.Secret), http.StatusUnauthorized, "TS7621")
	qt.Check(t, qt.IsNotNil(before.checkIn(t))) // who came with it stays

	soon := s.token(func(n *api.NewToken) { n.Expires = s.clock().Add(time.Hour).UnixMilli() })
	s.shift.Store(int64(2 * time.Hour))
	refused(t, enroll(soon.Secret), http.StatusUnauthorized, "TS7621")

	two := s.token(func(n *api.NewToken) { n.Limit = 1 })
	s.enroll(two.Secret, "first")
	refused(t, enroll(two.Secret), http.StatusForbidden, "TS7622")
}

func TestTheFreePlanHasRoomForThree(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	three := 3
	_, err := s.admin.ChangeSettings(t.Context(), api.SettingsChange{PlanMachines: &three})
	qt.Assert(t, qt.IsNil(err))
	token := s.token().Secret
	first := s.enroll(token, "a").enrolled
	s.enroll(token, "b")
	s.enroll(token, "c")
	in, _ := enrollment(t, token, "d")
	_, err = s.client("").Enroll(t.Context(), in)
	refused(t, err, http.StatusForbidden, "TS7622")

	qt.Assert(t, qt.IsNil(s.admin.Decommission(t.Context(), first.Machine)))
	d, err := s.client("").Enroll(t.Context(), in)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Not(qt.Equals(d.Machine, first.Machine)))

	zero := 0
	set, err := s.admin.ChangeSettings(t.Context(), api.SettingsChange{PlanMachines: &zero})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(set.PlanMachines, 0))
	s.enroll(token, "e")
}

func TestAMachineThatIsGoneIsTold(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	token := s.token().Secret
	a, b := s.enroll(token, "a"), s.enroll(token, "b")
	a.checkIn(t)
	done := make(chan error)
	go func() {
		_, err := a.Wait(t.Context(), a.etag, time.Minute)
		done <- err
	}()
	eventually(t, "a waits", func() bool { return s.waiters.number() == 1 })
	qt.Assert(t, qt.IsNil(s.admin.Decommission(t.Context(), a.enrolled.Machine)))
	qt.Check(t, qt.IsNil(<-done))
	_, _, err := a.CheckIn(t.Context(), a.report, a.etag)
	refused(t, err, http.StatusUnauthorized, "TS7623")
	_, err = a.Wait(t.Context(), a.etag, time.Minute)
	refused(t, err, http.StatusUnauthorized, "TS7623")
	_, err = a.Report(t.Context(), []api.Report{{ID: "1", Kind: api.ReportAgent, Kernel: testKernel}})
	refused(t, err, http.StatusUnauthorized, "TS7623")

	qt.Assert(t, qt.IsNil(b.Unenroll(t.Context())))
	refused(t, b.Unenroll(t.Context()), http.StatusUnauthorized, "TS7623")
	err = s.admin.Decommission(t.Context(), b.enrolled.Machine)
	refused(t, err, http.StatusNotFound, "TS7605")
	m, err := s.admin.Machine(t.Context(), b.enrolled.Machine)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(m.Protection, api.Gone))
}

func TestReenrollmentKeepsTheMachine(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	token := s.token().Secret
	in, _ := enrollment(t, token, "a")
	first, err := s.client("").Enroll(t.Context(), in)
	qt.Assert(t, qt.IsNil(err))
	tier := "stable"
	_, err = s.admin.ChangeMachine(t.Context(), first.Machine, api.MachineChange{Tier: &tier})
	qt.Assert(t, qt.IsNil(err))
	in.Previous = first.Credential
	again, err := s.client("").Enroll(t.Context(), in)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(again.Reenrolled))
	qt.Check(t, qt.Equals(again.Machine, first.Machine))
	qt.Check(t, qt.Equals(again.Tier, "stable"))
	_, _, err = s.client(first.Credential).CheckIn(t.Context(), checkInOf("a"), "")
	refused(t, err, http.StatusUnauthorized, "TS7623")
	_, _, err = s.client(again.Credential).CheckIn(t.Context(), checkInOf("a"), "")
	qt.Assert(t, qt.IsNil(err))
}

func TestTwoMachinesWithOneIdentityAreToldToEnrollAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	token := s.token().Secret
	a := s.enroll(token, "a")
	b := *a
	b.report.BootID, b.report.Run = "boot-of-the-copy", "run-of-the-copy"
	qt.Check(t, qt.IsFalse(slices.Contains(wishes(a.checkIn(t)), api.WantReenroll)))
	qt.Check(t, qt.IsFalse(slices.Contains(wishes(b.checkIn(t)), api.WantReenroll)))
	a.checkIn(t)
	b.checkIn(t)
	x := a.checkIn(t)
	qt.Assert(t, qt.IsTrue(slices.Contains(wishes(x), api.WantReenroll)))
	m, err := s.admin.Machine(t.Context(), a.enrolled.Machine)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(m.Cloned))

	// The copy has the same /etc/machine-id, and still becomes a machine of its
	// own; who was first keeps the identity.
	in, id := enrollment(t, token, "a")
	in.Previous = b.enrolled.Credential
	own, err := s.client("").Enroll(t.Context(), in)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Not(qt.Equals(own.Machine, a.enrolled.Machine)))
	b = host{Client: s.client(own.Credential), enrolled: own, id: id, report: b.report}
	eventually(t, "the flag is taken back", func() bool {
		return !slices.Contains(wishes(a.checkIn(t)), api.WantReenroll)
	})
	for range 3 {
		qt.Check(t, qt.IsFalse(slices.Contains(wishes(a.checkIn(t)), api.WantReenroll)))
		qt.Check(t, qt.IsFalse(slices.Contains(wishes(b.checkIn(t)), api.WantReenroll)))
	}
}

// wishes are those that are not for every machine.
func wishes(a *api.Assignment) []api.Wish {
	if a == nil {
		return []api.Wish{}
	}
	return slices.DeleteFunc(append([]api.Wish{}, a.Want...), func(w api.Wish) bool { return w == api.WantStale })
}

func TestARebootIsNoClone(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a := s.enroll(s.token().Secret, "a")
	for _, boot := range []string{"1", "2", "3", "4", "5"} {
		for _, run := range []string{"x", "y", "z"} {
			a.report.BootID, a.report.Run = "boot-"+boot, "run-"+boot+run
			qt.Check(t, qt.IsFalse(slices.Contains(wishes(a.checkIn(t)), api.WantReenroll)))
		}
	}
}

func TestModulesAreAskedForOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	token := s.token().Secret
	a, b := s.enroll(token, "a"), s.enroll(token, "b")
	list := []api.Module{{Name: "ext4", BuildID: "0123456789abcdef"}, {Name: "nfs"}}
	a.report.ModulesDigest, b.report.ModulesDigest = modulesDigest(list), modulesDigest(list)
	qt.Assert(t, qt.DeepEquals(wishes(a.checkIn(t)), []api.Wish{api.WantModules}))
	qt.Assert(t, qt.DeepEquals(wishes(a.checkIn(t)), []api.Wish{api.WantModules})) // until they come
	a.report.Modules = list
	qt.Check(t, qt.IsNil(a.checkIn(t)))
	a.report.Modules = nil
	qt.Check(t, qt.IsNil(a.checkIn(t)))
	qt.Check(t, qt.DeepEquals(wishes(b.checkIn(t)), []api.Wish{}))

	res, body := do(t, "GET", s.web.URL+"/v1/machines/"+b.enrolled.Machine+"/modules", s.secret, "", nil)
	qt.Check(t, qt.Equals(res.StatusCode, 200))
	qt.Check(t, qt.StringContains(string(body), "ext4"))

	b.report.Modules = list[:1]
	_, _, err := b.CheckIn(t.Context(), b.report, "")
	refused(t, err, http.StatusUnprocessableEntity, "TS7601")
}

func TestReportsAreStoredOnceAndACrashBlocks(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	token := s.token().Secret
	a, b := s.enroll(token, "a"), s.enroll(token, "b")
	p := s.publishVersion(1)
	eventually(t, "the index is there", func() bool { x := b.checkIn(t); return x != nil && x.Keys[p.ID] != "" })

	reports := []api.Report{
		{ID: "r1", Time: 1, Kind: api.ReportState, BootID: "b", Kernel: testKernel, Patch: api.Patch{ID: p.ID, Version: 1, State: api.Loading}},
		{ID: "r2", Time: 2, Kind: api.ReportCrash, BootID: "b", Kernel: testKernel, Patch: api.Patch{ID: p.ID, Version: 1, State: api.Quarantined}, Detail: "Oops: 0002"},
	}
	for range 2 { // the answer to the first delivery was lost
		stored, err := a.Report(t.Context(), reports)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(stored, []string{"r1", "r2"}))
	}
	got, err := s.admin.LivePatch(t.Context(), p.ID)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Not(qt.Equals(got.Blocked, 0)))
	qt.Check(t, qt.StringContains(got.Reason, a.enrolled.Machine))
	eventually(t, "the key is not given any more", func() bool { x := b.checkIn(t); return x != nil && len(x.Keys) == 0 })

	res, body := do(t, "GET", s.web.URL+"/v1/reports?machine="+a.enrolled.Machine, s.secret, "", nil)
	qt.Check(t, qt.Equals(res.StatusCode, 200))
	qt.Check(t, qt.StringContains(string(body), "Oops: 0002"))
}

func TestACrashReportAboutSomethingElseBlocksNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	stable := s.token(func(n *api.NewToken) { n.Tier = "stable" })
	a := s.enroll(stable.Secret, "a")
	p := s.publishVersion(1) // in edge only
	_, err := a.Report(t.Context(), []api.Report{{ID: "r", Kind: api.ReportCrash, Kernel: testKernel, Patch: api.Patch{ID: p.ID, Version: 1}}})
	qt.Assert(t, qt.IsNil(err))
	got, err := s.admin.LivePatch(t.Context(), p.ID)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(got.Blocked, 0))
}

// TestWhatIsKnownOutlivesTheServer: after a restart an unchanged check-in is
// still answered 304 and still writes nothing, and who was seen is known.
func TestWhatIsKnownOutlivesTheServer(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	h := s.enroll(s.token().Secret, "a")
	s.publishVersion(1)
	eventually(t, "the index is there", func() bool { x := h.checkIn(t); return x != nil && x.Sequence == 1 })
	qt.Assert(t, qt.IsNil(h.checkIn(t)))
	seq, err := s.db.LastChange(t.Context())
	qt.Assert(t, qt.IsNil(err))

	s.start() // another server over the same store
	h.Client = s.client(h.enrolled.Credential)
	qt.Check(t, qt.IsNil(h.checkIn(t)))
	again, err := s.db.LastChange(t.Context())
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(again, seq))
}

// TestServersShareAStore: what one server writes reaches a machine that waits
// at the other.
func TestServersShareAStore(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	h := s.enroll(s.token().Secret, "a")
	h.checkIn(t)
	first := s.Server
	done := make(chan bool)
	go func() {
		changed, err := h.Wait(t.Context(), h.etag, time.Minute)
		qt.Check(t, qt.IsNil(err))
		done <- changed
	}()
	eventually(t, "it waits", func() bool { return first.waiters.number() == 1 })
	s.start()
	s.publishVersion(1) // at the second
	qt.Check(t, qt.IsTrue(<-done))
	qt.Check(t, qt.Equals(h.checkIn(t).Sequence, 1))

	s.flush(t.Context())
	row, err := s.db.Machine(t.Context(), h.enrolled.Machine)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(row.Seen > 0))
}
