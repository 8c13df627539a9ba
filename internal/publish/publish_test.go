// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/modsig"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/store/blob"
	"github.com/tsugi-project/tsugi/internal/trust"
	"github.com/tsugi-project/tsugi/internal/trust/repo"
	"github.com/tsugi-project/tsugi/internal/trust/updater"
)

var buildID = strings.Repeat("ab", 20)

const target = "debian:6.1.0-55-amd64"

// plant is a server's part that publishes, without the server.
type plant struct {
	*Service
	t     testing.TB
	set   *KeySet
	db    *store.Store
	blobs *blob.Folder
	dir   string
	now   time.Time
	mu    sync.Mutex
}

func newPlant(t testing.TB) *plant {
	// It begins with the day's own clock: web servers and file systems, which
	// have no other, are compared with it.
	p := &plant{t: t, dir: t.TempDir(), now: time.Now().UTC().Truncate(time.Second)}
	var err error
	p.set, err = NewKeySet(KeySetOptions{
		Dir: filepath.Join(p.dir, "keys"), OfflineDir: filepath.Join(p.dir, "offline"),
		Tiers: []string{"edge", "beta", "candidate", "stable"}, Lifetimes: repo.DefaultLifetimes(), Now: p.now,
	})
	qt.Assert(t, qt.IsNil(err))
	p.db, err = store.Open(t.Context(), "sqlite:"+filepath.Join(p.dir, "db"), store.WithClock(p.clock))
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { qt.Check(t, qt.IsNil(p.db.Close())) })
	p.blobs, err = blob.OpenFolder(filepath.Join(p.dir, "blobs"))
	qt.Assert(t, qt.IsNil(err))
	p.Service = p.replica()
	qt.Assert(t, qt.IsNil(p.Init(t.Context(), p.set.Root)))
	return p
}

// replica is another server over the same store and blobs.
func (p *plant) replica() *Service {
	load := func() (Keys, error) { return LoadKeys(filepath.Join(p.dir, "keys")) }
	s, err := New(Options{Store: p.db, Blobs: p.blobs, Keys: p.set.Keys, Reload: load, Now: p.clock})
	qt.Assert(p.t, qt.IsNil(err))
	return s
}

func (p *plant) clock() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

func (p *plant) later(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = p.now.Add(d)
}

func artifact(t testing.TB, version int) []byte {
	return artifactOf(t, version, target, bytes.Repeat([]byte{byte(version)}, 4000))
}

func artifactOf(t testing.TB, version int, target string, module []byte) []byte {
	m := livepatch.Manifest{
		Name: fmt.Sprintf("tsugi_ext4_v%d", version), Version: version, Compiler: "gcc 12.2.0", Builder: "tsugi 1",
		Target:    livepatch.TargetRef{Name: target, Release: "6.1.0-55-amd64", PackageVersion: "6.1.192-1", Arch: "x86_64", BuildID: buildID, ConfigDigest: strings.Repeat("cd", 32)},
		Fixes:     []livepatch.FixRef{{ID: "deb-1154101", Title: "ext4: check", CVEs: []string{"CVE-2026-12345"}}},
		Functions: []livepatch.Function{{Object: "vmlinux", Name: "f", Change: "changed"}},
	}
	lp, err := livepatch.New(m, "tsugi_ext4.ko", module, map[string][]byte{"deb-1154101": []byte("diff")})
	qt.Assert(t, qt.IsNil(err))
	b, err := lp.Bytes()
	qt.Assert(t, qt.IsNil(err))
	return b
}

func proofOf(t testing.TB, artifact []byte) []byte {
	lp, err := livepatch.Read(artifact)
	qt.Assert(t, qt.IsNil(err))
	return fmt.Appendf(nil, `{"format":1,"verdict":"proved","patch":{"name":"tsugi_ext4","sha256":%q,"module_sha256":%q},"kernel":{"build_id":%q}}`, digest(artifact), lp.Manifest.Module.Digest, buildID)
}

