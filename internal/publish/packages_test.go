// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/splice"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/trust"
	"github.com/tsugi-project/tsugi/internal/trust/updater"
)

var (
	openssl  = livepatch.TargetRef{Name: "debian:libssl3=3.0.17-1~deb12u2", PackageVersion: "3.0.17-1~deb12u2", Arch: "x86_64"}
	postgres = livepatch.TargetRef{Name: "debian:postgresql-15=15.13-0+deb12u1", PackageVersion: "15.13-0+deb12u1", Arch: "x86_64"}
)

// elf is a build-id for a file of tests.
func elf(name string) string { return digest([]byte(name))[:40] }

// packageArtifact is a live patch of a package that changes one function in each
// of some files.
func packageArtifact(t testing.TB, target livepatch.TargetRef, version int, names ...string) []byte {
	return artifactWith(t, target, version, func(*splice.File) {}, names...)
}

func artifactWith(t testing.TB, target livepatch.TargetRef, version int, change func(*splice.File), names ...string) []byte {
	m := livepatch.Manifest{
		Name: "tsugi_package", Version: version, Target: target, Compiler: "gcc 12.2.0", Builder: "tsugi 1",
		Fixes: []livepatch.FixRef{{ID: "fix-1", Title: "check the length", CVEs: []string{cve(1)}}},
	}
	splices := map[string][]byte{}
	for _, name := range names {
		path := "/usr/lib/x86_64-linux-gnu/" + name
		f := &splice.File{
			Format: splice.Format, BuildID: elf(name), Name: name, Path: path,
			Segments: []splice.Segment{{Vaddr: 0x1000, Memsz: 0x1000, Filesz: 0x1000, Flags: 5}},
			Text:     bytes.Repeat([]byte{byte(version)}, 16),
			Functions: []splice.Function{
				{Name: "f", Old: 0x1100, Size: 32, Room: 32, SHA256: strings.Repeat("0", 64), NewSize: 16, Policy: splice.Quiescent},
			},
		}
		change(f)
		b, err := f.Encode()
		qt.Assert(t, qt.IsNil(err))
		splices[elf(name)] = b
		m.Files = append(m.Files, livepatch.FileRef{BuildID: elf(name), Name: name, Path: path, Package: "libssl3"})
		m.Functions = append(m.Functions, livepatch.Function{Object: name, Name: "f", Change: "changed"})
	}
	lp, err := livepatch.NewUserland(m, splices, map[string][]byte{"fix-1": []byte("diff")})
	qt.Assert(t, qt.IsNil(err))
	b, err := lp.Bytes()
	qt.Assert(t, qt.IsNil(err))
	return b
}

func (p *plant) publishPackage(target livepatch.TargetRef, version int, names ...string) store.LivePatch {
	p.t.Helper()
	row, err := p.Publish(p.t.Context(), PublishRequest{Artifact: packageArtifact(p.t, target, version, names...), Actor: "ann"})
	qt.Assert(p.t, qt.IsNil(err))
	return row
}

// listed is what a tier's list says of a package, as machines read it.
func listed(t testing.TB, u *updater.Updater, tier string, target livepatch.TargetRef) (names []string) {
	t.Helper()
	qt.Assert(t, qt.IsNil(u.Refresh(t.Context())))
	x, err := u.Packages(t.Context(), tier)
	qt.Assert(t, qt.IsNil(err))
	if x == nil {
		return nil
	}
	for _, p := range x.Packages {
		if p.Target != target.Name {
			continue
		}
		qt.Check(t, qt.Equals(p.ID, target.ID()))
		for _, f := range p.Files {
			qt.Check(t, qt.Equals(f.BuildID, elf(f.Name)))
			names = append(names, f.Name)
		}
	}
	slices.Sort(names)
	return names
}

func indexOf(t testing.TB, u *updater.Updater, tier string, target livepatch.TargetRef, policy string) *trust.Index {
	t.Helper()
	qt.Assert(t, qt.IsNil(u.Refresh(t.Context())))
	x, err := u.Index(t.Context(), tier, target.ID(), policy)
	qt.Assert(t, qt.IsNil(err))
	return x
}

