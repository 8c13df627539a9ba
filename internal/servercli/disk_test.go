// SPDX-License-Identifier: Apache-2.0

package servercli_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/testenv/need"
)

// mount makes a small file system of its own.
func mount(t *testing.T, options string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "disk")
	qt.Assert(t, qt.IsNil(os.Mkdir(dir, 0o755)))
	err := unix.Mount("tmpfs", dir, "tmpfs", 0, options)
	if errors.Is(err, unix.EPERM) {
		need.Allowed(t, "no file system can be mounted here: run as root")
	}
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { qt.Check(t, qt.IsNil(unix.Unmount(dir, unix.MNT_DETACH))) })
	return dir
}

// fails runs a command that has to fail and returns the code that it told.
func fails(t *testing.T, args ...string) code.Code {
	t.Helper()
	out, err := exec.Command("tsugi-server", append(args, "--json")...).Output()
	qt.Assert(t, qt.IsNotNil(err), qt.Commentf("%v", args))
	var told struct {
		Result struct {
			Problem *code.Problem `json:"problem"`
		} `json:"result"`
	}
	if json.Unmarshal(out, &told) == nil && told.Result.Problem != nil {
		return told.Result.Problem.Code
	}
	// The code stands somewhere in what was told.
	all := append(out, []byte(problemOf(err))...)
	if i := bytes.Index(all, []byte("TS")); i >= 0 && len(all) >= i+6 {
		return code.Code(all[i : i+6])
	}
	t.Fatalf("%v: no code: %s", args, all)
	return ""
}

func oneOf(t *testing.T, c code.Code, codes ...code.Code) {
	t.Helper()
	for _, is := range codes {
		if c == is {
			return
		}
	}
	t.Errorf("code %s is none of %v", c, codes)
}

func TestAFullDisk(t *testing.T) {
	t.Parallel()
	disk := mount(t, "size=6m")
	s := newSite(t, filepath.Join(disk, "srv"), "sqlite:tsugi.db", "")
	s.start()
	c, _, _ := s.machine("m")
	filler := filepath.Join(disk, "filler")
	fill(t, filler)

	// What can't be kept is not acknowledged, and the reason is told.
	artifact, proof, err := makePatch(1, 1, "f")
	qt.Assert(t, qt.IsNil(err))
	_, err = s.admin().Publish(t.Context(), client.Publication{Artifact: artifact, Proof: proof})
	oneOf(t, code.Of(err), "TS7403", "TS7412", "TS9103", "TS7414")
	var refusedReport error
	for range 200 { // the database has some room left in its pages
		report := api.Report{ID: newID(), Time: 1, Kind: api.ReportState, BootID: "b", Kernel: kernelOf(0), Detail: string(bytes.Repeat([]byte("x"), 8000))}
		if _, refusedReport = c.Report(t.Context(), []api.Report{report}); refusedReport != nil {
			break
		}
	}
	oneOf(t, code.Of(refusedReport), "TS7403")

	// The server lives, and goes on when there is room again.
	qt.Assert(t, qt.IsNil(os.Remove(filler)))
	_, err = s.admin().Publish(t.Context(), client.Publication{Artifact: artifact, Proof: proof})
	qt.Assert(t, qt.IsNil(err))
	_, err = c.Report(t.Context(), []api.Report{{ID: newID(), Time: 1, Kind: api.ReportState, BootID: "b", Kernel: kernelOf(0)}})
	qt.Check(t, qt.IsNil(err))

	// Commands that write say so, too, and leave nothing half made.
	fill(t, filler)
	backup := filepath.Join(disk, "b.tar.zst")
	oneOf(t, fails(t, "backup", backup, "--dir", s.dir), "TS9103", "TS7403", "TS7410", "TS7414")
	_, err = os.Stat(backup)
	qt.Check(t, qt.ErrorIs(err, os.ErrNotExist))
	oneOf(t, fails(t, "init", "--dir", filepath.Join(disk, "other"), "--url", "https://localhost:1", "--no-root-passphrase"), "TS9103", "TS7403", "TS1903")
	_, err = os.Stat(filepath.Join(disk, "other", "server.yaml"))
	qt.Check(t, qt.ErrorIs(err, os.ErrNotExist))
	s.stop()
}

func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	qt.Assert(t, qt.IsNil(err))
	defer f.Close()
	for size := 64 << 10; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, unix.ENOSPC) {
			size /= 2
		} else {
			qt.Assert(t, qt.IsNil(err))
		}
	}
}

func TestAReadOnlyDisk(t *testing.T) {
	t.Parallel()
	disk := mount(t, "size=16m")
	s := newSite(t, filepath.Join(disk, "srv"), "sqlite:tsugi.db", "")
	qt.Assert(t, qt.IsNil(unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")))
	oneOf(t, fails(t, "serve", "--dir", s.dir), "TS7810", "TS7404")
	oneOf(t, fails(t, "init", "--dir", filepath.Join(disk, "other"), "--url", "https://localhost:1", "--no-root-passphrase"), "TS7810")
	qt.Assert(t, qt.IsNil(unix.Mount("", disk, "", unix.MS_REMOUNT, "")))
	s.start()
	s.stop()
}

// TestABackupUnderLoadServesAgain takes a backup while machines report and
// live patches are published, and makes a server of it in another place.
func TestABackupUnderLoadServesAgain(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *site) {
		s.start()
		c, id, credential := s.machine("m")
		ack := &acknowledged{reports: map[string][]string{}, published: map[string]int{}}
		done := make(chan struct{})
		var load sync.WaitGroup
		load.Go(func() { s.report(c, id, ack, done) })
		load.Go(func() { s.publish(ack, done) })
		eventually(t, func() bool { n, _ := ack.count(); return n > 3 })

		// What was acknowledged before the backup began is in it.
		ack.mu.Lock()
		before := &acknowledged{published: map[string]int{}, reports: map[string][]string{id: append([]string{}, ack.reports[id]...)}}
		for patch, n := range ack.published {
			before.published[patch] = n
		}
		ack.mu.Unlock()
		file := filepath.Join(t.TempDir(), "b.tar.zst")
		out, err := exec.Command("tsugi-server", "backup", file, "--with-keys", "--dir", s.dir).CombinedOutput()
		qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", out))
		time.Sleep(300 * time.Millisecond) // machines see what comes after it
		close(done)
		load.Wait()
		follower := s.follower()
		qt.Assert(t, qt.IsNil(follower.Refresh(t.Context())))
		s.kill()

		// Another disk, and from whatever it was to SQLite and a folder.
		restored := &site{t: t, dir: filepath.Join(t.TempDir(), "srv"), url: s.url, ca: s.ca, operator: s.operator, enroll: s.enroll}
		restored.dsn = "sqlite:" + filepath.Join(restored.dir, "tsugi.db")
		config := filepath.Join(t.TempDir(), "new.yaml")
		text := "url: " + s.url + "\nlisten: 127.0.0.1" + s.url[len("https://localhost"):] + "\nworkers: {count: 0}\n"
		qt.Assert(t, qt.IsNil(os.WriteFile(config, []byte(text), 0o600)))
		out, err = exec.Command("tsugi-server", "restore", file, "--dir", restored.dir, "--config", config).CombinedOutput()
		qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", out))
		t.Cleanup(restored.kill)
		restored.start()

		// The machine that knew newer metadata than the backup follows again.
		qt.Check(t, qt.IsNil(follower.Refresh(t.Context())))
		checkIn(t, restored.client(credential), "")
		restored.checkServed(before)
		restored.checkStored(before)
	})
}