func (p *plant) publish(version int) store.LivePatch {
	p.t.Helper()
	a := artifact(p.t, version)
	row, err := p.Publish(p.t.Context(), PublishRequest{Artifact: a, Proof: proofOf(p.t, a), Report: []byte(`{"kind":"build"}`), Actor: "ann"})
	qt.Assert(p.t, qt.IsNil(err))
	return row
}

// machine follows the blobs as they are served.
func (p *plant) machine() *updater.Updater {
	return p.machineAt(p.t.TempDir(), updater.FSSource{FS: os.DirFS(filepath.Join(p.dir, "blobs", "tuf"))})
}

func (p *plant) machineAt(dir string, source updater.Source) *updater.Updater {
	p.t.Helper()
	u, err := updater.New(updater.Options{Dir: dir, Source: source, Now: p.clock})
	qt.Assert(p.t, qt.IsNil(err))
	qt.Assert(p.t, qt.IsNil(u.Bootstrap(p.set.Root)))
	return u
}

func index(t testing.TB, u *updater.Updater, tier string) *trust.Index {
	t.Helper()
	qt.Assert(t, qt.IsNil(u.Refresh(t.Context())))
	x, err := u.Index(t.Context(), tier, buildID, "")
	qt.Assert(t, qt.IsNil(err))
	return x
}

func versions(x *trust.Index) (out []int) {
	for _, o := range x.Patches {
		out = append(out, o.Version)
	}
	return out
}

func TestALivePatchGoesFromTheServerThroughTheTiersToMachines(t *testing.T) {
	p := newPlant(t)
	row := p.publish(1)
	qt.Check(t, qt.Equals(row.ID, "debian-6.1.0-55-amd64-v1"))
	qt.Check(t, qt.DeepEquals(row.Tiers, []string{"edge"}))
	qt.Check(t, qt.IsTrue(row.Proven))
	qt.Check(t, qt.IsFalse(row.Signed))

	web := httptest.NewServer(http.StripPrefix("/tuf/", http.FileServerFS(os.DirFS(filepath.Join(p.dir, "blobs", "tuf")))))
	defer web.Close()
	u, err := updater.New(updater.Options{Dir: t.TempDir(), BaseURL: web.URL + "/tuf", Now: p.clock})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(u.Bootstrap(p.set.Root)))
	x := index(t, u, "edge")
	qt.Assert(t, qt.DeepEquals(versions(x), []int{1}))
	qt.Check(t, qt.IsNil(index(t, u, "beta")))

	id, err := trust.NewIdentity()
	qt.Assert(t, qt.IsNil(err))
	keys, err := p.Keys(t.Context(), id.Recipient(), []string{row.ID, "unknown-v1"})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(keys, 1))
	again, err := p.Keys(t.Context(), id.Recipient(), []string{row.ID})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(again, keys)) // an answer that did not change has the same ETag
	key, err := trust.Unwrap(keys[row.ID], id)
	qt.Assert(t, qt.IsNil(err))
	cipher, err := u.Patch(t.Context(), "edge", x.Patches[0])
	qt.Assert(t, qt.IsNil(err))
	plain, err := trust.Open(cipher, key, x.Patches[0].Size)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(digest(plain), row.Digest))

	for _, tier := range []string{"beta", "candidate", "stable"} {
		row, err = p.Promote(t.Context(), row.ID, "", "ann")
		qt.Assert(t, qt.IsNil(err))
		x := index(t, u, tier)
		qt.Assert(t, qt.DeepEquals(versions(x), []int{1}))
		from, err := u.Provenance(t.Context(), tier, x.Patches[0])
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(from.BuildDefinition.ExternalParameters.Fixes, []string{"deb-1154101"}))
		qt.Check(t, qt.HasLen(from.RunDetails.Byproducts, 3))
	}
	qt.Check(t, qt.DeepEquals(row.Tiers, []string{"edge", "beta", "candidate", "stable"}))
	_, err = p.Promote(t.Context(), row.ID, "", "ann")
	qt.Check(t, qt.Equals(code.Of(err), "TS7707"))
	_, err = p.Promote(t.Context(), row.ID, "gamma", "ann")
	qt.Check(t, qt.Equals(code.Of(err), "TS7703"))

	entries, err := p.db.AuditEntries(t.Context(), store.AuditFilter{Object: row.ID})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(entries, 4))
}

