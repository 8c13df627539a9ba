// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/livepatch"
)

// read asks as the admin, and reads the answer.
func read[T any](s *site, path string) T {
	s.t.Helper()
	var out T
	w := s.ask(path, s.secret, "application/json")
	qt.Assert(s.t, qt.Equals(w.Code, http.StatusOK), qt.Commentf("%s: %s", path, w.Body))
	qt.Assert(s.t, qt.IsNil(json.Unmarshal(w.Body.Bytes(), &out)))
	return out
}

// recount has the fleet counted anew.
func (s *site) recount() {
	s.metrics.fleet.mu.Lock()
	defer s.metrics.fleet.mu.Unlock()
	s.metrics.fleet.last = nil
}

func TestTheMatrixOfVulnerabilities(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ctx := t.Context()
	row := s.publishes(1, "", []livepatch.FixRef{fixOf(1), fixOf(2, "ext4")}, []livepatch.OpenFix{openFix(9, livepatch.OpenReboot)})
	h := s.enroll(s.token().Secret, "a")
	h.report.Patch = api.Patch{ID: row.ID, Name: row.Name, Version: 1, State: api.Healthy}
	h.report.Replacements = []api.Replacement{{Module: "ext4", State: api.OnDisk}}
	h.checkIn(t)
	s.enroll(s.token().Secret, "b").checkIn(t)
	s.pushFixes(1, 2, 5, 9)
	_, err := s.admin.SetPolicy(ctx, api.Policy{Name: "slow", Exclusions: []api.Exclusion{{CVE: cve(5), Reason: "ours", Owner: "ann"}}})
	qt.Assert(t, qt.IsNil(err))
	s.recount()

	words := func(path string) string {
		t.Helper()
		l := read[api.CVEList](s, path)
		out := fmt.Sprint(l.Total)
		for _, c := range l.Items {
			out += fmt.Sprintf(" %s:", c.CVE[len("CVE-2026-"):])
			for _, x := range c.Targets {
				out += string(x.State)
				if len(x.Excluded) > 0 {
					out += "/" + x.Excluded[0].Policy
				}
			}
			out += fmt.Sprint(c.Machines)
		}
		return out
	}
	for path, want := range map[string]string{
		"/v1/cves":                         "4 1009:reboot2 1005:build/slow2 1002:module1 1001:live1",
		"/v1/cves?state=reboot":            "1 1009:reboot2",
		"/v1/cves?q=1005":                  "1 1005:build/slow2",
		"/v1/cves?open=true":               "4 1009:reboot2 1005:build/slow2 1002:module1 1001:live1",
		"/v1/cves?severity=critical":       "0",
		"/v1/cves?limit=1":                 "4 1009:reboot2",
		"/v1/cves?limit=2&after=" + cve(9): "4 1005:build/slow2 1002:module1",
		"/v1/cves?target=" + target:        "4 1009:reboot2 1005:build/slow2 1002:module1 1001:live1",
		"/v1/cves?target=none":             "0",
	} {
		qt.Check(t, qt.Equals(words(path), want), qt.Commentf("%s", path))
	}
	slow := read[api.CVEList](s, "/v1/cves?policy=slow&q=1005")
	qt.Check(t, qt.Equals(slow.Items[0].Targets[0].State, api.CoverExcluded))
	qt.Check(t, qt.Equals(slow.Items[0].Targets[0].Excluded[0].Owner, "ann"))
	qt.Check(t, qt.Equals(read[api.CVEList](s, "/v1/cves?limit=1").Next, cve(9)))
	qt.Check(t, qt.Equals(s.ask("/v1/cves?policy=nosuch", s.secret, "").Code, http.StatusNotFound))
	qt.Check(t, qt.Equals(s.ask("/v1/cves/nonsense", s.secret, "").Code, http.StatusUnprocessableEntity))

	d := read[api.CVEDetail](s, "/v1/cves/cve-2026-1001")
	qt.Check(t, qt.DeepEquals(d.Open, map[api.Need]int{api.NeedLivePatch: 1}))
	qt.Check(t, qt.Equals(d.Fleet, 2))
	qt.Check(t, qt.DeepEquals([]int{d.Protected, d.NotAffected, d.Unknown}, []int{1, 0, 0}))
	qt.Assert(t, qt.HasLen(d.Fixes, 1))
	qt.Check(t, qt.StringContains(d.Fixes[0].Diff, "+b"))
	qt.Check(t, qt.DeepEquals(d.Fixes[0].Files, []string{"fs/1.c"}))
	qt.Assert(t, qt.HasLen(d.Patches, 1))
	qt.Check(t, qt.Equals(d.Patches[0].ID, row.ID))
	nothing := read[api.CVEDetail](s, "/v1/cves/CVE-1999-0001")
	qt.Check(t, qt.HasLen(nothing.Targets, 0))
	qt.Check(t, qt.Equals(len(nothing.Open), 0))

	found := read[api.List[api.LivePatch]](s, "/v1/livepatches?cve="+cve(1))
	qt.Check(t, qt.HasLen(found.Items, 1))
	found = read[api.List[api.LivePatch]](s, "/v1/livepatches?cve="+cve(1)+"0") // no part of one is it
	qt.Check(t, qt.HasLen(found.Items, 0))
}