func TestALivePatchOfAPackageGoesThroughTheTiersToMachines(t *testing.T) {
	p := newPlant(t)
	p.publish(1) // of a kernel, in between
	u := p.machine()
	x, err := u.Packages(t.Context(), "edge")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsNil(x)) // no list where there are only kernels

	row := p.publishPackage(openssl, 1, "libssl.so.3")
	qt.Check(t, qt.Equals(row.ID, "debian-libssl3-3.0.17-1~deb12u2-v1"))
	qt.Check(t, qt.Equals(row.BuildID, openssl.ID()))
	qt.Check(t, qt.Equals(row.Release, ""))
	qt.Check(t, qt.IsFalse(row.Proven || row.Signed))
	p.publishPackage(postgres, 1, "postgres")
	second := p.publishPackage(openssl, 2, "libssl.so.3", "libcrypto.so.3") // under the name of the first
	qt.Check(t, qt.DeepEquals(listed(t, u, "edge", openssl), []string{"libcrypto.so.3", "libssl.so.3"}))
	qt.Check(t, qt.DeepEquals(listed(t, u, "edge", postgres), []string{"postgres"}))
	qt.Check(t, qt.IsNil(listed(t, u, "beta", openssl)))

	index := indexOf(t, u, "edge", openssl, "")
	qt.Check(t, qt.DeepEquals(versions(index), []int{1, 2}))
	qt.Check(t, qt.DeepEquals(index.Target, trust.IndexRef{Name: openssl.Name, Arch: "x86_64", BuildID: openssl.ID()}))

	id, err := trust.NewIdentity()
	qt.Assert(t, qt.IsNil(err))
	keys, err := p.Keys(t.Context(), id.Recipient(), []string{second.ID})
	qt.Assert(t, qt.IsNil(err))
	key, err := trust.Unwrap(keys[second.ID], id)
	qt.Assert(t, qt.IsNil(err))
	cipher, err := u.Patch(t.Context(), "edge", index.Patches[1])
	qt.Assert(t, qt.IsNil(err))
	plain, err := trust.Open(cipher, key, index.Patches[1].Size)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(digest(plain), second.Digest))

	// What goes up the tiers takes its own files with it, and no others.
	_, err = p.Promote(t.Context(), row.ID, "", "ann")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(listed(t, u, "beta", openssl), []string{"libssl.so.3"}))
	qt.Check(t, qt.IsNil(listed(t, u, "beta", postgres)))
	from, err := u.Provenance(t.Context(), "beta", indexOf(t, u, "beta", openssl, "").Patches[0])
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(from.BuildDefinition.ExternalParameters.Target, index.Target))
	var names []string
	for _, r := range slices.Concat(from.BuildDefinition.ResolvedDependencies, from.RunDetails.Byproducts) {
		names = append(names, r.Name)
	}
	qt.Check(t, qt.DeepEquals(names, []string{
		"fix:fix-1", "package:" + openssl.Name, "file:/usr/lib/x86_64-linux-gnu/libssl.so.3", "compiler", "libssl.so.3.splice",
	}))

	// The service reads the list as machines do.
	list, sum, err := p.Packages(t.Context(), "beta")
	qt.Assert(t, qt.IsNil(err))
	b, err := list.Bytes()
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(sum, digest(b)))
	list, sum, err = p.Packages(t.Context(), "stable")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(list == nil && sum == ""))
}

func TestAListOfPackagesIsSignedAgainOnlyWhenItSaysSomethingNew(t *testing.T) {
	p := newPlant(t)
	p.publishPackage(openssl, 1, "libssl.so.3")
	_, was, err := p.Packages(t.Context(), "edge")
	qt.Assert(t, qt.IsNil(err))
	row := p.publishPackage(openssl, 2, "libssl.so.3")
	_, err = p.Block(t.Context(), row.ID, "x", false, "ann")
	qt.Assert(t, qt.IsNil(err))
	_, sum, err := p.Packages(t.Context(), "edge")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(sum, was))
	p.publishPackage(postgres, 1, "postgres")
	_, sum, err = p.Packages(t.Context(), "edge")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Not(qt.Equals(sum, was)))
}

