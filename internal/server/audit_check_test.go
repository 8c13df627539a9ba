// SPDX-License-Identifier: Apache-2.0

package server

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/store"
)

// TestTheAuditLogIsCheckedInPieces: whoever asks again and again learns of
// every change of the log, of any server that shares the store, and nobody has
// all of it read at once.
func TestTheAuditLogIsCheckedInPieces(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "db")
	s := siteOn(t, "sqlite:"+file, func(o *Options) { o.RolloutInterval = -1 })
	first := s.browser()
	first.header.Set("Authorization", "Bearer "+s.secret)
	firstServer := s.Server
	s.start(func(o *Options) { o.RolloutInterval = -1 })
	second := s.browser()
	second.header.Set("Authorization", "Bearer "+s.secret)
	firstServer.auditCheck.piece, s.auditCheck.piece = 1, 1 // about a page, then

	// Both write, in turn.
	for i := range 6 {
		b := []*browser{first, second}[i%2]
		b.do("POST", "/v1/tokens", api.NewToken{Name: fmt.Sprint("t", i), Tier: "edge"}, 201, nil)
	}
	qt.Assert(t, qt.IsNil(s.db.Update(t.Context(), func(tx *store.Tx) error {
		for i := range 1200 {
			if err := tx.Audit(t.Context(), store.AuditEntry{Actor: "ann", Action: "test", Object: fmt.Sprint(i)}); err != nil {
				return err
			}
		}
		return nil
	})))
	total, err := s.db.LastAudit(t.Context())
	qt.Assert(t, qt.IsNil(err))
	ask := func(b *browser) (c api.AuditChain) {
		t.Helper()
		b.do("GET", "/v1/audit/chain", nil, 200, &c)
		return c
	}
	// all asks until the check is done, and says in how many pieces.
	all := func(b *browser) (c api.AuditChain, pieces int) {
		t.Helper()
		for before := int64(0); !c.Done; pieces++ {
			c = ask(b)
			qt.Assert(t, qt.IsTrue(c.Done || c.Checked > before), qt.Commentf("%+v", c))
			before = c.Checked
		}
		return c, pieces
	}
	var whole api.AuditChain
	for _, b := range []*browser{first, second} {
		c, pieces := all(b)
		qt.Check(t, qt.IsNil(c.Broken))
		qt.Check(t, qt.Equals(c.Checked, total))
		qt.Check(t, qt.Equals(c.Entries, total))
		qt.Check(t, qt.IsTrue(pieces >= 3), qt.Commentf("%d", pieces))
		qt.Check(t, qt.IsTrue(whole.Hash == "" || whole.Hash == c.Hash)) // both checked the same
		whole = c
	}
	qt.Check(t, qt.Equals(ask(first).Hash, whole.Hash))

	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(10000)") // the servers write too
	qt.Assert(t, qt.IsNil(err))
	defer db.Close()
	must := func(query string) {
		t.Helper()
		_, err := db.ExecContext(t.Context(), query)
		qt.Assert(t, qt.IsNil(err))
	}
	must("CREATE TABLE kept AS SELECT * FROM audit")
	for _, damage := range []struct {
		what, sql string
		at        int64
	}{
		{"changed, in a piece that comes later", "UPDATE audit SET detail = 'another' WHERE seq = 1100", 1100},
		{"changed, in the first piece", "UPDATE audit SET actor = 'bob' WHERE seq = 3", 3},
		{"removed", "DELETE FROM audit WHERE seq = 700", 700},
		{"reordered", "UPDATE audit SET seq = CASE seq WHEN 600 THEN -1 ELSE 600 END WHERE seq IN (600, 601); UPDATE audit SET seq = 601 WHERE seq = -1", 600},
		{"the end removed", fmt.Sprint("DELETE FROM audit WHERE seq > ", total-5), total - 4},
	} {
		must(damage.sql)
		s.shift.Add(int64(auditCheckFor)) // what was found is told for so long
		for _, b := range []*browser{first, second} {
			c, _ := all(b)
			qt.Assert(t, qt.IsNotNil(c.Broken), qt.Commentf("%s", damage.what))
			qt.Check(t, qt.Equals(c.Broken.Entry, damage.at), qt.Commentf("%s: %+v", damage.what, c.Broken))
			qt.Check(t, qt.Equals(c.Checked, damage.at-1), qt.Commentf("%s", damage.what))
			qt.Check(t, qt.IsNotNil(ask(b).Broken)) // it stays so until all is read anew
		}
		must("DELETE FROM audit; INSERT INTO audit SELECT * FROM kept")
	}

	// What is changed behind a check that goes on is found by the next one.
	s.shift.Add(int64(auditCheckFor))
	qt.Check(t, qt.IsFalse(ask(first).Done))
	must("UPDATE audit SET actor = 'bob' WHERE seq = 3")
	c := ask(first)
	for !c.Done {
		c = ask(first)
	}
	qt.Check(t, qt.IsNil(c.Broken))
	s.shift.Add(int64(auditCheckFor - 2*time.Second))
	qt.Check(t, qt.IsNil(ask(first).Broken))
	s.shift.Add(int64(3 * time.Second))
	c, _ = all(first)
	qt.Assert(t, qt.IsNotNil(c.Broken))
	qt.Check(t, qt.Equals(c.Broken.Entry, 3))
}
