// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/tsugi-project/tsugi/internal/store/query"
)

// # The chain of the audit log
//
// Entries have numbers without gaps, in the order in which they were stored,
// and each a hash over itself and the hash of the one before: whoever changes,
// removes or puts in between an entry must change the hashes of all that
// follow, and whoever noted the number and hash of one entry, as every export
// does, sees that. It does not keep somebody who has the database from writing
// all of it anew: that shows in what was noted elsewhere, and nowhere else.

// auditPage is how many entries are read at a time.
const auditPage = 500

// ChainHash is the hash of an entry: SHA-256 over a word, the hash of the entry
// before (hex; "" for the first), its number and its time as 64 bits, big end
// first, and its texts, each after its length in the same form.
func ChainHash(previous string, e AuditEntry) string {
	h := sha256.New()
	number := func(n int64) {
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], uint64(n))
		h.Write(b[:])
	}
	words := func(all ...string) {
		for _, s := range all {
			number(int64(len(s)))
			h.Write([]byte(s))
		}
	}
	words("tsugi-audit-1", previous)
	number(e.Seq)
	number(e.Time)
	words(e.ID, e.Actor, e.Action, e.Object, e.Detail)
	return hex.EncodeToString(h.Sum(nil))
}

// AuditChain checks entries in their order, from the first one on.
type AuditChain struct {
	Seq  int64  // of the last entry; 0: none yet
	Hash string // of the last entry
}

// ChainError says where a chain is broken.
type ChainError struct {
	Seq int64 // the first number that is not as it was written
	ID  string
	Why string
}

func (e *ChainError) Error() string { return fmt.Sprintf("entry %d: %s", e.Seq, e.Why) }

// Add checks the next entry. After an error the chain is of no use any more.
func (c *AuditChain) Add(e AuditEntry) error {
	switch {
	case e.Seq > c.Seq+1:
		return &ChainError{Seq: c.Seq + 1, Why: fmt.Sprintf("it is missing: entry %d follows", e.Seq)}
	case e.Seq <= c.Seq:
		return &ChainError{Seq: e.Seq, ID: e.ID, Why: fmt.Sprintf("it is not in its place: it comes after entry %d", c.Seq)}
	}
	if ChainHash(c.Hash, e) != e.Hash {
		return &ChainError{Seq: e.Seq, ID: e.ID, Why: "it, or what is before it, is not what was written"}
	}
	c.Seq, c.Hash = e.Seq, e.Hash
	return nil
}

// Audit writes down a decision; id and time are made here. Inside Update it is
// written with what it is about, or neither is; it gets its place in the chain
// at the end of the transaction.
func (tx *Tx) Audit(_ context.Context, e AuditEntry) error {
	id, err := id()
	if err != nil {
		return err
	}
	tx.audit = append(tx.audit, AuditEntry{
		ID: id, Time: tx.now, Actor: text(e.Actor), Action: text(e.Action), Object: text(e.Object), Detail: text(e.Detail),
	})
	return nil
}

// Audit writes down a decision: see Tx.
func (s *Store) Audit(ctx context.Context, e AuditEntry) error {
	return s.Update(ctx, func(tx *Tx) error { return tx.Audit(ctx, e) })
}

// chain writes the transaction's entries. Like publish it comes at the end, and
// before it: drawing a number locks out all others who draw one until the
// commit, and who holds both took them in this order.
func (tx *Tx) chain(ctx context.Context) error {
	last := ""
	for i, e := range tx.audit {
		var err error
		if e.Seq, err = tx.q.Draw(ctx, counterAudit); err != nil {
			return fmt.Errorf("audit log: %w", err)
		}
		if i == 0 {
			if last, err = tx.hashOf(ctx, e.Seq-1); err != nil {
				return fmt.Errorf("audit log: %w", err)
			}
		}
		e.Hash = ChainHash(last, e)
		last = e.Hash
		if err := tx.q.InsertAudit(ctx, query.InsertAuditParams(e)); err != nil {
			return fmt.Errorf("audit log: %w", err)
		}
	}
	return nil
}

// hashOf is the hash of an entry. One that is gone has none: the chain goes on
// all the same, and whoever checks it sees the gap.
func (tx *Tx) hashOf(ctx context.Context, seq int64) (string, error) {
	if seq < 1 {
		return "", nil
	}
	h, err := tx.q.AuditHash(ctx, seq)
	if err = tx.s.translate(err); errors.Is(err, ErrNotFound) {
		return "", nil
	}
	return h, err
}