func TestWhatMayNotBePublishedIsRefusedAndLeavesNothing(t *testing.T) {
	p := newPlant(t)
	p.publish(2)
	before, err := p.db.TUFGeneration(t.Context())
	qt.Assert(t, qt.IsNil(err))
	good := artifact(t, 3)
	other, err := livepatch.Read(artifact(t, 2))
	qt.Assert(t, qt.IsNil(err))
	changed, err := livepatch.New(other.Manifest, "tsugi_ext4.ko", []byte("another module"), map[string][]byte{"deb-1154101": []byte("diff")})
	qt.Assert(t, qt.IsNil(err))
	twin, err := changed.Bytes()
	qt.Assert(t, qt.IsNil(err))
	same, err := livepatch.Read(good)
	qt.Assert(t, qt.IsNil(err))
	same.Manifest.Name = "tsugi_ext4_v2"
	renamed, err := livepatch.New(same.Manifest, "x.ko", []byte("ko"), map[string][]byte{"deb-1154101": []byte("diff")})
	qt.Assert(t, qt.IsNil(err))
	namesake, err := renamed.Bytes()
	qt.Assert(t, qt.IsNil(err))
	for name, c := range map[string]struct {
		q    PublishRequest
		want code.Code
	}{
		"the name of an older one":  {PublishRequest{Artifact: namesake}, "TS7720"},
		"no live patch":             {PublishRequest{Artifact: []byte("x")}, "TS7001"},
		"a flipped bit":             {PublishRequest{Artifact: append(bytes.Clone(good[:len(good)-1]), 1)}, "TS7001"},
		"an unknown tier":           {PublishRequest{Artifact: good, Tier: "gamma"}, "TS7703"},
		"a lower version":           {PublishRequest{Artifact: artifact(t, 1)}, "TS7706"},
		"other bytes for a version": {PublishRequest{Artifact: twin}, "TS7702"},
		"a proof of another":        {PublishRequest{Artifact: good, Proof: proofOf(t, artifact(t, 2))}, "TS7704"},
		"a proof that failed":       {PublishRequest{Artifact: good, Proof: bytes.Replace(proofOf(t, good), []byte(`"proved"`), []byte(`"failed"`), 1)}, "TS7704"},
		"a proof that is not JSON":  {PublishRequest{Artifact: good, Proof: []byte("proved")}, "TS7704"},
		"a report that is not JSON": {PublishRequest{Artifact: good, Report: []byte("{")}, "TS7717"},
		"a proof on another kernel": {PublishRequest{Artifact: good, Proof: bytes.Replace(proofOf(t, good), []byte(buildID), []byte(strings.Repeat("00", 20)), 1)}, "TS7704"},
		"a proof of a later format": {PublishRequest{Artifact: good, Proof: bytes.Replace(proofOf(t, good), []byte(`"format":1`), []byte(`"format":2`), 1)}, "TS7704"},
		"a name that no file has":   {PublishRequest{Artifact: artifactOf(t, 3, "Tree:/x", nil)}, "TS7719"},
		"nothing":                   {PublishRequest{}, "TS7001"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := p.Publish(t.Context(), c.q)
			qt.Assert(t, qt.Equals(code.Of(err), c.want), qt.Commentf("%v", err))
		})
	}
	after, err := p.db.TUFGeneration(t.Context())
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(after, before))
	qt.Check(t, qt.DeepEquals(versions(index(t, p.machine(), "edge")), []int{2}))
	p.publish(2) // again is harmless
	after, err = p.db.TUFGeneration(t.Context())
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(after, before))
}

