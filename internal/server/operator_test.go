// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/store"
)

func TestMachinesAreListedInPages(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	token := s.token().Secret
	var want []string
	for i := range 7 {
		want = append(want, s.enroll(token, fmt.Sprintf("host-%d", i)).enrolled.Machine)
	}
	list := func(f client.MachineFilter) (ids []string) {
		for {
			l, err := s.admin.Machines(t.Context(), f)
			qt.Assert(t, qt.IsNil(err))
			for _, m := range l.Items {
				ids = append(ids, m.ID)
			}
			if l.Next == "" {
				return ids
			}
			f.After = l.Next
		}
	}
	qt.Check(t, qt.DeepEquals(list(client.MachineFilter{}), want))
	qt.Check(t, qt.DeepEquals(list(client.MachineFilter{Limit: 2}), want))
	qt.Check(t, qt.DeepEquals(list(client.MachineFilter{Limit: 2, Protection: api.NotCovered}), want))
	qt.Check(t, qt.IsNil(list(client.MachineFilter{Protection: api.Protected})))
	qt.Check(t, qt.DeepEquals(list(client.MachineFilter{Query: "host-3"}), want[3:4]))
	qt.Check(t, qt.IsNil(list(client.MachineFilter{Tier: "stable"})))
	qt.Check(t, qt.IsNil(list(client.MachineFilter{Group: "db"})))

	group := "db"
	m, err := s.admin.ChangeMachine(t.Context(), want[1], api.MachineChange{Group: &group})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(m.Group, "db"))
	qt.Check(t, qt.DeepEquals(list(client.MachineFilter{Group: "db"}), want[1:2]))
	qt.Assert(t, qt.IsNil(s.admin.Decommission(t.Context(), want[2])))
	qt.Check(t, qt.HasLen(list(client.MachineFilter{}), 6))
	qt.Check(t, qt.DeepEquals(list(client.MachineFilter{Protection: api.Gone}), want[2:3]))

	_, err = s.admin.Machines(t.Context(), client.MachineFilter{Limit: 100_000})
	refused(t, err, http.StatusUnprocessableEntity, "TS7601")
	_, err = s.admin.Machine(t.Context(), "nobody")
	refused(t, err, http.StatusNotFound, "TS7605")
	_, err = s.admin.ChangeMachine(t.Context(), want[0], api.MachineChange{})
	refused(t, err, http.StatusUnprocessableEntity, "TS7601")
	none := "no-such-tier"
	_, err = s.admin.ChangeMachine(t.Context(), want[0], api.MachineChange{Tier: &none})
	refused(t, err, http.StatusNotFound, "TS7605")
}

func TestALivePatchGoesThroughTheTiers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ctx := t.Context()
	one, two := s.publishVersion(1), s.publishVersion(2)
	again, err := s.admin.Publish(ctx, client.Publication{Artifact: artifact(t, 1)})
	qt.Assert(t, qt.IsNil(err)) // harmless
	qt.Check(t, qt.Equals(again.ID, one.ID))
	_, err = s.admin.Publish(ctx, client.Publication{Artifact: []byte("no artifact")})
	qt.Check(t, qt.Equals(client.Status(err), http.StatusUnprocessableEntity))

	p, err := s.admin.Promote(ctx, two.ID, "")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(p.Tiers, []string{"edge", "beta"}))
	p, err = s.admin.Promote(ctx, two.ID, "stable")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(p.Tiers, []string{"edge", "beta", "stable"}))
	_, err = s.admin.Promote(ctx, "nothing-v1", "")
	refused(t, err, http.StatusNotFound, "TS7701")
	_, err = s.admin.Promote(ctx, one.ID, "moon")
	refused(t, err, http.StatusNotFound, "TS7703")

	h := s.enroll(s.token(func(n *api.NewToken) { n.Tier = "stable" }).Secret, "a")
	h.report.Patch = api.Patch{ID: two.ID, Version: 2, State: api.Healthy}
	eventually(t, "the index is there", func() bool { a := h.checkIn(t); return a != nil && a.Keys[two.ID] != "" })
	standing := func(want api.Protection) {
		t.Helper()
		m, err := s.admin.Machine(ctx, h.enrolled.Machine)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(m.Protection, want), qt.Commentf("%s", m.Reason))
	}
	standing(api.Protected)
	p, err = s.admin.Block(ctx, two.ID, api.Block{Reason: "oopses on nfs servers", Recall: true})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(p.Reason, "oopses on nfs servers"))
	eventually(t, "the block arrives", func() bool { a := h.checkIn(t); return a != nil && len(a.Keys) == 0 })
	standing(api.Failing)
	_, err = s.admin.Promote(ctx, two.ID, "candidate")
	refused(t, err, http.StatusConflict, "TS7705")
	_, err = s.admin.Block(ctx, two.ID, api.Block{})
	refused(t, err, http.StatusUnprocessableEntity, "TS7601")
	_, err = s.admin.Unblock(ctx, two.ID)
	qt.Assert(t, qt.IsNil(err))
	eventually(t, "the block is gone", func() bool { a := h.checkIn(t); return a != nil && len(a.Keys) == 1 })
	standing(api.Protected)
	qt.Assert(t, qt.IsNil(s.admin.AuthoriseRevert(ctx, api.AuthoriseRevert{Target: target, Tier: "stable", To: 0, Reason: "too slow"})))
	eventually(t, "the revert arrives", func() bool { a := h.checkIn(t); return a != nil })
	standing(api.Failing)

	l, err := s.admin.LivePatches(ctx, client.PatchFilter{Limit: 1})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(l.Items, 1))
	qt.Check(t, qt.Equals(l.Items[0].ID, two.ID))
	l, err = s.admin.LivePatches(ctx, client.PatchFilter{Limit: 1, After: l.Next})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(l.Items, 1))
	qt.Check(t, qt.Equals(l.Items[0].ID, one.ID))

	b, err := s.admin.Bundle(ctx, "edge", nil, []string{h.enrolled.Machine})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(len(b) > 4000))
	_, err = s.admin.Bundle(ctx, "edge", nil, []string{"nobody"})
	refused(t, err, http.StatusNotFound, "TS7605")

	audit, err := s.admin.Audit(ctx, client.AuditFilter{Limit: 100})
	qt.Assert(t, qt.IsNil(err))
	var actions []string
	for _, e := range audit.Items {
		actions = append(actions, e.Action)
	}
	for _, a := range []string{"livepatch.publish", "livepatch.promote", "livepatch.block", "livepatch.unblock", "token.create", "machine.enroll"} {
		qt.Check(t, qt.IsTrue(slices.Contains(actions, a)), qt.Commentf("%s in %v", a, actions))
	}
}

