// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"

	"github.com/tsugi-project/tsugi/internal/store/query"
)

// Session is one browser in which a user is signed in.
type Session struct {
	ID       string
	Hash     []byte // SHA-256 of its secret
	Person   string
	Method   string // how they signed in
	Address  string
	Agent    string // what the browser says it is
	Created  int64
	Proven   int64 // when they last proved who they are
	LastUsed int64
	Expires  int64
}

// SessionFilter chooses sessions.
type SessionFilter struct {
	Person    string // "": everybody's
	UsedAfter int64
	Limit     int // 0: 1,000
}

// Link is a link that is good once.
type Link struct {
	ID        string
	Hash      []byte // SHA-256 of its secret
	Person    string
	Purpose   string
	Created   int64
	CreatedBy string
	Expires   int64
	Used      int64
}

// Ceremony is what was begun in one request and ends in another.
type Ceremony struct {
	ID      string
	Kind    string
	Person  string
	Body    string // JSON
	Expires int64
}

// What can be begun and not ended: by all strangers together, and by each who is
// signed in, so that none of them keeps strangers from signing in.
const (
	maxCeremonies   = 10_000
	maxCeremoniesOf = 50
)

// CreateSession stores a session; id and time are made here.
func (tx *Tx) CreateSession(ctx context.Context, e Session) (Session, error) {
	e.Address, e.Agent, e.Created, e.LastUsed = text(e.Address), text(e.Agent), tx.now, tx.now
	var err error
	if e.ID, err = id(); err != nil {
		return Session{}, err
	}
	return e, named(tx.s.translate(tx.q.InsertSession(ctx, query.InsertSessionParams{
		ID: e.ID, Hash: e.Hash, Person: e.Person, Method: e.Method, Address: e.Address, Agent: e.Agent,
		Created: e.Created, Proven: e.Proven, Expires: e.Expires,
	})), "session")
}

// SessionByHash returns the session with the SHA-256 of a secret, whether or
// not its time is over.
func (r Reader) SessionByHash(ctx context.Context, hash []byte) (Session, error) {
	row, err := r.q.SessionByHash(ctx, hash)
	return Session(row), named(r.s.translate(err), "session of this secret")
}

// HasSession reports whether a session of a person was not ended yet.
func (r Reader) HasSession(ctx context.Context, person, id string) (bool, error) {
	n, err := r.q.CountSession(ctx, query.CountSessionParams{ID: id, Person: person})
	return n > 0, r.s.translate(err)
}

// Sessions lists sessions whose time is not over, the last used first.
func (r Reader) Sessions(ctx context.Context, f SessionFilter) ([]Session, error) {
	found, err := r.q.Sessions(ctx, query.SessionsParams{
		Anyone: f.Person == "", Person: f.Person, Now: r.s.now().UnixMilli(), UsedAfter: f.UsedAfter, RowLimit: rows(f.Limit),
	})
	all := make([]Session, len(found))
	for i, row := range found {
		all[i] = Session(row)
	}
	return all, r.s.translate(err)
}

// UseSession stores when and from where a session was last used.
func (tx *Tx) UseSession(ctx context.Context, id, address string) error {
	return tx.q.UseSession(ctx, query.UseSessionParams{ID: id, Address: text(address), LastUsed: tx.now})
}

// ProveSession stores that the user of a session proved again who they are.
func (tx *Tx) ProveSession(ctx context.Context, id string) error {
	return named(changedOne(tx.q.ProveSession(ctx, query.ProveSessionParams{ID: id, Proven: tx.now})), "session %s", id)
}

// EndSession ends a session of a person; "" is anybody's.
func (tx *Tx) EndSession(ctx context.Context, person, id string) error {
	return named(changedOne(tx.q.EndSession(ctx, query.EndSessionParams{ID: id, Anyone: person == "", Person: person})), "session %s", id)
}

// EndSessions ends all sessions of a person but one, which may be "".
func (tx *Tx) EndSessions(ctx context.Context, person, but string) (int64, error) {
	return tx.q.EndSessions(ctx, query.EndSessionsParams{Person: person, But: but})
}

