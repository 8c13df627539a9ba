// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bufio"
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/testenv"
	"github.com/tsugi-project/tsugi/internal/testenv/need"
)

// TestMain is also the program that TestNothingAcknowledgedIsLost kills.
func TestMain(m *testing.M) {
	if dsn := os.Getenv("TSUGI_STORE_WRITER"); dsn != "" {
		fmt.Fprintln(os.Stderr, writeUntilKilled(dsn, os.Getenv("TSUGI_STORE_ROUND")))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// writeUntilKilled writes what a server accepts, from several sides at the
// same time, and says on standard output what it was told is stored.
func writeUntilKilled(dsn, round string) error {
	ctx := context.Background()
	s, err := Open(ctx, dsn)
	if err != nil {
		return err
	}
	writers := []func(n string) (string, error){
		func(n string) (string, error) {
			ids, err := s.AddReports(ctx, "machine", []Report{{ID: n + "a"}, {ID: n + "b", Body: []byte(strings.Repeat("x", 2000))}})
			return "reports " + strings.Join(ids, " "), err
		},
		func(n string) (string, error) {
			j, err := s.CreateJob(ctx, Job{Kind: "build", Target: n})
			return "job " + j.ID, err
		},
		func(string) (string, error) {
			j, err := s.LeaseJob(ctx, "w"+round, []string{"build"}, time.Now().Add(time.Hour).UnixMilli())
			if err != nil || j == nil {
				return "", err
			}
			if err := s.AppendLog(ctx, j.ID, j.Attempt, 0, "line"); err != nil {
				return "", err
			}
			return "done " + j.ID, s.FinishJob(ctx, j.ID, j.Worker, JobResult{State: JobDone})
		},
		func(n string) (string, error) {
			var id string
			err := s.Update(ctx, func(tx *Tx) error {
				version, err := tx.NextVersion(ctx, "x")
				if err != nil {
					return err
				}
				p := livePatchOf("x", version)
				id = p.ID
				if err := tx.AddLivePatch(ctx, p); err != nil {
					return err
				}
				if _, err := tx.AddPublication(ctx, id, "edge"); err != nil {
					return err
				}
				sequence, err := tx.NextSequence(ctx, "edge", p.BuildID, "default")
				if err != nil {
					return err
				}
				generation, err := tx.TUFGeneration(ctx)
				if err != nil {
					return err
				}
				_, err = tx.SaveTUF(ctx, []TUFFile{{Role: "timestamp", Version: sequence, Name: "timestamp.json", Body: []byte(id)}}, generation)
				return err
			})
			return "published " + id, err
		},
	}
	var out sync.Mutex
	failed := make(chan error)
	for w, write := range writers {
		for side := range 2 {
			if w == 3 && side == 1 {
				continue // one publishes at a time, as H1's service does
			}
			go func() {
				for i := 0; ; i++ {
					said, err := write(fmt.Sprintf("%s-%d-%d", round, side, i))
					if err != nil {
						failed <- err
						return
					}
					if said != "" {
						out.Lock()
						fmt.Println(said)
						out.Unlock()
					}
				}
			}()
		}
	}
	return <-failed
}

func TestNothingAcknowledgedIsLost(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, dsn string) {
		open(t, dsn) // the schema is there
		said := []string{}
		for round := range 4 {
			said = append(said, killedWriter(t, dsn, round)...)
		}
		qt.Assert(t, qt.IsTrue(len(said) > 20))
		s := open(t, dsn)
		checkAcknowledged(t, s, said)
		// What goes together is there together: each publication of the last
		// version has its live patch, index and TUF file.
		files, generation, err := s.TUFFiles(t.Context())
		qt.Assert(t, qt.IsNil(err))
		index, err := s.Index(t.Context(), "edge", "b-x", "default")
		qt.Assert(t, qt.IsNil(err))
		next, err := s.NextVersion(t.Context(), "x")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(index.Sequence, int64(next-1)))
		qt.Check(t, qt.Equals(generation, int64(next-1)))
		qt.Assert(t, qt.HasLen(files, 1))
		qt.Check(t, qt.Equals(string(files[0].Body), fmt.Sprintf("x-v%d", next-1)))
		if s.engine == engineSQLite {
			var ok string
			qt.Assert(t, qt.IsNil(s.read.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&ok)))
			qt.Check(t, qt.Equals(ok, "ok"))
		}
	})
}