func TestABlockStopsDeliveryAtOnceAndEverywhere(t *testing.T) {
	p := newPlant(t)
	p.publish(1)
	row := p.publish(2)
	_, err := p.Promote(t.Context(), row.ID, "stable", "ann")
	qt.Assert(t, qt.IsNil(err))
	u := p.machine()
	id, err := trust.NewIdentity()
	qt.Assert(t, qt.IsNil(err))
	offer := index(t, u, "stable").Patches[0]

	blocked, err := p.Block(t.Context(), row.ID, "oopses on nfs servers", true, "ann")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Not(qt.Equals(blocked.Blocked, 0)))
	for tier, left := range map[string][]int{"edge": {1}, "stable": nil} {
		x := index(t, u, tier)
		qt.Check(t, qt.DeepEquals(versions(x), left))
		qt.Check(t, qt.DeepEquals(x.Blocked, []trust.BlockRef{{ID: row.ID, Version: 2, Reason: "oopses on nfs servers", Recall: true}}))
	}
	_, err = u.Patch(t.Context(), "stable", offer)
	qt.Check(t, qt.Equals(code.Of(err), "TS7117"))
	keys, err := p.Keys(t.Context(), id.Recipient(), []string{row.ID})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(keys, 0))
	_, err = p.Promote(t.Context(), row.ID, "beta", "ann")
	qt.Check(t, qt.Equals(code.Of(err), "TS7705"))
	_, err = p.Block(t.Context(), "none-v1", "x", false, "ann")
	qt.Check(t, qt.Equals(code.Of(err), "TS7701"))

	// Machines may have come with it to where nothing was ever published.
	p.policy("web")
	qt.Assert(t, qt.IsNil(p.AddTier(t.Context(), "night", 0, "ann")))
	for _, at := range [][2]string{{"beta", ""}, {"stable", "web"}, {"beta", "web"}, {"night", "web"}} {
		qt.Assert(t, qt.IsNil(u.Refresh(t.Context())))
		x, err := u.Index(t.Context(), at[0], buildID, at[1])
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNotNil(x), qt.Commentf("%s", at))
		qt.Check(t, qt.HasLen(x.Patches, 0))
		qt.Check(t, qt.DeepEquals(x.Blocked, []trust.BlockRef{{ID: row.ID, Version: 2, Reason: "oopses on nfs servers", Recall: true}}))
	}

	_, err = p.Unblock(t.Context(), row.ID, "ann")
	qt.Assert(t, qt.IsNil(err))
	_, sequence := p.offers(u, "beta", "web")
	qt.Check(t, qt.Equals(sequence, 0), qt.Commentf("an index of nothing"))
	x := index(t, u, "stable")
	qt.Check(t, qt.DeepEquals(versions(x), []int{2}))
	_, err = u.Patch(t.Context(), "stable", x.Patches[0])
	qt.Check(t, qt.IsNil(err))
}

func TestARevertIsAuthorisedInTheSignedIndex(t *testing.T) {
	p := newPlant(t)
	p.publish(1)
	p.publish(2)
	u := p.machine()
	qt.Assert(t, qt.IsNil(p.AuthoriseRevert(t.Context(), target, "edge", "", 1, "slower", "ann")))
	qt.Check(t, qt.DeepEquals(index(t, u, "edge").Revert, &trust.Revert{To: 1, Below: 2, Reason: "slower", By: "ann"}))
	qt.Assert(t, qt.IsNil(p.AuthoriseRevert(t.Context(), target, "edge", "", 0, "all of it", "ann")))
	qt.Check(t, qt.Equals(index(t, u, "edge").Revert.To, 0))
	p.publish(3)
	x := index(t, u, "edge")
	qt.Check(t, qt.Equals(x.Revert.Below, 2)) // the new one is not meant
	for _, bad := range []struct {
		target, tier string
		to           int
		want         code.Code
	}{{target, "edge", 3, "TS7714"}, {target, "edge", 7, "TS7714"}, {"debian:none", "edge", 0, "TS7714"}, {target, "stable", 0, "TS7714"}, {target, "", 0, "TS7703"}} {
		err := p.AuthoriseRevert(t.Context(), bad.target, bad.tier, "", bad.to, "x", "ann")
		qt.Check(t, qt.Equals(code.Of(err), bad.want), qt.Commentf("%v", bad))
	}
}

