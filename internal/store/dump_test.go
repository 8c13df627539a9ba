// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/testenv"
)

func codeOf(err error) code.Code {
	if p, ok := errors.AsType[*code.Problem](err); ok {
		return p.Code
	}
	return ""
}

// fillAll puts something into every table.
func fillAll(t testing.TB, s *Store, until int64) {
	t.Helper()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		qt.Assert(t, qt.IsNil(err))
	}
	newToken(t, s, Token{Name: "t", Tier: "edge", Group: "ä\"\\\u2028<&>"})
	m := enroll(t, s, enrollment("t", "m"))
	gone := enroll(t, s, enrollment("t", "gone"))
	must(s.Decommission(ctx, gone.ID))
	must(s.SaveCheckIns(ctx, []CheckInRow{{ID: m.ID, Seen: 5, Facts: Facts{
		Able: true, PatchVersion: 1 << 30, Booted: 1<<53 + 1, JSON: []byte("{\"a\":\"\\u0000\",\n\"b\":[1]}"),
	}}}))
	p := livePatchOf("x", 1)
	p.SealedKey = make([]byte, 256)
	for i := range p.SealedKey {
		p.SealedKey[i] = byte(i)
	}
	must(s.AddLivePatch(ctx, p))
	_, err := s.AddPublication(ctx, p.ID, "edge")
	must(err)
	_, err = nextSequence(ctx, s, "edge", "b-x", "default")
	must(err)
	_, err = s.SaveTUF(ctx, []TUFFile{{Role: "root", Version: 1, Name: "1.root.json", Body: []byte("{}\n")}}, 0)
	must(err)
	_, err = s.AddReports(ctx, m.ID, []Report{{ID: "r", Kind: "state", Body: []byte("{}")}})
	must(err)
	_, err = s.AddSample(ctx, []byte(`{"machines":1}`))
	must(err)
	must(s.Update(ctx, func(tx *Tx) error { return tx.SaveWindow(ctx, Window{Target: "x", Ends: 1 << 40, Note: "ä"}) }))
	j := newJob(t, s, "build", "x")
	_, err = s.LeaseJob(ctx, "w", []string{"build"}, until)
	must(err)
	must(s.AppendLog(ctx, j.ID, 1, 0, strings.Repeat("long line ", 7_000)))
	_, err = s.CreateOperator(ctx, "o", OperatorAdmin, digest("o"))
	must(err)
	must(s.SetSetting(ctx, "k", "v"))
	must(s.Update(ctx, func(tx *Tx) error {
		_, err := tx.AddToLine(ctx, p.ID, "web")
		_, drawn := tx.DrawVersion(ctx, "x")
		_, again := tx.AddRebuild(ctx, "x", "s")
		return errors.Join(
			err, drawn, again, tx.SavePolicy(ctx, "web", []byte(`{"name":"web"}`), "o"), tx.SetPolicyGroup(ctx, "g", "web"),
			tx.SaveUpdate(ctx, Update{Target: "x", Name: "own", Extra: true, Digest: "d", Summary: []byte("{}")}),
			tx.SaveChoice(ctx, Choice{Policy: "web", Target: "x", Selection: "s", Body: []byte("{}"), Changed: 7}),
		)
	}))
	must(s.Audit(ctx, AuditEntry{Actor: "a"}))
	must(s.Update(ctx, func(tx *Tx) error {
		u, err := tx.CreateUser(ctx, User{Name: "alice", Grants: `[{"role":"admin"}]`})
		if err != nil {
			return err
		}
		_, session := tx.CreateSession(ctx, Session{Hash: digest("session"), Person: u.ID, Expires: until})
		_, link := tx.CreateLink(ctx, Link{Hash: digest("link"), Person: u.ID, Purpose: "welcome", Expires: until})
		_, asked := tx.AskApproval(ctx, Approval{Action: "livepatch.promote", Object: p.ID, AskedBy: u.ID, Expires: until})
		_, key := tx.CreateKey(ctx, Operator{Name: "alice/laptop", Kind: OperatorKey, Hash: digest("key"), Person: u.ID, Scopes: `["look"]`})
		return errors.Join(
			session, link, asked, key, tx.SetTOTP(ctx, u.ID, []byte{0, 1, 255}, 7), tx.AddIdentity(ctx, Identity{Issuer: "https://id", Subject: "1", Person: u.ID}),
			tx.AddPasskey(ctx, Passkey{ID: "k", Person: u.ID, Body: "{}"}), tx.SetRecoveryCodes(ctx, u.ID, [][]byte{digest("r")}),
			tx.BeginCeremony(ctx, Ceremony{ID: "c", Kind: "totp", Person: u.ID, Body: "{}", Expires: until}),
		)
	}))
	must(s.Update(ctx, func(tx *Tx) error {
		r, err := tx.CreateRollout(ctx, Rollout{ID: "r", LivePatch: p.ID, Tier: "edge", Plan: []byte("{}"), State: []byte("{}"), Phase: "pending", CreatedBy: "alice"})
		must(err)
		_, err = tx.SaveRollout(ctx, r, []RolloutMachine{{Machine: "m", Status: "offered", Body: []byte("{}")}}, []RolloutStep{{What: "offer", Why: "it is its turn"}})
		must(err)
		made := tx.CreateChannel(ctx, Channel{ID: "c", Name: "on call", Body: "{}", Secrets: []byte{0, 255}, ChangedBy: "alice"})
		_, err = tx.AddDelivery(ctx, Delivery{ID: "d", Channel: "c", To: "a@b.example", Subject: "s", Message: "{}", Made: 1, Next: 1})
		return errors.Join(made, err, tx.SaveWatch(ctx, "conditions", "{}"))
	}))
	_, err = s.TakeLease(ctx, "rollouts", "s", until, 0)
	must(err)
}