// killedWriter runs a writer, kills it at some moment, and returns what it
// said until then.
func killedWriter(t *testing.T, dsn string, round int) (said []string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "TSUGI_STORE_WRITER="+dsn, fmt.Sprintf("TSUGI_STORE_ROUND=%d", round))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(cmd.Start()))
	r := bufio.NewReader(out)
	for n := 4 + rand.IntN(60); ; n-- {
		line, err := r.ReadString('\n')
		if errors.Is(err, io.EOF) {
			break // a line without its end was not said
		}
		qt.Assert(t, qt.IsNil(err))
		said = append(said, strings.TrimSuffix(line, "\n"))
		if n == 0 {
			time.Sleep(time.Duration(rand.IntN(5000)) * time.Microsecond)
			qt.Assert(t, qt.IsNil(cmd.Process.Kill()))
		}
	}
	err = cmd.Wait()
	state, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	qt.Assert(t, qt.IsTrue(ok && state.Signaled()), qt.Commentf("%v: %s", err, stderr.String()))
	return said
}

func checkAcknowledged(t *testing.T, s *Store, said []string) {
	t.Helper()
	reports, counts := map[string]bool{}, map[string]int{}
	for before := ""; ; {
		page, err := s.Reports(t.Context(), ReportFilter{Before: before})
		qt.Assert(t, qt.IsNil(err))
		if len(page) == 0 {
			break
		}
		for _, r := range page {
			reports[r.ID], before = true, r.Seq
		}
	}
	for _, line := range said {
		f := strings.Fields(line)
		counts[f[0]]++
		switch f[0] {
		case "reports":
			qt.Check(t, qt.IsTrue(reports[f[1]] && reports[f[2]]), qt.Commentf("%s", line))
		case "job", "done":
			j, err := s.Job(t.Context(), f[1])
			qt.Check(t, qt.IsNil(err), qt.Commentf("%s", line))
			qt.Check(t, qt.IsTrue(f[0] == "job" || j.State == JobDone), qt.Commentf("%s: %s", line, j.State))
		case "published":
			p, err := s.LivePatch(t.Context(), f[1])
			qt.Check(t, qt.IsNil(err), qt.Commentf("%s", line))
			qt.Check(t, qt.DeepEquals(p.Tiers, []string{"edge"}), qt.Commentf("%s", line))
		default:
			t.Errorf("%q", line)
		}
	}
	t.Logf("acknowledged: %v", counts)
	qt.Check(t, qt.Equals(len(counts), 4))
}

// small mounts a tmpfs, which only root can.
func small(t *testing.T, options string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tsugi-test", dir, "tmpfs", 0, options); err != nil {
		need.Allowed(t, "mounting a small file system: ", err)
	}
	t.Cleanup(func() { qt.Check(t, qt.IsNil(syscall.Unmount(dir, syscall.MNT_DETACH))) })
	return dir
}

func TestAFullDisk(t *testing.T) {
	t.Parallel()
	dir := small(t, "size=3m")
	dsn := "sqlite:" + filepath.Join(dir, "x.db")
	s, err := Open(t.Context(), dsn)
	qt.Assert(t, qt.IsNil(err))
	body := []byte(strings.Repeat("x", 20_000))
	stored := 0
	for ; ; stored++ {
		qt.Assert(t, qt.IsTrue(stored < 1000))
		_, err = s.AddReports(t.Context(), "m", []Report{{ID: fmt.Sprint(stored), Body: body}, {ID: fmt.Sprint(stored, "b"), Body: body}})
		if err != nil {
			break
		}
	}
	qt.Check(t, qt.Equals(codeOf(err), "TS7403"), qt.Commentf("%v", err))
	qt.Check(t, qt.IsTrue(stored > 5))
	found, err := s.Reports(t.Context(), ReportFilter{})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(found, 2*stored)) // nothing half
	large := []byte(strings.Repeat("x", 400_000))
	_, err = s.AddReports(t.Context(), "m", []Report{{ID: "again", Body: large}})
	qt.Check(t, qt.Equals(codeOf(err), "TS7403"))
	qt.Check(t, qt.Equals(codeOf(s.Backup(t.Context(), filepath.Join(dir, "backup"))), "TS7403"))
	left, err := os.ReadDir(dir)
	qt.Assert(t, qt.IsNil(err))
	for _, e := range left {
		qt.Check(t, qt.IsTrue(strings.HasPrefix(e.Name(), "x.db")), qt.Commentf("%s is left", e.Name()))
	}
	// With space again it goes on as if nothing had been.
	qt.Assert(t, qt.IsNil(syscall.Mount("", dir, "", syscall.MS_REMOUNT, "size=64m")))
	_, err = s.AddReports(t.Context(), "m", []Report{{ID: "again", Body: large}})
	qt.Check(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(s.Close()))
	s, err = Open(t.Context(), dsn)
	qt.Assert(t, qt.IsNil(err))
	found, err = s.Reports(t.Context(), ReportFilter{})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(found, 2*stored+1))
	qt.Assert(t, qt.IsNil(s.Close()))
}

