// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/store"
)

// auditCheck checks the chain of the audit log for all who ask, a piece at a
// time and one piece at once, so that nobody makes a server read all of a long
// log again and again.
type auditCheck struct {
	piece int64 // 0: auditCheckPiece

	mu    sync.Mutex
	begun time.Time
	came  store.AuditChain // so far
	last  api.AuditChain   // as it was told
}

// How much is read for one question, and for how long what was found is told
// again before all is read anew: what was changed may be what was checked.
const (
	auditCheckPiece = 20_000
	auditCheckFor   = time.Minute
)

func (a *auditCheck) chain(ctx context.Context, s *Server) (api.AuditChain, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := s.now()
	if a.last.Done && now.Sub(a.begun) < auditCheckFor {
		return a.last, nil
	}
	from, begun := a.came, a.begun
	if begun.IsZero() || a.last.Done {
		from, begun = store.AuditChain{}, now
	}
	c, last, err := s.store.CheckAuditOn(ctx, from, cmp.Or(a.piece, auditCheckPiece))
	if err != nil {
		return api.AuditChain{}, err
	}
	a.came, a.begun = c.AuditChain, begun
	a.last = api.AuditChain{Entries: last, Checked: c.Seq, Hash: c.Hash, Done: c.Broken != nil || c.Seq == last, At: begun.UnixMilli()}
	if b := c.Broken; b != nil {
		a.last.Broken = &api.AuditBreak{Entry: b.Seq, ID: b.ID, Why: b.Why}
	}
	return a.last, nil
}
