// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/store"
)

// reports answers POST /v1/machine/reports. What it names is durable.
func (s *Server) reports(w http.ResponseWriter, r *http.Request) {
	m, hash, err := s.machine(r)
	if err != nil {
		s.writeFault(w, r, err)
		return
	}
	var in api.Reports
	if err = s.readJSON(w, r, &in); err == nil {
		err = checkReports(&in)
	}
	if err != nil {
		s.writeFault(w, r, err)
		return
	}
	rows := make([]store.Report, len(in.Reports))
	for i, report := range in.Reports {
		b, err := json.Marshal(report)
		if err != nil {
			s.writeFault(w, r, err)
			return
		}
		rows[i] = store.Report{
			ID: report.ID, Time: report.Time, Kind: string(report.Kind), Patch: report.Patch.ID, State: string(report.Patch.State), Body: b,
		}
	}
	stored, err := s.store.AddReports(r.Context(), m.id, rows)
	if err != nil {
		s.writeFault(w, r, err)
		return
	}
	s.fleet.touch(m, hash[:], s.now())
	for _, report := range in.Reports {
		s.metrics.reports.WithLabelValues(string(report.Kind)).Inc()
		if report.Kind == api.ReportCrash {
			s.crashed(r.Context(), m, &report)
			s.tellCrash(r.Context(), m, &report)
		}
	}
	s.writeJSON(w, http.StatusOK, api.ReportsAnswer{Stored: stored})
}

// tellCrash tells people of a machine that went down. The report is stored
// before, so that it is told when the machine sends it again if not now.
func (s *Server) tellCrash(ctx context.Context, m *member, report *api.Report) {
	hostname := m.id
	if row, err := s.store.Machine(ctx, m.id); err == nil {
		hostname = row.Hostname
	}
	if err := s.teller.Tell(context.WithoutCancel(ctx), crashEvent(m.id, hostname, m.groupNow(), report, s.now())); err != nil {
		s.log.Error("crash could not be told", "machine", m.id, "err", err)
	}
}

// gives reports whether a policy's machines of the tier may have what a report is
// about: for the kernel that it speaks of, or for a package that the machine has.
func (s *Server) gives(ctx context.Context, v *view, policy string, report *api.Report) (bool, error) {
	shelf, err := s.shelves.get(ctx, v.tier, report.Kernel.BuildID, policy)
	if err != nil || slices.Contains(shelf.ids, report.Patch.ID) {
		return err == nil, err
	}
	for _, p := range v.packages.each() {
		shelf, err := s.shelves.ofPackage(ctx, v.tier, p.id, policy)
		if err != nil || slices.Contains(shelf.ids, report.Patch.ID) {
			return err == nil, err
		}
	}
	return false, nil
}

// crashed blocks a live patch that took a machine down, before it takes down
// another. A machine has a say only about what its own tier gives to its own
// kernel, so a lying one can stop no more than that.
func (s *Server) crashed(ctx context.Context, m *member, report *api.Report) {
	v := s.view(m)
	its, err := s.gives(ctx, v, v.policy, report)
	if err == nil && report.Patch.Policy != v.policy && s.book.Load().has(report.Patch.Policy) {
		// It has come to another policy since: what it had was the old one's.
		its, err = s.gives(ctx, v, report.Patch.Policy, report)
	}
	if err != nil {
		s.log.Error("crash report could not be judged", "machine", m.id, "patch", report.Patch.ID, "err", err)
		return
	}
	if !its {
		return // unknown, of another tier or kernel, or blocked already
	}
	if r := s.rollouts.of(report.Patch.ID, v.tier); r != nil && !r.phase().Over() && r.admits(m.id) {
		s.rollSoon() // its health gate decides, by what is usual and by its budget
		return
	}
	// By its id: the reason is signed into the index, which every machine of the tier reads.
	why := fmt.Sprintf("machine %s went down while it was being applied", m.id)
	if _, err := s.publish.Block(context.WithoutCancel(ctx), report.Patch.ID, why, false, "server"); err != nil {
		s.log.Error("live patch could not be blocked after a crash", "machine", m.id, "patch", report.Patch.ID, "err", err)
		return
	}
	s.metrics.crashBlocks.Inc()
	s.log.Warn("live patch blocked after a crash", "machine", m.id, "patch", report.Patch.ID)
	s.kick()
}