// The files of a PostgreSQL database are on a small disk here, its log is not.
func TestAFullDiskOfPostgreSQL(t *testing.T) {
	t.Parallel()
	dsn := testenv.Postgres(t)
	dir := small(t, "size=16m,mode=0777")
	// The server, who is user postgres, comes to it by a path that is open to all.
	qt.Assert(t, qt.IsNil(os.Chmod(filepath.Dir(dir), 0o755)))
	owner, err := user.Lookup("postgres")
	qt.Assert(t, qt.IsNil(err))
	uid, err := strconv.Atoi(owner.Uid)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(os.Chown(dir, uid, -1)))
	admin, err := sql.Open("pgx", dsn)
	qt.Assert(t, qt.IsNil(err))
	defer admin.Close()
	do := func(statement string) {
		t.Helper()
		_, err := admin.ExecContext(context.Background(), statement)
		qt.Check(t, qt.IsNil(err))
	}
	do("CREATE TABLESPACE small LOCATION '" + dir + "'")
	defer do("DROP TABLESPACE small")
	do("CREATE DATABASE on_small TEMPLATE template0 TABLESPACE small")
	defer do("DROP DATABASE on_small WITH (FORCE)")

	u, err := url.Parse(dsn)
	qt.Assert(t, qt.IsNil(err))
	u.Path = "/on_small"
	s, err := Open(t.Context(), u.String())
	qt.Assert(t, qt.IsNil(err))
	defer s.Close()
	// Not to be compressed away.
	body := []byte(hex.EncodeToString(randomBytes(200_000)))
	stored := 0
	for ; ; stored++ {
		qt.Assert(t, qt.IsTrue(stored < 1000))
		_, err = s.AddReports(t.Context(), "m", []Report{{ID: fmt.Sprint(stored), Body: body}, {ID: fmt.Sprint(stored, "b"), Body: body}})
		if err != nil {
			break
		}
	}
	qt.Check(t, qt.Equals(codeOf(err), "TS7403"), qt.Commentf("%v", err))
	found, err := s.Reports(t.Context(), ReportFilter{})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(found, 2*stored))
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

func TestADatabaseThatMayNotBeWritten(t *testing.T) {
	t.Parallel()
	dsn := testenv.Postgres(t)
	_, err := Open(t.Context(), dsn+"&default_transaction_read_only=on")
	qt.Check(t, qt.Equals(codeOf(err), "TS7404"), qt.Commentf("%v", err))
	open(t, dsn)
	s := open(t, dsn+"&default_transaction_read_only=on")
	qt.Check(t, qt.Equals(codeOf(s.SetSetting(t.Context(), "k", "v")), "TS7404"))
	_, err = s.Tiers(t.Context())
	qt.Check(t, qt.IsNil(err))
}

func TestAReadOnlyDirectory(t *testing.T) {
	t.Parallel()
	dir := small(t, "size=3m")
	dsn := "sqlite:" + filepath.Join(dir, "x.db")
	s, err := Open(t.Context(), dsn)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(s.SetSetting(t.Context(), "k", "v")))
	qt.Assert(t, qt.IsNil(s.Close()))
	qt.Assert(t, qt.IsNil(syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, "")))
	_, err = Open(t.Context(), dsn)
	qt.Check(t, qt.Equals(codeOf(err), "TS7404"), qt.Commentf("%v", err))
	_, err = Open(t.Context(), "sqlite:"+filepath.Join(dir, "new.db"))
	qt.Check(t, qt.Equals(codeOf(err), "TS7404"), qt.Commentf("%v", err))
	qt.Assert(t, qt.IsNil(syscall.Mount("", dir, "", syscall.MS_REMOUNT, "")))
	s, err = Open(t.Context(), dsn)
	qt.Assert(t, qt.IsNil(err))
	v, err := s.Setting(t.Context(), "k")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(v, "v"))
	qt.Assert(t, qt.IsNil(s.Close()))
}