func dump(t testing.TB, s *Store) []byte {
	t.Helper()
	var b bytes.Buffer
	qt.Assert(t, qt.IsNil(s.Dump(t.Context(), &b)))
	return b.Bytes()
}

// rowsOf is a dump without its head and tail, its rows in an order that does
// not depend on the engine.
func rowsOf(t testing.TB, dump []byte) []string {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(string(dump), "\n"), "\n")
	qt.Assert(t, qt.IsTrue(len(lines) > 2+len(tables(newestSchema))))
	table := ""
	var all []string
	for _, l := range lines[1 : len(lines)-1] {
		if strings.HasPrefix(l, "{") {
			table = l
		}
		all = append(all, table+l)
	}
	slices.Sort(all)
	return all
}

func TestTheDumpHasEveryTable(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, c *clock) {
		list := "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
		if s.engine == enginePostgreSQL {
			list = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
		}
		rows, err := s.read.QueryContext(t.Context(), list)
		qt.Assert(t, qt.IsNil(err))
		defer rows.Close()
		var there []string
		for rows.Next() {
			var name string
			qt.Assert(t, qt.IsNil(rows.Scan(&name)))
			if name != "goose_db_version" {
				there = append(there, name)
			}
		}
		qt.Assert(t, qt.IsNil(rows.Err()))
		slices.Sort(there)
		dumped := tables(newestSchema)
		slices.Sort(dumped)
		qt.Check(t, qt.DeepEquals(there, dumped))
		fillAll(t, s, c.in(time.Hour))
		for _, table := range tables(newestSchema) {
			var n int
			qt.Assert(t, qt.IsNil(s.read.QueryRowContext(t.Context(), "SELECT count(*) FROM "+table).Scan(&n)))
			qt.Check(t, qt.IsTrue(n > 0), qt.Commentf("fillAll leaves %s empty", table))
		}
	})
}

func TestADumpGoesFromAnyEngineToAny(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, from string) {
		c := &clock{now: time.UnixMilli(1_800_000_000_000)}
		s := open(t, from, WithClock(c.Now))
		fillAll(t, s, c.in(time.Hour))
		d := dump(t, s)
		backup := filepath.Join(t.TempDir(), "backup")
		qt.Assert(t, qt.IsNil(os.WriteFile(backup, []byte("an older one"), 0o644)))
		qt.Assert(t, qt.IsNil(s.Backup(t.Context(), backup)))
		b, err := os.ReadFile(backup)
		qt.Assert(t, qt.IsNil(err))
		left, err := os.ReadDir(filepath.Dir(backup))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(left, 1)) // no litter
		info, err := os.Stat(backup)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(info.Mode().Perm(), 0o600))

		for _, source := range [][]byte{d, b} {
			for _, to := range []string{"sqlite:" + t.TempDir() + "/restored.db", testenv.Postgres(t)} {
				qt.Assert(t, qt.IsNil(Restore(t.Context(), to, bytes.NewReader(source))))
				r := open(t, to, WithClock(c.Now))
				qt.Check(t, qt.DeepEquals(rowsOf(t, dump(t, r)), rowsOf(t, d)))
				// And it goes on: counters and all are there.
				before, err := r.LastChange(t.Context())
				qt.Assert(t, qt.IsNil(err))
				qt.Assert(t, qt.IsNil(r.SetSetting(t.Context(), "k", "after")))
				after, err := r.LastChange(t.Context())
				qt.Assert(t, qt.IsNil(err))
				qt.Check(t, qt.Equals(after, before+1))
				qt.Check(t, qt.Equals(codeOf(Restore(t.Context(), to, bytes.NewReader(source))), "TS7416"))
			}
		}
	})
}