func TestARecalledPackageIsFoundInEveryTier(t *testing.T) {
	p := newPlant(t)
	p.policy("web")
	row := p.publishPackage(openssl, 1, "libssl.so.3")
	u := p.machine()
	_, err := p.Block(t.Context(), row.ID, "handshakes hang", true, "ann")
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(p.AddTier(t.Context(), "night", 0, "ann")))
	want := []trust.BlockRef{{ID: row.ID, Version: 1, Reason: "handshakes hang", Recall: true}}
	for _, tier := range []string{"edge", "stable", "night"} {
		qt.Check(t, qt.DeepEquals(listed(t, u, tier, openssl), []string{"libssl.so.3"}), qt.Commentf(tier))
		for _, policy := range []string{"", "web"} {
			x := indexOf(t, u, tier, openssl, policy)
			qt.Assert(t, qt.IsNotNil(x))
			qt.Check(t, qt.HasLen(x.Patches, 0))
			qt.Check(t, qt.DeepEquals(x.Blocked, want))
		}
	}
	_, err = p.Unblock(t.Context(), row.ID, "ann")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(listed(t, u, "edge", openssl), []string{"libssl.so.3"}))
	qt.Check(t, qt.DeepEquals(versions(indexOf(t, u, "edge", openssl, "")), []int{1}))
	for _, tier := range []string{"stable", "night"} {
		x, err := u.Packages(t.Context(), tier)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNotNil(x), qt.Commentf(tier)) // machines tell it from one that is kept from them
		qt.Check(t, qt.HasLen(x.Packages, 0), qt.Commentf(tier))
		qt.Check(t, qt.Equals(x.Sequence, 2), qt.Commentf(tier))
	}
	qt.Assert(t, qt.IsNil(p.DeleteTier(t.Context(), "night", "ann")))
}

func TestMachinesOfATierGoBackToAnOlderLivePatchOfAPackage(t *testing.T) {
	p := newPlant(t)
	p.publishPackage(openssl, 1, "libssl.so.3")
	p.publishPackage(openssl, 2, "libssl.so.3")
	u := p.machine()
	qt.Assert(t, qt.IsNil(p.AuthoriseRevert(t.Context(), openssl.Name, "edge", "", 1, "slower", "ann")))
	qt.Check(t, qt.DeepEquals(indexOf(t, u, "edge", openssl, "").Revert, &trust.Revert{To: 1, Below: 2, Reason: "slower", By: "ann"}))
	err := p.AuthoriseRevert(t.Context(), postgres.Name, "edge", "", 0, "slower", "ann")
	qt.Check(t, qt.Equals(code.Of(err), "TS7714"))
}

func TestALivePatchThatNoProcessWouldTakeIsRefused(t *testing.T) {
	p := newPlant(t)
	p.publishPackage(openssl, 2, "libssl.so.3")
	good := packageArtifact(t, openssl, 3, "libssl.so.3")
	other := artifactWith(t, openssl, 3, func(f *splice.File) { f.BuildID = elf("another") }, "libssl.so.3")
	m, err := livepatch.Read(good)
	qt.Assert(t, qt.IsNil(err))
	torn, err := livepatch.NewUserland(m.Manifest, map[string][]byte{elf("libssl.so.3"): []byte("{}\n")}, map[string][]byte{"fix-1": []byte("diff")})
	qt.Assert(t, qt.IsNil(err))
	malformed, err := torn.Bytes()
	qt.Assert(t, qt.IsNil(err))
	before, err := p.db.TUFGeneration(t.Context())
	qt.Assert(t, qt.IsNil(err))
	proof := packageProof(good, openssl.Name, "libssl.so.3")
	lacking := packageProof(good, openssl.Name, "libcrypto.so.3")
	foreign := packageProof(good, "debian:libssl3=3.0.19-1", "libssl.so.3")
	bare := fmt.Appendf(nil, `{"format":1,"verdict":"proved","patch":{"sha256":%q},"kernel":{}}`, digest(good))
	for name, c := range map[string]struct {
		q    PublishRequest
		want code.Code
	}{
		"a payload that is none":     {PublishRequest{Artifact: malformed}, "TS3501"},
		"a payload of another file":  {PublishRequest{Artifact: other}, "TS7003"},
		"a lower version":            {PublishRequest{Artifact: packageArtifact(t, openssl, 1, "libssl.so.3")}, "TS7706"},
		"other bytes for a version":  {PublishRequest{Artifact: packageArtifact(t, openssl, 2, "libcrypto.so.3")}, "TS7702"},
		"a proof of another":         {PublishRequest{Artifact: good, Proof: packageProof(other, openssl.Name, "libssl.so.3")}, "TS7704"},
		"a proof that failed":        {PublishRequest{Artifact: good, Proof: bytes.Replace(proof, []byte(`"proved"`), []byte(`"failed"`), 1)}, "TS7704"},
		"a proof of other files":     {PublishRequest{Artifact: good, Proof: lacking}, "TS7704"},
		"a proof in another package": {PublishRequest{Artifact: good, Proof: foreign}, "TS7704"},
		"a proof of no processes":    {PublishRequest{Artifact: good, Proof: bare}, "TS7704"},
		"an unknown tier":            {PublishRequest{Artifact: good, Tier: "gamma"}, "TS7703"},
	} {
		_, err := p.Publish(t.Context(), c.q)
		qt.Check(t, qt.Equals(code.Of(err), c.want), qt.Commentf("%s: %v", name, err))
	}
	after, err := p.db.TUFGeneration(t.Context())
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(after, before))
	row, err := p.Publish(t.Context(), PublishRequest{Artifact: good, Proof: proof})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(row.Proven))
	qt.Check(t, qt.Equals(row.ProofDigest, digest(proof)))
}

