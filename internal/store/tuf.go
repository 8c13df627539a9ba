// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"

	"github.com/tsugi-project/tsugi/internal/store/query"
)

// Index is the bookkeeping of the signed index of a tier for one kernel and
// policy.
type Index struct {
	Tier     string
	BuildID  string
	Policy   string
	Sequence int64  // of the last one; 0: there was none
	Revert   []byte // JSON; nil: it authorises none
}

// NextSequence draws the next sequence number of an index.
func (tx *Tx) NextSequence(ctx context.Context, tier, buildID, policy string) (int64, error) {
	n, err := tx.q.DrawSequence(ctx, query.DrawSequenceParams{Tier: tier, BuildID: buildID, Policy: policy})
	return n, tx.s.translate(err)
}

// SetRevert stores the revert that an index authorises; nil takes it back.
func (tx *Tx) SetRevert(ctx context.Context, tier, buildID, policy string, revert []byte) error {
	return tx.q.SaveRevert(ctx, query.SaveRevertParams{Tier: tier, BuildID: buildID, Policy: policy, Revert: text(string(revert))})
}

// Index returns the bookkeeping of an index; ErrNotFound if there was none.
func (r Reader) Index(ctx context.Context, tier, buildID, policy string) (Index, error) {
	row, err := r.q.Index(ctx, query.IndexParams{Tier: tier, BuildID: buildID, Policy: policy})
	return index(row), named(r.s.translate(err), "index of %s in tier %s", buildID, tier)
}

// Indexes lists the bookkeeping of all indexes.
func (r Reader) Indexes(ctx context.Context) ([]Index, error) {
	found, err := r.q.Indexes(ctx)
	all := make([]Index, len(found))
	for i, row := range found {
		all[i] = index(row)
	}
	return all, r.s.translate(err)
}

func index(row query.Index) Index {
	return Index{Tier: row.Tier, BuildID: row.BuildID, Policy: row.Policy, Sequence: row.Sequence, Revert: bytesOrNil([]byte(row.Revert))}
}

// SaveTUF stores metadata files if the generation of the repository is still
// the one that the caller has read, and returns the new one; ErrConflict if
// another server has signed meanwhile. Of root all versions stay, of other
// roles the newest one.
func (tx *Tx) SaveTUF(ctx context.Context, files []TUFFile, generation int64) (int64, error) {
	n, err := tx.q.AddToCounter(ctx, query.AddToCounterParams{Name: counterTUF, Expected: generation})
	if err != nil {
		return 0, tx.s.translate(err)
	}
	if n == 0 {
		return 0, fmt.Errorf("generation %d of the TUF repository: %w", generation, ErrConflict)
	}
	generation++
	for _, f := range files {
		err := tx.q.SaveTUFFile(ctx, query.SaveTUFFileParams{
			Role: f.Role, Version: f.Version, Name: f.Name, Body: filled(f.Body), Generation: generation, Created: tx.now,
		})
		if err == nil {
			err = tx.q.PruneTUFFiles(ctx, query.PruneTUFFilesParams{Role: f.Role, Version: f.Version})
		}
		if err != nil {
			return 0, named(tx.s.translate(err), "TUF file %s", f.Name)
		}
	}
	tx.changed(KindTUF, "")
	return generation, nil
}

// SaveTUF stores metadata files: see Tx.
func (s *Store) SaveTUF(ctx context.Context, files []TUFFile, generation int64) (next int64, err error) {
	err = s.Update(ctx, func(tx *Tx) error {
		next, err = tx.SaveTUF(ctx, files, generation)
		return err
	})
	return next, err
}

// TUFFiles returns the newest metadata file of each role, and all of root's,
// in the order of role and version, with the generation that they are.
func (r Reader) TUFFiles(ctx context.Context) (files []TUFFile, generation int64, err error) {
	// The generation first: if another server signs in between, the files are
	// newer than it says, and saving by it fails as it should.
	if generation, err = r.TUFGeneration(ctx); err != nil {
		return nil, 0, err
	}
	found, err := r.q.TUFFiles(ctx)
	if err != nil {
		return nil, 0, r.s.translate(err)
	}
	for _, row := range found {
		files = append(files, TUFFile{Role: row.Role, Version: row.Version, Name: row.Name, Body: row.Body, Created: row.Created})
	}
	return files, generation, nil
}

// TUFGeneration grows by one with each SaveTUF; 0 is before the first.
func (r Reader) TUFGeneration(ctx context.Context) (int64, error) {
	n, err := r.q.Counter(ctx, counterTUF)
	return n, r.s.translate(err)
}

// DeleteTUFRole removes the metadata of a role that is no more.
func (tx *Tx) DeleteTUFRole(ctx context.Context, role string) error {
	return tx.q.DeleteTUFRole(ctx, role)
}