func TestADumpIsOfOneMoment(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, _ *clock) {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { // each transaction writes the same to two tables
			for i := 0; ctx.Err() == nil; i++ {
				err := s.Update(t.Context(), func(tx *Tx) error {
					if err := tx.SetSetting(t.Context(), "n", fmt.Sprint(i)); err != nil {
						return err
					}
					return tx.Audit(t.Context(), AuditEntry{Object: fmt.Sprint(i)})
				})
				if err != nil {
					t.Errorf("write: %v", err)
					return
				}
			}
		})
		for range 3 {
			to := "sqlite:" + t.TempDir() + "/x.db"
			qt.Assert(t, qt.IsNil(Restore(t.Context(), to, bytes.NewReader(dump(t, s)))))
			r, err := Open(t.Context(), to)
			qt.Assert(t, qt.IsNil(err))
			n, err := r.Setting(t.Context(), "n")
			if errors.Is(err, ErrNotFound) {
				n, err = "", nil
			}
			qt.Assert(t, qt.IsNil(err))
			last, err := r.AuditEntries(t.Context(), AuditFilter{Limit: 1})
			qt.Assert(t, qt.IsNil(err))
			if len(last) == 1 || n != "" {
				qt.Check(t, qt.Equals(n, last[0].Object))
			}
			qt.Assert(t, qt.IsNil(r.Close()))
		}
		cancel()
		wg.Wait()
	})
}

func TestDamagedDumpsRestoreNothing(t *testing.T) {
	t.Parallel()
	s := open(t, "sqlite:"+t.TempDir()+"/x.db")
	fillAll(t, s, time.Now().Add(time.Hour).UnixMilli())
	d := dump(t, s)
	cases := map[string][]byte{
		"empty": nil, "no dump": []byte("hello\n"), "no line": []byte("{"), "cut off": d[:len(d)/2], "without its tail": d[:bytes.LastIndexByte(d[:len(d)-1], '\n')+1],
		"something after it": append(slices.Clone(d), 'x'), "a newer format": bytes.Replace(d, []byte(`"format":1`), []byte(`"format":2`), 1),
		"another word":    bytes.Replace(d, []byte(`"6.1.0-55-amd64"`), []byte(`"6.1.0-56-amd64"`), 1),
		"a missing row":   dropLine(d, `["edge",`),
		"a null":          bytes.Replace(d, []byte(`["k","v"`), []byte(`["k",null`), 1),
		"another type":    bytes.Replace(d, []byte(`["k","v"`), []byte(`["k",1`), 1),
		"too few values":  bytes.Replace(d, []byte(`["k","v",`), []byte(`["k",`), 1),
		"another column":  bytes.Replace(d, []byte(`"columns":["key"`), []byte(`"columns":["value"`), 1),
		"another table":   bytes.Replace(d, []byte(`"table":"settings"`), []byte(`"table":"sqlite_master"`), 1),
		"a broken SQLite": append([]byte("SQLite format 3\x00"), make([]byte, 5000)...),
	}
	engines(t, func(t *testing.T, to string) {
		for name, b := range cases {
			if strings.HasPrefix(to, "postgres:") && !slices.Contains([]string{"cut off", "another word", "a missing row", "a null"}, name) {
				continue // found before the engine is asked
			}
			qt.Assert(t, qt.IsFalse(bytes.Equal(b, d)), qt.Commentf("%s", name))
			err := Restore(t.Context(), to, bytes.NewReader(b))
			qt.Check(t, qt.Equals(codeOf(err), "TS7410"), qt.Commentf("%s: %v", name, err))
		}
		newer := regexp.MustCompile(`"schema":[0-9]+`).ReplaceAll(d, []byte(`"schema":99`))
		qt.Check(t, qt.Equals(codeOf(Restore(t.Context(), to, bytes.NewReader(newer))), "TS7408"))
		// Nothing of all that is there, and the database can still be filled.
		r := open(t, to)
		_, err := r.Setting(t.Context(), "k")
		qt.Check(t, qt.ErrorIs(err, ErrNotFound))
		qt.Assert(t, qt.IsNil(Restore(t.Context(), to, bytes.NewReader(d))))
	})
}