// packageProof is the record of a proof, as much of it as publishing reads.
func packageProof(artifact []byte, target string, files ...string) []byte {
	var list []string
	for _, f := range files {
		list = append(list, fmt.Sprintf(`{"build_id":%q}`, elf(f)))
	}
	return fmt.Appendf(nil, `{"format":1,"verdict":"proved","patch":{"sha256":%q},"kernel":{"build_id":"11"},"target":{"name":%q,"arch":"x86_64"},"package":{"files":[%s]}}`,
		digest(artifact), target, strings.Join(list, ","))
}

func TestExclusionsHoldForLivePatchesOfPackages(t *testing.T) {
	p := newPlant(t)
	p.policy("careful", without(1, p.now.AddDate(0, 1, 0)))
	p.policy("byhand", func(x *selection.Policy) {
		x.Exclusions = []selection.Exclusion{{Fix: "fix-1", Reason: "breaks", Owner: "ann", Expires: p.now.AddDate(0, 1, 0)}}
	})
	artifact := packageArtifact(t, openssl, 1, "libssl.so.3")
	for _, policy := range []string{"careful", "byhand"} {
		_, err := p.Publish(t.Context(), PublishRequest{Artifact: artifact, Policies: []string{policy}, Actor: "ann"})
		qt.Check(t, qt.Equals(code.Of(err), "TS7906"))
	}
	row := p.publishPackage(openssl, 1, "libssl.so.3")
	qt.Check(t, qt.DeepEquals(row.Policies, []string{trust.DefaultPolicy}))
	u := p.machine()
	qt.Check(t, qt.IsNil(indexOf(t, u, "edge", openssl, "careful")))
	// What a policy excludes later is offered to nobody of it any more.
	p.policy(trust.DefaultPolicy, without(1, p.now.AddDate(0, 1, 0)))
	qt.Check(t, qt.HasLen(indexOf(t, u, "edge", openssl, "").Patches, 0))
}

func TestANewPolicyHasTheLivePatchesOfPackages(t *testing.T) {
	p := newPlant(t)
	row := p.publishPackage(openssl, 1, "libssl.so.3")
	p.policy("databases", func(*selection.Policy) {})
	p.policy("careful", without(1, p.now.AddDate(0, 1, 0)))
	u := p.machine()
	x := indexOf(t, u, "edge", openssl, "databases")
	qt.Assert(t, qt.IsNotNil(x))
	qt.Assert(t, qt.HasLen(x.Patches, 1))
	qt.Check(t, qt.Equals(x.Patches[0].ID, row.ID))
	if x = indexOf(t, u, "edge", openssl, "careful"); x != nil {
		qt.Check(t, qt.HasLen(x.Patches, 0))
	}
	got, err := p.db.LivePatch(t.Context(), row.ID)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(got.Policies, []string{"databases", trust.DefaultPolicy}))

	// What was blocked, or handed in for some policies alone, is not everybody's.
	_, err = p.Block(t.Context(), row.ID, "it crashes", false, "ann")
	qt.Assert(t, qt.IsNil(err))
	_, err = p.Publish(t.Context(), PublishRequest{Artifact: packageArtifact(t, openssl, 2, "libssl.so.3"), Policies: []string{"databases"}, Actor: "ann"})
	qt.Assert(t, qt.IsNil(err))
	p.policy("late", func(*selection.Policy) {})
	line, err := p.db.LineOf(t.Context(), "late", openssl.Name)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(line, 0))
}

