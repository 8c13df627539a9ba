// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"time"

	"github.com/tsugi-project/tsugi/internal/store/query"
)

// Sample is how the fleet stood in an hour.
type Sample struct {
	Taken int64
	Body  []byte // JSON
}

// Window is how long live patches are made for a target. 0 is no bound.
type Window struct {
	Target       string
	Begins, Ends int64
	Note         string
	Changed      int64
	ChangedBy    string
}

// The ages from which fewer samples are kept, in hours, and how far apart those
// then are.
const (
	thinAfter    = 14 * 24
	thinTo       = 6
	thinnerAfter = 90 * 24
	thinnerTo    = 24
	dropAfter    = 366 * 24
)

func bucketOf(ms int64) int64 { return ms / time.Hour.Milliseconds() }

// AddSample writes down how the fleet stands, unless somebody has in this hour,
// which the answer says.
func (tx *Tx) AddSample(ctx context.Context, body []byte) (bool, error) {
	n, err := tx.q.AddSample(ctx, query.AddSampleParams{Bucket: bucketOf(tx.now), Taken: tx.now, Body: text(string(body))})
	return n > 0, tx.s.translate(err)
}

// AddSample writes down how the fleet stands: see Tx. The first of an hour thins
// out those that are old.
func (s *Store) AddSample(ctx context.Context, body []byte) (added bool, err error) {
	err = s.Update(ctx, func(tx *Tx) error {
		if added, err = tx.AddSample(ctx, body); err != nil || !added {
			return err
		}
		return tx.thinSamples(ctx)
	})
	return added, err
}

func (tx *Tx) thinSamples(ctx context.Context) error {
	now := bucketOf(tx.now)
	for _, p := range []query.ThinSamplesParams{{Before: now - thinAfter, Every: thinTo}, {Before: now - thinnerAfter, Every: thinnerTo}} {
		if _, err := tx.q.ThinSamples(ctx, p); err != nil {
			return err
		}
	}
	_, err := tx.q.DropSamples(ctx, now-dropAfter)
	return err
}

// Samples lists how the fleet stood between two times, the oldest first.
func (r Reader) Samples(ctx context.Context, from, to int64) ([]Sample, error) {
	found, err := r.q.Samples(ctx, query.SamplesParams{First: bucketOf(from), Last: bucketOf(to)})
	all := make([]Sample, len(found))
	for i, row := range found {
		all[i] = Sample{Taken: row.Taken, Body: []byte(row.Body)}
	}
	return all, r.s.translate(err)
}

// Windows lists how long live patches are made for targets, by target.
func (r Reader) Windows(ctx context.Context) ([]Window, error) {
	found, err := r.q.Windows(ctx)
	all := make([]Window, len(found))
	for i, w := range found {
		all[i] = Window{Target: w.Target, Begins: w.Begins, Ends: w.Ends, Note: w.Note, Changed: w.Changed, ChangedBy: w.ChangedBy}
	}
	return all, r.s.translate(err)
}

// SaveWindow says how long live patches are made for a target; the time of the
// change is set here.
func (tx *Tx) SaveWindow(ctx context.Context, w Window) error {
	tx.changed(KindWindow, w.Target)
	return named(tx.s.translate(tx.q.SaveWindow(ctx, query.SaveWindowParams{
		Target: text(w.Target), Begins: w.Begins, Ends: w.Ends, Note: text(w.Note), Changed: tx.now, ChangedBy: text(w.ChangedBy),
	})), "window of %s", w.Target)
}

// DeleteWindow takes it back; ErrNotFound if there is none.
func (tx *Tx) DeleteWindow(ctx context.Context, target string) error {
	tx.changed(KindWindow, target)
	return named(changedOne(tx.q.DeleteWindow(ctx, target)), "window of %s", target)
}