func TestRefreshSignsWhatIsDueAndNothingElse(t *testing.T) {
	p := newPlant(t)
	p.publish(1)
	u := p.machine()
	status := func() map[string]int64 {
		out := map[string]int64{}
		roles, err := p.Status(t.Context())
		qt.Assert(t, qt.IsNil(err))
		for _, r := range roles {
			out[r.Name] = r.Version
		}
		return out
	}
	was := status()
	qt.Assert(t, qt.IsNil(p.Refresh(t.Context())))
	qt.Check(t, qt.DeepEquals(status(), was))
	p.later(61 * time.Minute)
	qt.Assert(t, qt.IsNil(p.Refresh(t.Context())))
	was["timestamp"]++
	qt.Check(t, qt.DeepEquals(status(), was))
	p.later(5 * 24 * time.Hour)
	qt.Assert(t, qt.IsNil(p.Refresh(t.Context())))
	was["timestamp"]++
	was["snapshot"]++
	qt.Check(t, qt.DeepEquals(status(), was))
	p.later(56 * 24 * time.Hour)
	qt.Assert(t, qt.IsNil(p.Refresh(t.Context())))
	for role := range was {
		if role != "root" {
			was[role]++
		}
	}
	qt.Check(t, qt.DeepEquals(status(), was))
	qt.Check(t, qt.IsNotNil(index(t, u, "edge")))
	// For two years nobody needs to do anything.
	p.later(660 * 24 * time.Hour)
	qt.Assert(t, qt.IsNil(p.Refresh(t.Context())))
	qt.Check(t, qt.IsNotNil(index(t, u, "edge")))
	p.later(40 * 24 * time.Hour)
	qt.Check(t, qt.Equals(code.Of(p.Refresh(t.Context())), "TS7113"))
}

func TestANewRootBringsNewKeysAndOldOnesCountNoMore(t *testing.T) {
	p := newPlant(t)
	p.publish(1)
	u := p.machine()
	qt.Check(t, qt.IsNotNil(index(t, u, "edge")))

	said, err := repo.ReadRoot(p.set.Root)
	qt.Assert(t, qt.IsNil(err))
	said.Version++
	k, err := newKeyFile(filepath.Join(p.dir, "keys", "timestamp-2.pem"), nil)
	qt.Assert(t, qt.IsNil(err))
	said.Roles["timestamp"] = repo.Role{Keys: []trust.PublicKey{k.Public()}, Threshold: 1}
	next, err := said.Bytes()
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(code.Of(p.ImportRoot(t.Context(), next, "ann")), "TS7131")) // not signed
	file, err := os.ReadFile(p.set.Offline[0])
	qt.Assert(t, qt.IsNil(err))
	rootKey, err := trust.ParseKey(file, nil)
	qt.Assert(t, qt.IsNil(err))
	next, err = repo.SignRoot(next, rootKey)
	qt.Assert(t, qt.IsNil(err))
	// A server that knows no directory of keys does not have the new one.
	blind, err := New(Options{Store: p.db, Blobs: p.blobs, Keys: p.set.Keys, Now: p.clock})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(code.Of(blind.ImportRoot(t.Context(), next, "ann")), "TS7130"))
	other := p.replica()
	p.Service = p.replica()
	k2, err := newKeyFile(filepath.Join(p.dir, "keys", "unrelated.pem"), nil)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Not(qt.Equals(k2.ID(), k.ID())))
	qt.Assert(t, qt.IsNil(p.ImportRoot(t.Context(), next, "ann")))
	p.later(2 * time.Hour)
	qt.Assert(t, qt.IsNil(other.Refresh(t.Context()))) // as does every other server
	qt.Assert(t, qt.IsNil(p.ImportRoot(t.Context(), next, "ann")))
	qt.Check(t, qt.IsNotNil(index(t, u, "edge")))
	st, err := u.Status()
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(st.RootVersion, 2))
	qt.Check(t, qt.IsNotNil(index(t, p.machine(), "edge"))) // from the first root on
}

