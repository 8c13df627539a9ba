// SPDX-License-Identifier: Apache-2.0

package servercli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/store"
)

// exported is the export of a log whose entries hold what JSON has to escape.
func exported(t testing.TB, details ...string) []byte {
	t.Helper()
	db, err := store.Open(context.Background(), "sqlite:"+t.TempDir()+"/x.db")
	qt.Assert(t, qt.IsNil(err))
	defer db.Close()
	for i, d := range details {
		qt.Assert(t, qt.IsNil(db.Audit(context.Background(), store.AuditEntry{Actor: "alice", Action: "a", Object: fmt.Sprint(i), Detail: d})))
	}
	var b bytes.Buffer
	c, err := exportAudit(context.Background(), db, &b)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(c.Broken))
	return b.Bytes()
}

func none(store.AuditEntry) error { return nil }

func TestAnExportIsCheckedByItself(t *testing.T) {
	t.Parallel()
	log := exported(t, "", "<b>&\u2028\"\\\n\t", "日本語", "\xff\x00 is mended", "last")
	c, err := checkExport(bytes.NewReader(log), none)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(c.Broken))
	qt.Check(t, qt.Equals(c.Seq, 5))
	// Every byte of it matters.
	for i := range log {
		changed := bytes.Clone(log)
		changed[i] ^= 0x01
		c, err := checkExport(bytes.NewReader(changed), none)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsTrue(c.Broken != nil), qt.Commentf("byte %d of %q", i, log))
	}
	long := append(bytes.Repeat([]byte("x"), maxAuditLine+1), '\n')
	c, err = checkExport(bytes.NewReader(append(log, long...)), none)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(c.Broken.Seq, 6))
	c, err = checkExport(bytes.NewReader(nil), none)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(c.Seq, 0))
}

func FuzzParseAuditLine(f *testing.F) {
	for line := range bytes.Lines(exported(f, "", "<b>&\u2028\"\\\n\t", "日本語")) {
		f.Add(bytes.TrimSuffix(line, []byte("\n")))
	}
	f.Add([]byte(`{"seq":1}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := parseAuditLine(line)
		if err != nil {
			if e != (store.AuditEntry{}) {
				t.Fatal("an error and a value")
			}
			return
		}
		if !json.Valid(line) {
			t.Fatalf("%q is read", line)
		}
	})
}