func TestTiersTokensAndOperators(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ctx := t.Context()
	tier, err := s.admin.CreateTier(ctx, api.NewTier{Name: "lab"})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(tier.Rank, 1))
	_, err = s.admin.CreateTier(ctx, api.NewTier{Name: "canary", After: "edge"})
	qt.Assert(t, qt.IsNil(err))
	_, err = s.admin.CreateTier(ctx, api.NewTier{Name: "x", After: "nowhere"})
	refused(t, err, http.StatusNotFound, "TS7605")
	_, err = s.admin.CreateTier(ctx, api.NewTier{Name: "lab"})
	refused(t, err, http.StatusConflict, "TS7716")
	l, err := s.admin.Tiers(ctx)
	qt.Assert(t, qt.IsNil(err))
	var names []string
	for _, t := range l.Items {
		names = append(names, t.Name)
	}
	qt.Check(t, qt.DeepEquals(names, []string{"lab", "edge", "canary", "beta", "candidate", "stable"}))
	qt.Assert(t, qt.IsNil(s.admin.DeleteTier(ctx, "lab")))
	s.enroll(s.token().Secret, "a")
	err = s.admin.DeleteTier(ctx, "edge")
	refused(t, err, http.StatusConflict, "TS7716")

	_, err = s.admin.CreateToken(ctx, api.NewToken{Name: "n", Tier: "moon"})
	refused(t, err, http.StatusNotFound, "TS7605")
	_, err = s.admin.CreateToken(ctx, api.NewToken{Name: "n", Expires: 5})
	refused(t, err, http.StatusUnprocessableEntity, "TS7601")
	made, err := s.admin.CreateToken(ctx, api.NewToken{Name: "n", Group: "g", Limit: 2, Expires: s.clock().Add(time.Hour).UnixMilli()})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(made.Tier, "stable"))
	s.enroll(made.Secret, "b")
	tokens, err := s.admin.Tokens(ctx)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(tokens.Items[len(tokens.Items)-1].Uses, 1))
	err = s.admin.RevokeToken(ctx, "none")
	refused(t, err, http.StatusNotFound, "TS7605")

	w, err := s.admin.CreateOperator(ctx, api.NewOperator{Name: "builder", Role: store.OperatorWorker})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(strings.HasPrefix(w.Secret, "tsw_")))
	_, err = s.admin.CreateOperator(ctx, api.NewOperator{Name: "builder", Role: store.OperatorReader})
	refused(t, err, http.StatusConflict, "TS7611")
	_, err = s.admin.CreateOperator(ctx, api.NewOperator{Name: "x", Role: "king"})
	refused(t, err, http.StatusUnprocessableEntity, "TS7601")
	ops, err := s.admin.Operators(ctx)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(ops.Items, 2))
	err = s.admin.RevokeOperator(ctx, ops.Items[0].ID)
	refused(t, err, http.StatusConflict, "TS8215")
	qt.Assert(t, qt.IsNil(s.admin.RevokeOperator(ctx, w.ID)))
	_, err = s.client(w.Secret).Lease(ctx, "w", 0)
	refused(t, err, http.StatusUnauthorized, "TS7603")

	me, err := s.admin.Whoami(ctx)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(me.May["people"], []string{}))
	me.May = nil
	qt.Check(t, qt.DeepEquals(*me, api.Whoami{Name: "ann", Role: "admin", Server: s.web.URL, Version: "test"}))
	tr, err := s.admin.Trust(ctx)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(tr.Roles[0].Name, "root"))
	_, err = s.admin.ImportRoot(ctx, []byte(`{"signed":{}}`))
	qt.Check(t, qt.Equals(client.Status(err), http.StatusUnprocessableEntity), qt.Commentf("%v", err))
	minute := int64(60)
	set, err := s.admin.ChangeSettings(ctx, api.SettingsChange{Interval: &minute})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(set.Interval, 60))
}