func TestATierCanBeMadeGivenAnotherKeyAndRemoved(t *testing.T) {
	p := newPlant(t)
	row := p.publish(1)
	u := p.machine()
	qt.Assert(t, qt.IsNil(p.AddTier(t.Context(), "canary", 2, "ann")))
	other := p.replica() // which has no file of the new key
	_, err := other.Promote(t.Context(), row.ID, "", "ann")
	qt.Assert(t, qt.IsNil(err))
	x := index(t, u, "canary")
	qt.Assert(t, qt.DeepEquals(versions(x), []int{1}))
	_, err = u.Provenance(t.Context(), "canary", x.Patches[0])
	qt.Assert(t, qt.IsNil(err))

	for _, tier := range []string{"canary", "edge"} {
		qt.Assert(t, qt.IsNil(p.RotateTierKey(t.Context(), tier, "ann")))
		x = index(t, u, tier)
		_, err = u.Provenance(t.Context(), tier, x.Patches[0])
		qt.Assert(t, qt.IsNil(err))
	}
	qt.Check(t, qt.Equals(code.Of(p.DeleteTier(t.Context(), "canary", "ann")), "TS7716"))
	qt.Check(t, qt.Equals(code.Of(p.AddTier(t.Context(), "canary", 0, "ann")), "TS7716"))
	qt.Check(t, qt.Equals(code.Of(p.AddTier(t.Context(), "No", 0, "ann")), "TS7715"))
	qt.Assert(t, qt.IsNil(p.DeleteTier(t.Context(), "candidate", "ann")))
	qt.Check(t, qt.IsNil(index(t, u, "candidate")))
	qt.Assert(t, qt.IsNil(p.AddTier(t.Context(), "candidate", 0, "ann")))
	qt.Check(t, qt.IsNil(index(t, u, "candidate")))
	qt.Check(t, qt.IsNotNil(index(t, u, "edge")))
}

func TestOldFilesGoAfterAWeekAndNothingThatIsNeeded(t *testing.T) {
	p := newPlant(t)
	p.publish(1)
	row := p.publish(2)
	_, err := p.Block(t.Context(), row.ID, "x", false, "ann")
	qt.Assert(t, qt.IsNil(err))
	count := func() (n int) {
		for info, err := range p.blobs.List(t.Context(), "tuf/") {
			qt.Assert(t, qt.IsNil(err))
			n += len(info.Name[:1])
		}
		return n
	}
	before := count()
	qt.Assert(t, qt.IsNil(p.Refresh(t.Context())))
	qt.Check(t, qt.Equals(count(), before)) // they may be in use yet
	p.later(9 * 24 * time.Hour)
	qt.Assert(t, qt.IsNil(p.Refresh(t.Context())))
	qt.Check(t, qt.IsTrue(count() < before-5), qt.Commentf("%d of %d", count(), before))
	u := p.machine() // begins with the first root
	x := index(t, u, "edge")
	_, err = u.Patch(t.Context(), "edge", x.Patches[0])
	qt.Check(t, qt.IsNil(err))
	_, err = p.Unblock(t.Context(), row.ID, "ann") // what was removed comes back
	qt.Assert(t, qt.IsNil(err))
	x = index(t, u, "edge")
	_, err = u.Patch(t.Context(), "edge", x.Patches[1])
	qt.Check(t, qt.IsNil(err))
}

