// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/tsugi-project/tsugi/internal/store/query"
)

// The rows of counters.
const (
	counterFleet    = "fleet"    // is held by what depends on the number of machines or on the tiers
	counterPolicies = "policies" // is held by what depends on policies, updates and choices staying as they are
	counterChanges  = "changes"  // the last number of the change feed
	counterTUF      = "tuf"      // the generation of the TUF repository
	counterAudit    = "audit"    // the last number of the audit log's chain
	counterPeople   = "people"   // is held by what depends on who is an admin
	counterNotify   = "notify"   // is held by who decides what people are told
)

// Reader has the methods that only read. Store has them, each on its own; Tx
// has them too, and sees what the transaction has written.
type Reader struct {
	q *query.Queries
	s *Store
}

// Tx is a transaction: see Store.Update.
type Tx struct {
	Reader
	now     int64
	changes []Change
	audit   []AuditEntry
}

// Update runs f in a transaction: all of its writes are stored, or none. On
// PostgreSQL f is run again when the database chose to end it in favour of
// another transaction, so it should have no other effects. It must not use
// the Store itself, which on SQLite would wait for the transaction for ever.
func (s *Store) Update(ctx context.Context, f func(*Tx) error) error {
	const tries = 8
	var err error
	for range tries {
		if err = s.once(ctx, f); !again(err) {
			break
		}
	}
	return s.translate(err)
}

func (s *Store) once(ctx context.Context, f func(*Tx) error) error {
	raw, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer raw.Rollback() //nolint:errcheck // after a commit it does nothing; before one, the error is f's
	tx := &Tx{Reader: Reader{q: s.writer.WithTx(raw), s: s}, now: s.now().UnixMilli()}
	if err := f(tx); err != nil {
		return err
	}
	if err := tx.chain(ctx); err != nil {
		return err
	}
	if err := tx.publish(ctx); err != nil {
		return err
	}
	return raw.Commit()
}

// changed notes a change for the feed.
func (tx *Tx) changed(kind Kind, id string) {
	for _, c := range tx.changes {
		if c.Kind == kind && c.ID == id && len(tx.changes) < 16 {
			return
		}
	}
	tx.changes = append(tx.changes, Change{Kind: kind, ID: id})
}

// publish writes the changes of the transaction under one number. It comes
// last: drawing the number locks out all others who draw one until the
// commit, so numbers become visible in their order.
func (tx *Tx) publish(ctx context.Context) error {
	if len(tx.changes) == 0 {
		return nil
	}
	seq, err := tx.q.Draw(ctx, counterChanges)
	if err != nil {
		return fmt.Errorf("change feed: %w", err)
	}
	for _, c := range tx.changes {
		if err := tx.q.SaveChange(ctx, query.SaveChangeParams{Kind: string(c.Kind), ID: c.ID, Seq: seq}); err != nil {
			return fmt.Errorf("change feed: %w", err)
		}
	}
	return nil
}

// fleet makes this transaction the only one that counts machines or relies on
// a tier being there.
func (tx *Tx) fleet(ctx context.Context) error {
	_, err := tx.q.Draw(ctx, counterFleet)
	return err
}

// LockPolicies makes this transaction the only one that changes policies, the
// groups that have them, updates or choices, or relies on what it read of
// them. It comes before such reads.
func (tx *Tx) LockPolicies(ctx context.Context) error { return tx.q.Hold(ctx, counterPolicies) }

// LockTUF makes this transaction the only one that changes the TUF repository.
// It comes before what it reads of that, and before LockPolicies.
func (tx *Tx) LockTUF(ctx context.Context) error { return tx.q.Hold(ctx, counterTUF) }

// LockPeople makes this transaction the only one that changes who is an admin,
// or relies on there being one. It comes before what it reads of that.
func (tx *Tx) LockPeople(ctx context.Context) error { return tx.q.Hold(ctx, counterPeople) }

// LockNotify makes this transaction the only one that decides what people are
// told. It comes before what it reads of channels and of what is remembered.
func (tx *Tx) LockNotify(ctx context.Context) error { return tx.q.Hold(ctx, counterNotify) }

// Changes are the latest changes of things that changed after a number, in
// order; the last one's number is the next to ask with. Several things that
// changed together have one number.
func (r Reader) Changes(ctx context.Context, after int64) ([]Change, error) {
	rows, err := r.q.Changes(ctx, after)
	if err != nil {
		return nil, r.s.translate(err)
	}
	all := make([]Change, len(rows))
	for i, row := range rows {
		all[i] = Change{Seq: row.Seq, Kind: Kind(row.Kind), ID: row.ID}
	}
	return all, nil
}

// LastChange is the number of the latest change. What is read after it has
// been asked for holds all changes up to it.
func (r Reader) LastChange(ctx context.Context) (int64, error) {
	n, err := r.q.Counter(ctx, counterChanges)
	return n, r.s.translate(err)
}

// id makes an id that sorts after those made before it.
func id() (string, error) {
	u, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("new id: %w", err)
	}
	return u.String(), nil
}

// text makes what came from outside storable: PostgreSQL takes only UTF-8, and
// no NUL. SQLite would take both, and its dump could not be restored there.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// changedOne turns the number of rows that a statement changed into ErrNotFound.
func changedOne(n int64, err error) error {
	if err == nil && n == 0 {
		return ErrNotFound
	}
	return err
}

// rows is how many a list may hold.
func rows(limit int) int32 {
	if limit < 1 || limit > 1000 {
		return 1000
	}
	return int32(limit)
}

// named says of what an error is.
func named(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}

var errClosed = errors.New("the store is closed")