func TestDatabasesThatCannotBeOpened(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(dir, "text.db"), []byte(strings.Repeat("not a database\n", 1000)), 0o644)))
	for _, c := range []struct {
		dsn  string
		code string
	}{
		{"", "TS7401"},
		{"/var/lib/x.db", "TS7401"},
		{"sqlite:", "TS7401"},
		{"sqlite::memory:", "TS7401"},
		{"sqlite:x.db?mode=ro", "TS7401"},
		{"mysql://x", "TS7401"},
		{"postgres://u:secret@[bad/x", "TS7401"},
		{"sqlite:" + dir + "/none/x.db", "TS7402"},
		{"sqlite:" + dir, "TS7402"},
		{"sqlite:" + dir + "/text.db", "TS7405"},
		{"postgres://u:secret@127.0.0.1:1/x?sslmode=disable", "TS7402"},
		{"postgres:///x?host=" + dir, "TS7402"},
	} {
		_, err := Open(t.Context(), c.dsn)
		qt.Check(t, qt.Equals(string(codeOf(err)), c.code), qt.Commentf("%s: %v", c.dsn, err))
		qt.Check(t, qt.IsFalse(err != nil && strings.Contains(err.Error(), "secret")), qt.Commentf("%v", err))
	}
}

// What durability rests on is really set, also on a connection that was made
// anew, and the files are their owner's.
func TestHowSQLiteIsSet(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, "sqlite:"+dir+"/x.db")
	for range 2 {
		for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "10000"} {
			var got string
			qt.Assert(t, qt.IsNil(s.write.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got)))
			qt.Check(t, qt.Equals(got, want), qt.Commentf("%s", pragma))
		}
		_, err := s.read.ExecContext(t.Context(), "DELETE FROM tiers")
		qt.Check(t, qt.IsNotNil(err))
		conn, err := s.write.Conn(t.Context())
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.ErrorIs(conn.Raw(func(any) error { return driver.ErrBadConn }), driver.ErrBadConn))
		conn.Close()
		qt.Assert(t, qt.IsNil(s.SetSetting(t.Context(), "k", "v")))
	}
	files, err := os.ReadDir(dir)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(len(files) > 1))
	for _, f := range files {
		info, err := f.Info()
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(info.Mode().Perm(), 0o600), qt.Commentf("%s", f.Name()))
	}
}

// A path may hold what means something in a URL.
func TestPathsThatLookLikeURLs(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a b%20c&d=ä")
	qt.Assert(t, qt.IsNil(os.Mkdir(dir, 0o755)))
	s := open(t, "sqlite:"+dir+"/x y%.db")
	qt.Assert(t, qt.IsNil(s.SetSetting(t.Context(), "k", "v")))
	_, err := os.Stat(dir + "/x y%.db")
	qt.Check(t, qt.IsNil(err))
	backup := dir + "/b'u%p"
	qt.Assert(t, qt.IsNil(s.Backup(t.Context(), backup)))
	_, err = os.Stat(backup)
	qt.Check(t, qt.IsNil(err))
}

func TestAPostgreSQLThatGoesAway(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, _ *clock) {
		if s.engine != enginePostgreSQL {
			t.Skip("a file does not go away")
		}
		// All connections break, as when the server restarts; the pool finds out by itself.
		qt.Assert(t, qt.IsNil(s.SetSetting(t.Context(), "k", "1")))
		conn, err := s.write.Conn(t.Context())
		qt.Assert(t, qt.IsNil(err))
		_, err = conn.ExecContext(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
		qt.Assert(t, qt.IsNil(err))
		_, err = conn.ExecContext(t.Context(), "SELECT pg_terminate_backend(pg_backend_pid())")
		qt.Check(t, qt.Equals(codeOf(s.translate(err)), "TS7402"), qt.Commentf("%v", err))
		conn.Close()
		deadline := time.Now().Add(20 * time.Second)
		for {
			err := s.SetSetting(t.Context(), "k", "2")
			if err == nil {
				break
			}
			qt.Assert(t, qt.Equals(codeOf(err), "TS7402"), qt.Commentf("%v", err))
			qt.Assert(t, qt.IsTrue(time.Now().Before(deadline)))
		}
		v, err := s.Setting(t.Context(), "k")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(v, "2"))
	})
}