func dropLine(d []byte, start string) []byte {
	i := bytes.Index(d, []byte("\n"+start))
	end := i + 1 + bytes.IndexByte(d[i+1:], '\n')
	return slices.Concat(d[:i], d[end:])
}

// An error of the reader is its own.
func TestADumpThatCannotBeRead(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	r := io.MultiReader(strings.NewReader(`{"dump":"tsugi"`), &failing{broken})
	qt.Check(t, qt.ErrorIs(Restore(t.Context(), "sqlite:"+t.TempDir()+"/x.db", r), broken))
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

// FuzzDump holds that whatever a dump's bytes are, reading them ends, with an
// error or with rows whose values are of their columns' kinds.
func FuzzDump(f *testing.F) {
	seed := func(body string) {
		head := `{"dump":"tsugi","format":1,"schema":3,"time":0}` + "\n"
		sum := sha256.Sum256([]byte(head + body))
		f.Add([]byte(head + body + fmt.Sprintf(`{"rows":%d,"sha256":"%s"}`+"\n", strings.Count(body, "\n[")+0, hex.EncodeToString(sum[:]))))
	}
	var body strings.Builder
	for i, t := range tables(newestSchema) {
		fmt.Fprintf(&body, `{"table":"%s","columns":["a","b","c","d"]}`+"\n", t)
		fmt.Fprintf(&body, `["x",%d,true,"AAE="]`+"\n", i)
	}
	seed(body.String())
	f.Add([]byte(`{"dump":"tsugi","format":1,"schema":1}` + "\n[[[[[[\n"))
	columns := []column{{"a", kindText}, {"b", kindInteger}, {"c", kindBoolean}, {"d", kindBytes}}
	f.Fuzz(func(t *testing.T, b []byte) {
		d := &dumpReader{r: bufio.NewReaderSize(bytes.NewReader(b), 64), sum: sha256.New()}
		if _, err := d.head(); err != nil {
			return
		}
		n := int64(0)
		err := d.tables(func(string, []string) ([]column, error) { return columns, nil }, func(_ string, c []column, rows [][]any) error {
			for _, row := range rows {
				n++
				_, isText := row[0].(string)
				_, isInteger := row[1].(int64)
				_, isBoolean := row[2].(bool)
				v, isBytes := row[3].([]byte)
				if len(row) != len(c) || !isText || !isInteger || !isBoolean || !isBytes || v == nil {
					t.Errorf("row %v", row)
				}
			}
			return nil
		})
		if err == nil && n != d.rows {
			t.Errorf("%d rows given, %d counted", n, d.rows)
		}
	})
}

var update = flag.Bool("update", false, "write testdata again")

// The dump of the first schema, with something in each table, is kept for
// good: every later program restores it on both engines, which migrates it.
func TestTheFirstSchemaMigratesWithItsData(t *testing.T) {
	t.Parallel()
	const path = "testdata/schema-1.dump"
	if *update {
		c := &clock{now: time.UnixMilli(1_800_000_000_000)}
		s := open(t, "sqlite:"+t.TempDir()+"/x.db", WithClock(c.Now))
		v, err := s.Schema(t.Context())
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.Equals(v, 1), qt.Commentf("the first schema is written by the program of then"))
		fillAll(t, s, c.in(time.Hour))
		qt.Assert(t, qt.IsNil(os.WriteFile(path, dump(t, s), 0o644)))
	}
	d, err := os.ReadFile(path)
	qt.Assert(t, qt.IsNil(err))
	engines(t, func(t *testing.T, to string) {
		qt.Assert(t, qt.IsNil(Restore(t.Context(), to, bytes.NewReader(d))))
		s := open(t, to)
		v, err := s.Schema(t.Context())
		qt.Assert(t, qt.IsNil(err))
		all, err := fs.Glob(embedded, "migrations/*.sql")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(v, int64(len(all))))
		m, err := s.MachineByCredential(t.Context(), digest("credential of m"))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(m.Booted, 1<<53+1))
		qt.Check(t, qt.Equals(m.Group, "ä\"\\\u2028<&>"))
		p, err := s.LivePatch(t.Context(), "x-v1")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(p.SealedKey[255], 255))
		qt.Check(t, qt.DeepEquals(p.CVEs, []string{"CVE-1", "CVE-2"}))
		qt.Check(t, qt.DeepEquals(p.Tiers, []string{"edge"}))
		// What the first schema published is the default policy's.
		qt.Check(t, qt.DeepEquals(p.Policies, []string{"default"}))
		x, err := s.Index(t.Context(), "edge", "b-x", "default")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(x.Sequence, 1))
		end, err := s.EndOfLine(t.Context(), "default", "x")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(end, LineEnd{ID: "x-v1", Version: 1}))
		jobs, err := s.Jobs(t.Context(), JobFilter{State: JobRunning})
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(jobs, 1))
		// Its operators are keys of nobody, and its audit log begins the chain.
		o, err := s.OperatorByHash(t.Context(), digest("o"))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(o, Operator{ID: o.ID, Name: "o", Kind: OperatorAdmin, Hash: digest("o"), Created: o.Created}))
		entries := chainOf(t, s)
		qt.Assert(t, qt.HasLen(entries, 1))
		qt.Check(t, qt.Equals(entries[0].Seq, 1))
	})
}