func TestALivePatchIsOpened(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	row := s.publishes(1, "", []livepatch.FixRef{fixOf(1), fixOf(2, "ext4")}, []livepatch.OpenFix{openFix(9, livepatch.OpenReboot)})
	at := "/v1/livepatches/" + row.ID
	c := read[api.LivePatchContents](s, at+"/contents")
	qt.Check(t, qt.HasLen(c.Fixes, 2))
	qt.Check(t, qt.HasLen(c.Open, 1))
	qt.Check(t, qt.HasLen(c.Functions, 1))
	qt.Check(t, qt.HasLen(c.Replacements, 1))
	qt.Check(t, qt.IsTrue(c.Published["edge"] > 0))
	d := read[api.FixDiff](s, at+"/diff?fix="+c.Fixes[0].ID)
	qt.Check(t, qt.Equals(d.Diff, "diff "+c.Fixes[0].ID))
	for range downloads { // no more of them are in memory at a time
		s.reading <- struct{}{}
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	_, err := s.fixDiff(gone, &fixInput{ID: c.ID, Fix: c.Fixes[0].ID})
	qt.Check(t, qt.ErrorIs(err, context.Canceled))
	for range downloads {
		<-s.reading
	}
	p := read[api.PatchProvenance](s, at+"/provenance")
	qt.Check(t, qt.IsTrue(len(p.Statement) > 0))
	for _, path := range []string{at + "/diff?fix=nosuch", at + "/proof", "/v1/livepatches/none/contents", "/v1/livepatches/..%2f..%2fetc/provenance"} {
		qt.Check(t, qt.Equals(s.ask(path, s.secret, "").Code, http.StatusNotFound), qt.Commentf("%s", path))
	}
}

func TestTargetsAndTheirWindows(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.publishVersion(1)
	s.enroll(s.token().Secret, "a").checkIn(t)
	s.recount()
	one := func() api.TargetInfo {
		t.Helper()
		all := read[api.List[api.TargetInfo]](s, "/v1/targets")
		qt.Assert(t, qt.HasLen(all.Items, 1))
		return all.Items[0]
	}
	x := one()
	qt.Check(t, qt.Equals(x.Target, target))
	qt.Check(t, qt.Equals(x.Machines, 1))
	qt.Check(t, qt.Equals(x.Standing, api.WindowNone))
	now := s.clock()
	set := func(from, until time.Time, status int) {
		t.Helper()
		body := fmt.Sprintf(`{"from":%d,"until":%d,"note":"n"}`, from.UnixMilli(), until.UnixMilli())
		res, text := do(t, "PUT", s.web.URL+"/v1/targets/"+target+"/window", s.secret, "application/json", []byte(body))
		qt.Assert(t, qt.Equals(res.StatusCode, status), qt.Commentf("%s", text))
	}
	for want, until := range map[api.WindowStanding]time.Duration{api.WindowOpen: 1000 * time.Hour, api.WindowEnding: 24 * time.Hour, api.WindowOver: -time.Hour} {
		set(now.Add(-2000*time.Hour), now.Add(until), 200)
		qt.Check(t, qt.Equals(one().Standing, want))
	}
	set(now.Add(time.Hour), now.Add(2*time.Hour), 200)
	qt.Check(t, qt.Equals(one().Standing, api.WindowAhead))
	set(now, now.Add(-time.Hour), 422)
	res, _ := do(t, "DELETE", s.web.URL+"/v1/targets/"+target+"/window", s.secret, "", nil)
	qt.Check(t, qt.Equals(res.StatusCode, 204))
	res, _ = do(t, "DELETE", s.web.URL+"/v1/targets/"+target+"/window", s.secret, "", nil)
	qt.Check(t, qt.Equals(res.StatusCode, 404))
	qt.Check(t, qt.IsNil(one().Window))
}

func TestTheFleetOverTime(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.shift.Store(int64(time.Until(time.Now().Truncate(time.Hour).Add(90 * time.Minute)))) // far from where an hour ends
	qt.Check(t, qt.HasLen(read[api.History](s, "/v1/history").Samples, 0))
	s.enroll(s.token().Secret, "a").checkIn(t)
	for range 3 {
		qt.Assert(t, qt.IsNil(s.takeSample(t.Context())))
		qt.Assert(t, qt.IsNil(s.takeSample(t.Context()))) // one an hour
		s.shift.Add(int64(time.Hour))
	}
	h := read[api.History](s, "/v1/history?days=1")
	qt.Assert(t, qt.HasLen(h.Samples, 3))
	qt.Check(t, qt.Equals(h.Samples[0].Machines, 1))
	qt.Check(t, qt.Equals(h.Samples[0].Protections[api.NotCovered], 1))
}

func TestTheServiceTellsOfItself(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	r := read[api.SystemReport](s, "/v1/system")
	seen := map[string]api.SystemLevel{}
	for _, c := range r.Checks {
		seen[c.ID] = c.Level
	}
	for _, id := range []string{"store", "blobs", "feed", "choices", "trust", "workers"} {
		qt.Check(t, qt.Equals(seen[id], api.LevelGood), qt.Commentf("%s: %+v", id, r.Checks))
	}
	qt.Check(t, qt.Not(qt.Equals(seen["disk"], "")))
	qt.Check(t, qt.IsTrue(r.Store.Size > 0 && r.Store.Schema >= 7 && r.Blobs.Total > 0 && len(r.Roles) > 3))
	// The root is over, which no server can sign again: the others it may have by
	// then, because it looks at them as soon as it runs.
	s.shift.Store(int64(800 * 24 * time.Hour))
	for _, c := range read[api.SystemReport](s, "/v1/system").Checks {
		seen[c.ID] = c.Level
	}
	qt.Check(t, qt.Equals(seen["trust"], api.LevelBad))
}