func TestABundleCarriesPackages(t *testing.T) {
	p := newPlant(t)
	p.publish(1)
	p.publishPackage(openssl, 1, "libssl.so.3")
	ssl := p.publishPackage(openssl, 2, "libssl.so.3")
	db := p.publishPackage(postgres, 1, "postgres")
	id, err := trust.NewIdentity()
	qt.Assert(t, qt.IsNil(err))
	read := func(ids ...string) (*trust.Bundle, *updater.Updater) {
		file, err := p.Bundle(t.Context(), ids, "edge", []Recipient{{Key: id.Recipient(), Policy: "default"}}, "ann")
		qt.Assert(t, qt.IsNil(err))
		b, err := trust.ReadBundle(file)
		qt.Assert(t, qt.IsNil(err))
		return b, p.machineAt(t.TempDir(), b)
	}
	b, u := read()
	keys, err := b.Keys(id.Recipient())
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(keys, 3)) // the newest of the kernel and of both packages
	for _, row := range []store.LivePatch{ssl, db} {
		x, err := u.Index(t.Context(), "edge", row.BuildID, "")
		qt.Assert(t, qt.IsNil(err))
		cipher, err := u.Patch(t.Context(), "edge", x.Patches[len(x.Patches)-1])
		qt.Assert(t, qt.IsNil(err))
		key, err := trust.Unwrap(keys[row.ID], id)
		qt.Assert(t, qt.IsNil(err))
		plain, err := trust.Open(cipher, key, row.Size)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(digest(plain), row.Digest))
	}
	// One that is named comes alone; the list comes always.
	b, u = read(db.ID)
	keys, err = b.Keys(id.Recipient())
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(keys, 1))
	qt.Check(t, qt.DeepEquals(listed(t, u, "edge", postgres), []string{"postgres"}))
	_, err = u.Index(t.Context(), "edge", openssl.ID(), "")
	qt.Check(t, qt.Equals(code.Of(err), "TS7115"))
	qt.Check(t, qt.ErrorIs(err, fs.ErrNotExist)) // by this an agent knows that it was made for others
}

func TestTheListOfPackagesOutlivesKeysAndOldFiles(t *testing.T) {
	p := newPlant(t)
	row := p.publishPackage(openssl, 1, "libssl.so.3")
	u := p.machine()
	qt.Assert(t, qt.IsNil(p.RotateTierKey(t.Context(), "edge", "ann")))
	qt.Check(t, qt.DeepEquals(listed(t, u, "edge", openssl), []string{"libssl.so.3"}))
	p.publishPackage(postgres, 1, "postgres")
	p.later(2 * keepOld)
	qt.Assert(t, qt.IsNil(p.Refresh(t.Context()))) // removes the first list
	files, err := filepath.Glob(filepath.Join(p.dir, "blobs", "tuf", "targets", "edge", "*.packages.json"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(files, 1))
	fresh := p.machineAt(t.TempDir(), updater.FSSource{FS: os.DirFS(filepath.Join(p.dir, "blobs", "tuf"))})
	qt.Check(t, qt.DeepEquals(listed(t, fresh, "edge", openssl), []string{"libssl.so.3"}))
	was, _, err := p.Packages(t.Context(), "edge")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(was.Sequence, 2))
	qt.Assert(t, qt.IsNil(p.Advance(t.Context(), "ann")))
	now, _, err := p.Packages(t.Context(), "edge")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(now.Sequence > p.now.Unix()))
	qt.Check(t, qt.DeepEquals(now.Packages, was.Packages))
	qt.Check(t, qt.DeepEquals(listed(t, u, "edge", postgres), []string{"postgres"}))
	qt.Check(t, qt.DeepEquals(versions(indexOf(t, u, "edge", openssl, "")), []int{row.Version}))
}