func TestAWorkerTakesAndDoesAJob(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ctx := t.Context()
	op, err := s.admin.CreateOperator(ctx, api.NewOperator{Name: "builder", Role: store.OperatorWorker})
	qt.Assert(t, qt.IsNil(err))
	w := s.client(op.Secret)
	l, err := w.Lease(ctx, "slot-1", 0)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsNil(l))
	diff := "--- a/x.c\n+++ b/x.c\n@@ -1 +1 @@\n-a\n+b\n"
	job, err := s.admin.CreateJob(ctx, api.NewJob{Target: target, Fixes: []api.JobDiff{{ID: "x", Diff: diff}}})
	qt.Assert(t, qt.IsNil(err))
	l, err = w.Lease(ctx, "slot-1", 10*time.Second)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(l.Job, job.ID))
	hb, err := w.Heartbeat(ctx, job.ID, api.Heartbeat{Worker: "slot-1", Stage: "compile"})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsFalse(hb.Cancelled))

	other, err := s.admin.CreateOperator(ctx, api.NewOperator{Name: "another", Role: store.OperatorWorker})
	qt.Assert(t, qt.IsNil(err))
	_, err = s.client(other.Secret).Heartbeat(ctx, job.ID, api.Heartbeat{Worker: "slot-1"})
	refused(t, err, http.StatusConflict, "TS7503") // its name is bound to its credential

	qt.Assert(t, qt.IsNil(w.AppendLog(ctx, job.ID, api.JobLog{Worker: "slot-1", Attempt: 1, Seq: 1, Text: "hello\n"})))
	log, err := s.admin.JobLog(ctx, job.ID, 0, 1)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(log.Items, 1))
	qt.Check(t, qt.Equals(log.Items[0].Text, "hello\n"))

	b := artifact(t, 1)
	f := api.JobFile{Worker: "slot-1", Attempt: 1, Name: api.JobArtifact}
	qt.Assert(t, qt.IsNil(w.PutFile(ctx, job.ID, f, bytes.NewReader(b), int64(len(b)))))
	f.Name = "../../etc/passwd"
	qt.Check(t, qt.Equals(client.Status(w.PutFile(ctx, job.ID, f, bytes.NewReader(b), int64(len(b)))), http.StatusNotFound))
	qt.Assert(t, qt.IsNil(w.Finish(ctx, job.ID, api.JobResult{Worker: "slot-1", State: api.JobDone, Verdict: "live"})))
	got, err := s.admin.JobArtifact(ctx, job.ID)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(got, b))
	_, err = s.admin.CancelJob(ctx, job.ID)
	refused(t, err, http.StatusConflict, "TS7502")
	_, err = s.admin.Job(ctx, "none")
	refused(t, err, http.StatusNotFound, "TS7501")
	jobs, err := s.admin.Jobs(ctx, api.JobDone, "", 10)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(jobs.Items, 1))

	key := strings.Repeat("0a", 32)
	miss, err := w.CacheGet(ctx, key)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsNil(miss))
	qt.Assert(t, qt.IsNil(w.CachePut(ctx, key, []byte("object"))))
	hit, err := w.CacheGet(ctx, key)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(string(hit), "object"))
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		qt.Assert(t, qt.IsNil(os.MkdirAll("testdata", 0o755)))
		qt.Assert(t, qt.IsNil(os.WriteFile(path, []byte(got), 0o644)))
	}
	want, err := os.ReadFile(path)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(got, string(want)), qt.Commentf("go test ./internal/server -update, and read the difference"))
}