// later is the embedded migrations and one after them.
func later(t *testing.T, next string) fs.FS {
	all := fstest.MapFS{}
	names, err := fs.Glob(embedded, "migrations/*.sql")
	qt.Assert(t, qt.IsNil(err))
	for _, n := range names {
		b, err := fs.ReadFile(embedded, n)
		qt.Assert(t, qt.IsNil(err))
		all[filepath.Base(n)] = &fstest.MapFile{Data: b}
	}
	all["09999_later.sql"] = &fstest.MapFile{Data: []byte(next)}
	return all
}

func TestMigrations(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		fillAll(t, s, time.Now().Add(time.Hour).UnixMilli())
		before := rowsOf(t, dump(t, s))
		next := later(t, "-- +goose Up\nALTER TABLE settings ADD COLUMN note TEXT NOT NULL DEFAULT 'n';\n")

		// A step that fails leaves everything as it was.
		err := s.migrate(t.Context(), later(t, "-- +goose Up\nALTER TABLE settings ADD COLUMN x TEXT NOT NULL DEFAULT '';\nALTER TABLE nowhere ADD COLUMN x TEXT;\n"))
		qt.Assert(t, qt.IsNotNil(err))
		qt.Check(t, qt.DeepEquals(rowsOf(t, dump(t, s)), before))

		// Servers that start at the same time migrate once.
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				other, err := connect(dsn)
				if err == nil {
					err = errors.Join(other.migrate(t.Context(), next), other.Close())
				}
				if err != nil {
					t.Errorf("migrate: %v", err)
				}
			})
		}
		wg.Wait()
		var note, value string
		qt.Assert(t, qt.IsNil(s.read.QueryRowContext(t.Context(), "SELECT note, value FROM settings WHERE key = 'k'").Scan(&note, &value)))
		qt.Check(t, qt.DeepEquals([]string{note, value}, []string{"n", "v"}))

		// This program is older than the database now.
		_, err = Open(t.Context(), dsn)
		qt.Check(t, qt.Equals(codeOf(err), "TS7408"))
	})
}

func TestServersThatStartTogether(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, dsn string) {
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				s, err := Open(t.Context(), dsn)
				if err == nil {
					err = errors.Join(s.Ping(t.Context()), s.Close())
				}
				if err != nil {
					t.Errorf("open: %v", err)
				}
			})
		}
		wg.Wait()
	})
}

// TestTheQueriesAreCompiled finds a query or a migration that was changed and
// not compiled: `make queries` does.
func TestTheQueriesAreCompiled(t *testing.T) {
	t.Parallel()
	sum := sha256.New()
	for _, pattern := range []string{"sqlc.yaml", "migrations/*.sql", "queries/*.sql"} {
		names, err := filepath.Glob(pattern)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsTrue(len(names) > 0))
		for _, n := range names {
			b, err := os.ReadFile(n)
			qt.Assert(t, qt.IsNil(err))
			sum.Write(b)
		}
	}
	want, err := os.ReadFile("query/source.sha256")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(hex.EncodeToString(sum.Sum(nil)), strings.TrimSpace(string(want))))
}

// The dump's rows are JSON that says the same in other programs.
func TestADumpIsPlainJSON(t *testing.T) {
	t.Parallel()
	s := open(t, "sqlite:"+t.TempDir()+"/x.db")
	fillAll(t, s, 0)
	for line := range bytes.Lines(dump(t, s)) {
		qt.Assert(t, qt.IsTrue(json.Valid(line)))
	}
}