func TestMetadataThatAKilledServerDidNotWriteIsWrittenByTheNext(t *testing.T) {
	p := newPlant(t)
	p.publish(1)
	dir := filepath.Join(p.dir, "blobs", "tuf", "metadata")
	qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(dir, "timestamp.json"), []byte("{"), 0o600)))
	files, err := fs.Glob(os.DirFS(dir), "*.snapshot.json")
	qt.Assert(t, qt.IsNil(err))
	for _, f := range files {
		qt.Assert(t, qt.IsNil(os.Remove(filepath.Join(dir, f))))
	}
	qt.Assert(t, qt.IsNil(p.Refresh(t.Context())))
	qt.Check(t, qt.IsNotNil(index(t, p.machine(), "edge")))
}

func TestABundleServesAMachineWithoutANetwork(t *testing.T) {
	p := newPlant(t)
	p.publish(1)
	row := p.publish(2)
	id, err := trust.NewIdentity()
	qt.Assert(t, qt.IsNil(err))
	served, dir := updater.FSSource{FS: os.DirFS(filepath.Join(p.dir, "blobs", "tuf"))}, t.TempDir()
	online := p.machineAt(dir, served)
	qt.Check(t, qt.IsNotNil(index(t, online, "edge")))
	file, err := p.Bundle(t.Context(), nil, "edge", []Recipient{{Key: id.Recipient(), Policy: "default"}}, "ann")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(trust.IsBundle(file)))
	qt.Check(t, qt.IsFalse(trust.IsBundle(artifact(t, 1))))

	p.later(20 * 24 * time.Hour) // far beyond the life of a timestamp
	b, err := trust.ReadBundle(file)
	qt.Assert(t, qt.IsNil(err))
	for _, at := range []string{t.TempDir(), dir} { // a new one, and one that was online before
		u := p.machineAt(at, b)
		x := index(t, u, b.Info.Tier)
		qt.Assert(t, qt.DeepEquals(versions(x), []int{1, 2}))
		cipher, err := u.Patch(t.Context(), "edge", x.Patches[1])
		qt.Assert(t, qt.IsNil(err))
		keys, err := b.Keys(id.Recipient())
		qt.Assert(t, qt.IsNil(err))
		key, err := trust.Unwrap(keys[row.ID], id)
		qt.Assert(t, qt.IsNil(err))
		plain, err := trust.Open(cipher, key, row.Size)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(digest(plain), row.Digest))
	}
	stranger, err := trust.NewIdentity()
	qt.Assert(t, qt.IsNil(err))
	_, err = b.Keys(stranger.Recipient())
	qt.Check(t, qt.Equals(code.Of(err), "TS7109"))

	// A machine that goes online again is not held back by the bundle.
	qt.Assert(t, qt.IsNil(p.Refresh(t.Context())))
	qt.Check(t, qt.IsNotNil(index(t, p.machineAt(dir, served), "edge")))
	p.later(11 * 24 * time.Hour)
	err = p.machineAt(t.TempDir(), b).Refresh(t.Context())
	qt.Check(t, qt.Equals(code.Of(err), "TS7113"))
	_, err = p.Bundle(t.Context(), nil, "stable", []Recipient{{Key: id.Recipient(), Policy: "default"}}, "ann")
	qt.Check(t, qt.Equals(code.Of(err), "TS7718"))

	// That nothing is left to load is news, too.
	for v := range 2 {
		_, err = p.Block(t.Context(), trust.PatchID(target, v+1), "x", true, "ann")
		qt.Assert(t, qt.IsNil(err))
	}
	file, err = p.Bundle(t.Context(), nil, "edge", []Recipient{{Key: id.Recipient(), Policy: "default"}}, "ann")
	qt.Assert(t, qt.IsNil(err))
	b, err = trust.ReadBundle(file)
	qt.Assert(t, qt.IsNil(err))
	x := index(t, p.machineAt(t.TempDir(), b), b.Info.Tier)
	qt.Check(t, qt.HasLen(x.Patches, 0))
	qt.Check(t, qt.HasLen(x.Blocked, 2))
}

