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
	found, err := r.q.Reports(ctx, query.ReportsParams{
		Newest: f.Before == "", Before: f.Before, AnyMachine: f.Machine == "", Machine: f.Machine, AnyKind: f.Kind == "", Kind: f.Kind,
		AnyPatch: f.Patch == "", Patch: f.Patch, AnyState: f.State == "", State: f.State, Since: f.Since, RowLimit: rows(f.Limit),
	})
	all := make([]Report, len(found))
	for i, row := range found {
		all[i] = Report{
			Seq: row.Seq, Machine: row.Machine, ID: row.ID, Time: row.Time, Received: row.Received, Kind: row.Kind,
			Patch: row.Patch, State: row.State, Body: bytesOrNil([]byte(row.Body)),
		}
	}
	return all, r.s.translate(err)
}

// PruneReports removes the reports that were received before a time.
func (s *Store) PruneReports(ctx context.Context, before int64) (n int64, err error) {
	err = s.Update(ctx, func(tx *Tx) error {
		n, err = tx.q.PruneReports(ctx, before)
		return err
	})
	return n, err
}
