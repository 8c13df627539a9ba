// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"

	"github.com/tsugi-project/tsugi/internal/store/query"
)

// AddReports stores reports of a machine and returns their ids when they are
// durable, in one transaction with what others store at the same time. A
// report that is there already stays as it is and is named too.
func (s *Store) AddReports(ctx context.Context, machine string, reports []Report) ([]string, error) {
	params := make([]query.InsertReportParams, len(reports))
	ids := make([]string, len(reports))
	for i, r := range reports {
		seq, err := id()
		if err != nil {
			return nil, err
		}
		params[i] = query.InsertReportParams{
			Seq: seq, Machine: machine, ID: text(r.ID), Time: r.Time, Kind: text(r.Kind), Patch: text(r.Patch), State: text(r.State),
			Body: text(string(r.Body)),
		}
		ids[i] = r.ID
	}
	err := s.group.do(ctx, func(ctx context.Context, tx *Tx) error {
		for _, p := range params {
			p.Received = tx.now
			if _, err := tx.q.InsertReport(ctx, p); err != nil {
				return named(err, "report %s of machine %s", p.ID, machine)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return ids, nil
}

// Reports lists reports, the newest first.
func (r Reader) Reports(ctx context.Context, f ReportFilter) ([]Report, error) {
	found, err := r.reports(ctx, f)
	all := make([]Report, len(found))
	for i, row := range found {
		all[i] = Report{
			Seq: row.Seq, Machine: row.Machine, ID: row.ID, Time: row.Time, Received: row.Received, Kind: row.Kind,
			Patch: row.Patch, State: row.State, Body: bytesOrNil([]byte(row.Body)),
		}
	}
	return all, r.s.translate(err)
}

// reports asks by what leaves the fewest.
func (r Reader) reports(ctx context.Context, f ReportFilter) ([]query.Report, error) {
	newest, limit := f.Before == "", rows(f.Limit)
	switch {
	case f.Machine != "":
		return r.q.ReportsOfMachine(ctx, query.ReportsOfMachineParams{
			Machine: f.Machine, AnyPatch: f.Patch == "", Patch: f.Patch, AnyKind: f.Kind == "", Kind: f.Kind,
			AnyState: f.State == "", State: f.State, Newest: newest, Before: f.Before, RowLimit: limit,
		})
	case f.Patch != "":
		return r.q.ReportsOfPatch(ctx, query.ReportsOfPatchParams{
			Patch: f.Patch, AnyKind: f.Kind == "", Kind: f.Kind, AnyState: f.State == "", State: f.State,
			Newest: newest, Before: f.Before, RowLimit: limit,
		})
	case f.Kind != "":
		return r.q.ReportsOfKind(ctx, query.ReportsOfKindParams{
			Kind: f.Kind, AnyState: f.State == "", State: f.State, Newest: newest, Before: f.Before, RowLimit: limit,
		})
	}
	return r.q.Reports(ctx, query.ReportsParams{AnyState: f.State == "", State: f.State, Newest: newest, Before: f.Before, RowLimit: limit})
}

// PruneReports removes the reports that were received before a time.
func (s *Store) PruneReports(ctx context.Context, before int64) (n int64, err error) {
	err = s.Update(ctx, func(tx *Tx) error {
		n, err = tx.q.PruneReports(ctx, before)
		return err
	})
	return n, err
}
