// SPDX-License-Identifier: Apache-2.0

package updater_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/trust"
	"github.com/tsugi-project/tsugi/internal/trust/repo"
	"github.com/tsugi-project/tsugi/internal/trust/updater"
)

var (
	buildID = strings.Repeat("ab", 20)
	start   = time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
)

// world is a repository, the network to it and a machine that follows it.
type world struct {
	t     testing.TB
	now   time.Time
	repo  *repo.Repo
	keys  map[string]*trust.Key // by role: root, targets, snapshot, timestamp, tier-edge, tier-stable
	files map[string][]byte     // what the server serves
	// answer, if not nil, is asked before files.
	answer func(path string, max int64) ([]byte, error)
	asked  []string

	dir     string
	machine *updater.Updater
	server  time.Time // what the server says the time is, if known

	id     trust.Identity
	key    trust.ContentKey
	plain  []byte
	offer  trust.Offer
	number int64
}

func newKey(t testing.TB) *trust.Key {
	k, err := trust.GenerateKey()
	qt.Assert(t, qt.IsNil(err))
	return k
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, now: start, keys: map[string]*trust.Key{}, files: map[string][]byte{}}
	var ring repo.Keyring
	for _, role := range []string{"root", "targets", "snapshot", "timestamp", "tier-edge", "tier-stable"} {
		w.keys[role] = newKey(t)
		if role != "root" {
			ring = append(ring, w.keys[role])
		}
	}
	root, err := w.spec(1).Bytes()
	qt.Assert(t, qt.IsNil(err))
	root, err = repo.SignRoot(root, w.keys["root"])
	qt.Assert(t, qt.IsNil(err))
	w.repo, err = repo.New(root, ring, repo.DefaultLifetimes(), []repo.Tier{
		{Name: "edge", Keys: []trust.PublicKey{w.keys["tier-edge"].Public()}},
		{Name: "stable", Keys: []trust.PublicKey{w.keys["tier-stable"].Public()}},
	})
	qt.Assert(t, qt.IsNil(err))

	w.plain = bytes.Repeat([]byte("a live patch "), 5000)
	var cipher []byte
	cipher, w.key, err = trust.Seal(w.plain)
	qt.Assert(t, qt.IsNil(err))
	sum := sha256.Sum256(w.plain)
	w.offer = trust.Offer{ID: "debian-6.1-v3", Name: "tsugi_x", Version: 3, Digest: hex.EncodeToString(sum[:]), Size: int64(len(w.plain))}
	w.put("edge", trust.PatchPath("edge", w.offer.ID), cipher)
	w.number = 1
	w.index("edge", 1)
	w.index("stable", 1)
	w.publish()

	w.dir = filepath.Join(inMemory(t), "tuf")
	w.machine = w.newMachine(w.dir)
	qt.Assert(t, qt.IsNil(w.machine.Bootstrap(root)))
	w.id, err = trust.NewIdentity()
	qt.Assert(t, qt.IsNil(err))
	return w
}

func (w *world) newMachine(dir string) *updater.Updater {
	u, err := updater.New(updater.Options{
		Dir: dir, Source: w, Now: func() time.Time { return w.now },
		ServerTime: func() (time.Time, bool) { return w.server, !w.server.IsZero() },
	})
	qt.Assert(w.t, qt.IsNil(err))
	return u
}

// spec is a root that names the world's present keys.
func (w *world) spec(version int64) *repo.Root {
	r := &repo.Root{Version: version, Expires: w.now.Add(repo.DefaultLifetimes().Root), Roles: map[string]repo.Role{}}
	for _, role := range []string{"root", "targets", "snapshot", "timestamp"} {
		r.Roles[role] = repo.Role{Keys: []trust.PublicKey{w.keys[role].Public()}, Threshold: 1}
	}
	return r
}

func (w *world) put(tier, path string, b []byte) {
	t := repo.TargetOf(b)
	qt.Assert(w.t, qt.IsNil(w.repo.SetTarget(tier, path, t)))
	w.files["targets/"+t.FilePath(path)] = b
}

func (w *world) makeIndex(tier string, sequence int64) []byte {
	x := &trust.Index{
		Format: trust.IndexFormat, Tier: tier, Sequence: sequence, Patches: []trust.Offer{w.offer},
		Target: trust.IndexRef{Name: "debian:6.1", Release: "6.1", Arch: "x86_64", BuildID: buildID},
	}
	b, err := x.Bytes()
	qt.Assert(w.t, qt.IsNil(err))
	return b
}

func (w *world) index(tier string, sequence int64) {
	w.put(tier, trust.IndexPath(tier, buildID, ""), w.makeIndex(tier, sequence))
}

// publish signs and serves what is new.
func (w *world) publish() {
	_, err := w.repo.Sign(w.now)
	qt.Assert(w.t, qt.IsNil(err))
	for name, b := range w.repo.Files() {
		w.files["metadata/"+name] = b
	}
}

// Fetch is the network.
func (w *world) Fetch(_ context.Context, path string, max int64) ([]byte, error) {
	w.asked = append(w.asked, path)
	if w.answer != nil {
		if b, err := w.answer(path, max); b != nil || err != nil {
			return b, err
		}
	}
	b, ok := w.files[path]
	if !ok {
		return nil, updater.ErrNotFound
	}
	return b, nil
}

// disk is every byte that the machine keeps.
func (w *world) disk() map[string]string {
	out := map[string]string{}
	err := fs.WalkDir(os.DirFS(w.dir), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(filepath.Join(w.dir, p))
		out[p] = string(b)
		return err
	})
	qt.Assert(w.t, qt.IsNil(err))
	return out
}

// snapshotOfServer lets an attacker bring back what was served once.
func (w *world) served() map[string][]byte { return maps.Clone(w.files) }

// update is what an agent does: refresh, then read its index.
func (w *world) update(tier string) (*trust.Index, error) {
	if err := w.machine.Refresh(w.t.Context()); err != nil {
		return nil, err
	}
	return w.machine.Index(w.t.Context(), tier, buildID, "")
}

func (w *world) ok(tier string) *trust.Index {
	w.t.Helper()
	x, err := w.update(tier)
	qt.Assert(w.t, qt.IsNil(err))
	qt.Assert(w.t, qt.IsNotNil(x))
	return x
}

// restore brings the machine's disk back.
func (w *world) restore(disk map[string]string) {
	for name := range w.disk() {
		if _, ok := disk[name]; !ok {
			qt.Assert(w.t, qt.IsNil(os.Remove(filepath.Join(w.dir, name))))
		}
	}
	for name, b := range disk {
		qt.Assert(w.t, qt.IsNil(os.WriteFile(filepath.Join(w.dir, name), []byte(b), 0o600)))
	}
}

// inMemory is a directory for tests that would sync a disk thousands of times.
func inMemory(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "tsugi-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { qt.Check(t, qt.IsNil(os.RemoveAll(dir))) })
	return dir
}