// CreateLink stores a link; id and time are made here. Others of the person
// that nobody used end.
func (tx *Tx) CreateLink(ctx context.Context, l Link) (Link, error) {
	l.Created, l.CreatedBy, l.Used = tx.now, text(l.CreatedBy), 0
	var err error
	if l.ID, err = id(); err != nil {
		return Link{}, err
	}
	if _, err := tx.q.DeleteLinks(ctx, l.Person); err != nil {
		return Link{}, err
	}
	return l, named(tx.s.translate(tx.q.InsertLink(ctx, query.InsertLinkParams{
		ID: l.ID, Hash: l.Hash, Person: l.Person, Purpose: l.Purpose, Created: l.Created, CreatedBy: l.CreatedBy, Expires: l.Expires,
	})), "link")
}

// LinkByHash returns the link with the SHA-256 of a secret: ErrConflict if it
// was used, ErrExpired if its time is over.
func (r Reader) LinkByHash(ctx context.Context, hash []byte) (Link, error) {
	row, err := r.q.LinkByHash(ctx, hash)
	switch {
	case err != nil:
	case row.Used != 0:
		err = ErrConflict
	case row.Expires <= r.s.now().UnixMilli():
		err = ErrExpired
	}
	return Link(row), named(r.s.translate(err), "link")
}

// UseLink uses a link up. ErrNotFound if it can't be used, or not any more.
func (tx *Tx) UseLink(ctx context.Context, hash []byte) error {
	return named(changedOne(tx.q.UseLink(ctx, query.UseLinkParams{Hash: hash, Used: tx.now})), "link")
}

// LinksBy is how many links a user made for a person since a time, themselves
// or with a key of theirs: used ones, and the last one that was not.
func (r Reader) LinksBy(ctx context.Context, person, user string, since int64) (int, error) {
	n, err := r.q.CountLinksBy(ctx, query.CountLinksByParams{Person: person, CreatedBy: text(user), ByKey: text(user) + "/", Since: since})
	return int(n), r.s.translate(err)
}

// DeleteLinks ends the links of a person that nobody used.
func (tx *Tx) DeleteLinks(ctx context.Context, person string) error {
	_, err := tx.q.DeleteLinks(ctx, person)
	return err
}

// BeginCeremony stores what was begun; its id is the caller's. ErrLimit if too
// much was begun that nobody ended.
func (tx *Tx) BeginCeremony(ctx context.Context, c Ceremony) error {
	if _, err := tx.q.PruneCeremonies(ctx, tx.now); err != nil {
		return err
	}
	most := int64(maxCeremonies)
	if c.Person != "" {
		most = maxCeremoniesOf
	}
	if n, err := tx.q.CountCeremonies(ctx, c.Person); err != nil || n >= most {
		return named(orLimit(err), "sign-ins that were begun")
	}
	return named(tx.s.translate(tx.q.InsertCeremony(ctx, query.InsertCeremonyParams(c))), "ceremony")
}

func orLimit(err error) error {
	if err == nil {
		return ErrLimit
	}
	return err
}

// EndCeremony returns what was begun, once. ErrNotFound if there is none of
// this id and kind, ErrExpired if its time is over.
func (tx *Tx) EndCeremony(ctx context.Context, id, kind string) (Ceremony, error) {
	row, err := tx.q.TakeCeremony(ctx, query.TakeCeremonyParams{ID: id, Kind: kind})
	if err == nil && row.Expires <= tx.now {
		err = ErrExpired
	}
	return Ceremony(row), named(tx.s.translate(err), "ceremony")
}

// PrunePeople removes sessions that ended or were not used since a time, and
// links and ceremonies whose time is long over.
func (s *Store) PrunePeople(ctx context.Context, unused, linksBefore int64) (int64, error) {
	var n int64
	err := s.Update(ctx, func(tx *Tx) error {
		sessions, err := tx.q.PruneSessions(ctx, query.PruneSessionsParams{Now: tx.now, UsedBefore: unused})
		if err != nil {
			return err
		}
		links, err := tx.q.PruneLinks(ctx, linksBefore)
		if err != nil {
			return err
		}
		begun, err := tx.q.PruneCeremonies(ctx, tx.now)
		n = sessions + links + begun
		return err
	})
	return n, err
}