// adopt gives the entries that have none their places in the chain: those of
// before there was one, and those of an older program beside this one.
func (s *Store) adopt(ctx context.Context) error {
	if n, err := s.q.CountUnchainedAudit(ctx); err != nil || n == 0 {
		return err
	}
	return s.Update(ctx, func(tx *Tx) error {
		if err := tx.q.Hold(ctx, counterAudit); err != nil {
			return err
		}
		for {
			found, err := tx.q.UnchainedAudit(ctx, auditPage)
			if err != nil || len(found) == 0 {
				return err
			}
			for _, row := range found {
				e := AuditEntry(row)
				if e.Seq, err = tx.q.Draw(ctx, counterAudit); err != nil {
					return err
				}
				last, err := tx.hashOf(ctx, e.Seq-1)
				if err != nil {
					return err
				}
				if err := tx.q.ChainAudit(ctx, query.ChainAuditParams{ID: e.ID, Seq: e.Seq, Hash: ChainHash(last, e)}); err != nil {
					return err
				}
			}
		}
	})
}

// AuditEntries lists decisions, the newest first.
func (r Reader) AuditEntries(ctx context.Context, f AuditFilter) ([]AuditEntry, error) {
	area, whole := strings.CutSuffix(f.Action, "*")
	if !whole {
		area = ""
	}
	found, err := r.q.AuditEntries(ctx, query.AuditEntriesParams{
		Newest: f.Before == "", Before: f.Before, AnyActor: f.Actor == "", Actor: f.Actor, AnyAction: f.Action == "", Action: f.Action, Area: area,
		AnyObject: f.Object == "", Object: f.Object, RowLimit: rows(f.Limit),
	})
	all := make([]AuditEntry, len(found))
	for i, row := range found {
		all[i] = AuditEntry(row)
	}
	return all, r.s.translate(err)
}

// AuditCheck is what CheckAudit found.
type AuditCheck struct {
	AuditChain             // as far as it holds
	Broken     *ChainError // where it does not; nil: all of it does
	Outside    int64       // entries without a place: an older program wrote them
}

// CheckAuditOn goes on with a check from the entry that it came to, for some
// entries and about a page more, and says which entry is the last now. What is
// before from is not looked at again, nor is what has no place.
func (r Reader) CheckAuditOn(ctx context.Context, from AuditChain, entries int64) (c AuditCheck, last int64, err error) {
	c.AuditChain = from
	if last, err = r.q.Counter(ctx, counterAudit); err != nil {
		return c, last, r.s.translate(err)
	}
	for end := from.Seq + entries; c.Seq < last && c.Seq < end; {
		page, err := r.q.AuditChain(ctx, query.AuditChainParams{After: c.Seq, RowLimit: auditPage})
		if err != nil {
			return c, last, r.s.translate(err)
		}
		if len(page) == 0 {
			c.Broken = &ChainError{Seq: c.Seq + 1, Why: fmt.Sprintf("it is missing, and all up to entry %d", last)}
			return c, last, nil
		}
		for _, row := range page {
			if row.Seq > last {
				if c.Seq < last {
					c.Broken = &ChainError{Seq: c.Seq + 1, Why: fmt.Sprintf("it is missing, and all up to entry %d", last)}
				}
				return c, last, nil
			}
			if broken, ok := errors.AsType[*ChainError](c.Add(AuditEntry(row))); ok {
				c.Broken = broken
				return c, last, nil
			}
		}
	}
	return c, last, nil
}

// CheckAudit reads the whole chain as it is when it is called, and shows each
// entry to see, which may be nil, before it is checked.
func (r Reader) CheckAudit(ctx context.Context, see func(AuditEntry) error) (AuditCheck, error) {
	var c AuditCheck
	last, err := r.q.Counter(ctx, counterAudit)
	if err != nil {
		return c, r.s.translate(err)
	}
	if c.Outside, err = r.q.CountUnchainedAudit(ctx); err != nil {
		return c, r.s.translate(err)
	}
	for after := int64(0); after < last; {
		page, err := r.q.AuditChain(ctx, query.AuditChainParams{After: after, RowLimit: auditPage})
		if err != nil {
			return c, r.s.translate(err)
		}
		if len(page) == 0 {
			break
		}
		for _, row := range page {
			e := AuditEntry(row)
			if after = e.Seq; e.Seq > last {
				break
			}
			if see != nil {
				if err := see(e); err != nil {
					return c, err
				}
			}
			if c.Broken == nil {
				if broken, ok := errors.AsType[*ChainError](c.Add(e)); ok {
					c.Broken = broken
				}
			}
		}
	}
	if c.Broken == nil && c.Seq < last {
		c.Broken = &ChainError{Seq: c.Seq + 1, Why: fmt.Sprintf("it is missing, and all up to entry %d", last)}
	}
	return c, nil
}