func TestARestoredServerIsFollowedAfterItHasAdvanced(t *testing.T) {
	p := newPlant(t)
	p.publish(1)
	backup := filepath.Join(t.TempDir(), "backup.db")
	raw, err := sql.Open("sqlite", filepath.Join(p.dir, "db"))
	qt.Assert(t, qt.IsNil(err))
	_, err = raw.ExecContext(t.Context(), "VACUUM INTO ?", backup)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(raw.Close()))
	row := p.publish(2)
	_, err = p.Block(t.Context(), row.ID, "x", false, "ann")
	qt.Assert(t, qt.IsNil(err))
	u := p.machine()
	qt.Check(t, qt.IsNotNil(index(t, u, "edge")))

	old, err := store.Open(t.Context(), "sqlite:"+backup, store.WithClock(p.clock))
	qt.Assert(t, qt.IsNil(err))
	defer func() { qt.Check(t, qt.IsNil(old.Close())) }()
	s, err := New(Options{Store: old, Blobs: p.blobs, Keys: p.set.Keys, Now: p.clock})
	qt.Assert(t, qt.IsNil(err))
	p.later(time.Minute)
	qt.Assert(t, qt.IsNil(s.Sync(t.Context())))
	qt.Check(t, qt.Equals(code.Of(u.Refresh(t.Context())), "TS7112"))
	qt.Assert(t, qt.IsNil(s.Advance(t.Context(), "ann")))
	qt.Check(t, qt.DeepEquals(versions(index(t, u, "edge")), []int{1}))
}

func TestKeyFilesAreNeverOverwrittenAndNeverOpenToOthers(t *testing.T) {
	p := newPlant(t)
	_, err := NewKeySet(KeySetOptions{Dir: filepath.Join(p.dir, "keys"), OfflineDir: filepath.Join(p.dir, "offline2"), Lifetimes: repo.DefaultLifetimes(), Now: p.now})
	qt.Check(t, qt.Equals(code.Of(err), "TS7710"))
	dir := filepath.Join(p.dir, "keys")
	entries, err := os.ReadDir(dir)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(entries, 8))
	for _, e := range entries {
		info, err := e.Info()
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(info.Mode().Perm(), 0o600), qt.Commentf(e.Name()))
	}
	qt.Assert(t, qt.IsNil(os.Chmod(filepath.Join(dir, "targets.pem"), 0o640)))
	_, err = LoadKeys(dir)
	qt.Check(t, qt.Equals(code.Of(err), "TS7712"))
	qt.Assert(t, qt.IsNil(os.Chmod(filepath.Join(dir, "targets.pem"), 0o600)))
	qt.Assert(t, qt.IsNil(os.Remove(filepath.Join(dir, "identity.age"))))
	_, err = LoadKeys(dir)
	qt.Check(t, qt.Equals(code.Of(err), "TS7711"))
}

func TestAKernelModuleSignatureIsSeen(t *testing.T) {
	p := newPlant(t)
	row, err := p.Publish(t.Context(), PublishRequest{Artifact: artifactOf(t, 1, target, modsig.Append([]byte("module"), []byte("signature")))})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(row.Signed))
	qt.Check(t, qt.IsFalse(row.Proven))
}

func TestTheManifestInTheStoreIsThatOfTheFile(t *testing.T) {
	p := newPlant(t)
	row := p.publish(1)
	var m livepatch.Manifest
	qt.Assert(t, qt.IsNil(json.Unmarshal(row.Manifest, &m)))
	qt.Check(t, qt.Equals(m.Target.BuildID, buildID))
	_, err := livepatch.ParseManifest(row.Manifest)
	qt.Check(t, qt.IsNil(err))
}
