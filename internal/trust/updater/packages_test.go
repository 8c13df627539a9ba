// SPDX-License-Identifier: Apache-2.0

package updater_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/trust"
	"github.com/tsugi-project/tsugi/internal/trust/repo"
	"github.com/tsugi-project/tsugi/internal/trust/updater"
)

// packageID is that of a package of tests.
func packageID(n int) string { return fmt.Sprintf("%064x", n+1) }

func (w *world) makePackages(tier string, count int) []byte { return w.listed(tier, count, 0) }

func (w *world) listed(tier string, count int, sequence int64) []byte {
	p := &trust.Packages{Format: trust.PackagesFormat, Tier: tier, Sequence: sequence, Packages: []trust.Package{}}
	for n := range count {
		p.Packages = append(p.Packages, trust.Package{
			Target: fmt.Sprintf("debian:lib%d=1", n), Arch: "x86_64", ID: packageID(n),
			Files: []trust.ELFFile{{BuildID: fmt.Sprintf("%040x", n+1), Name: fmt.Sprintf("lib%d.so.1", n)}},
		})
	}
	b, err := p.Bytes()
	qt.Assert(w.t, qt.IsNil(err))
	return b
}

// list publishes a list of packages with a number, and refreshes.
func (w *world) list(count int, sequence int64) {
	w.put("edge", trust.PackagesPath("edge"), w.listed("edge", count, sequence))
	w.publish()
	qt.Assert(w.t, qt.IsNil(w.machine.Refresh(w.t.Context())))
}

// packages publishes a list of packages and an index for each.
func (w *world) packages(tier string, count int) {
	w.put(tier, trust.PackagesPath(tier), w.makePackages(tier, count))
	for n := range count {
		x := &trust.Index{
			Format: trust.IndexFormat, Tier: tier, Sequence: w.number, Patches: []trust.Offer{w.offer},
			Target: trust.IndexRef{Name: fmt.Sprintf("debian:lib%d=1", n), Arch: "x86_64", BuildID: packageID(n)},
		}
		b, err := x.Bytes()
		qt.Assert(w.t, qt.IsNil(err))
		w.put(tier, trust.IndexPath(tier, packageID(n), ""), b)
	}
	w.publish()
}

// withPackages is a world with packages in it that the machine knows of.
func withPackages(t testing.TB, count int) *world {
	w := newWorld(t)
	w.packages("edge", count)
	w.all("edge", count)
	return w
}

// all is what an agent asks for.
func (w *world) all(tier string, count int) {
	w.t.Helper()
	w.ok(tier)
	p, err := w.machine.Packages(w.t.Context(), tier)
	qt.Assert(w.t, qt.IsNil(err))
	qt.Assert(w.t, qt.HasLen(p.Packages, count))
	for n := range count {
		x, err := w.machine.Index(w.t.Context(), tier, packageID(n), "")
		qt.Assert(w.t, qt.IsNil(err))
		qt.Assert(w.t, qt.IsNotNil(x))
	}
}

func TestTheListOfPackagesIsThereWithoutANetworkAndAfterItsEnd(t *testing.T) {
	w := withPackages(t, 3)
	w.now = w.now.AddDate(1, 0, 0)
	u := w.newMachine(w.dir)
	p, when, err := u.CachedPackages("edge")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(p.Packages, 3))
	qt.Check(t, qt.Equals(when, start))
	x, _, err := u.Cached("edge", packageID(2), "")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(x.Target.BuildID, packageID(2)))
	p, _, err = u.CachedPackages("stable")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsNil(p))

	// What is on the disk is verified each time.
	path := filepath.Join(w.dir, "trusted.tar")
	b, err := os.ReadFile(path)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(os.WriteFile(path, bytes.Replace(b, []byte("lib1.so.1"), []byte("lib2.so.1"), 1), 0o600)))
	_, _, err = w.newMachine(w.dir).CachedPackages("edge")
	qt.Check(t, qt.Equals(code.Of(err), "TS7115"))
}

func TestATierWithoutPackagesIsNoError(t *testing.T) {
	w := newWorld(t)
	for _, tier := range []string{"edge", "beta"} {
		p, err := w.machine.Packages(t.Context(), tier)
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.IsNil(p))
	}
	w = withPackages(t, 1)
	w.repo.RemoveTarget("edge", trust.PackagesPath("edge"))
	w.publish()
	w.ok("edge")
	p, err := w.machine.Packages(t.Context(), "edge")
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.IsNil(p))
	p, _, err = w.machine.CachedPackages("edge")
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.IsNil(p))
}

// refusedList checks that reading the list ends in this problem, and that the
// machine goes on with the one it had.
func (w *world) refusedList(want code.Code) {
	w.t.Helper()
	was, _, err := w.newMachine(w.dir).CachedPackages("edge")
	qt.Assert(w.t, qt.IsNil(err))
	qt.Assert(w.t, qt.IsNotNil(was))
	err = w.machine.Refresh(w.t.Context())
	before := w.disk()
	if err == nil {
		_, err = w.machine.Packages(w.t.Context(), "edge")
	}
	qt.Assert(w.t, qt.Equals(code.Of(err), want), qt.Commentf("%v", err))
	qt.Assert(w.t, qt.DeepEquals(w.disk(), before))
	p, _, err := w.newMachine(w.dir).CachedPackages("edge")
	qt.Assert(w.t, qt.IsNil(err))
	qt.Assert(w.t, qt.DeepEquals(p, was))
}

func TestAttacksOnTheListOfPackages(t *testing.T) {
	for name, c := range map[string]struct {
		attack func(w *world)
		want   code.Code
	}{
		"one that nobody signed": {func(w *world) {
			w.packages("edge", 3)
			evil := w.makePackages("edge", 1)
			w.answer = func(p string, _ int64) ([]byte, error) {
				if strings.HasSuffix(p, "packages.json") {
					return evil, nil
				}
				return nil, nil
			}
		}, "TS7115"},
		"one that is not there": {func(w *world) {
			w.packages("edge", 3)
			w.answer = func(p string, _ int64) ([]byte, error) {
				if strings.HasSuffix(p, "packages.json") {
					return nil, updater.ErrNotFound
				}
				return nil, nil
			}
		}, "TS7115"},
		"an older one, by who has the tier's key": {func(w *world) {
			w.list(2, 7)
			_, err := w.machine.Packages(w.t.Context(), "edge")
			qt.Assert(w.t, qt.IsNil(err))
			w.list(1, 6)
		}, "TS7118"},
		"one without a number, by who has the tier's key": {func(w *world) {
			w.list(2, 7)
			_, err := w.machine.Packages(w.t.Context(), "edge")
			qt.Assert(w.t, qt.IsNil(err))
			w.list(1, 0)
		}, "TS7118"},
		"one taken away, by who has the tier's key": {func(w *world) {
			w.list(2, 7)
			_, err := w.machine.Packages(w.t.Context(), "edge")
			qt.Assert(w.t, qt.IsNil(err))
			w.repo.RemoveTarget("edge", trust.PackagesPath("edge"))
			w.publish()
		}, "TS7118"},
		"another tier's, signed by the tier": {func(w *world) {
			w.put("edge", trust.PackagesPath("edge"), w.makePackages("stable", 3))
			w.publish()
		}, "TS7115"},
		"one that is none, signed by the tier": {func(w *world) {
			w.put("edge", trust.PackagesPath("edge"), w.makeIndex("edge", 9))
			w.publish()
		}, "TS7101"},
		"one without an end": {func(w *world) {
			w.packages("edge", 3)
			w.answer = func(p string, max int64) ([]byte, error) {
				if strings.HasSuffix(p, "packages.json") {
					return updater.FSSource{FS: endless{}}.Fetch(w.t.Context(), p, max)
				}
				return nil, nil
			}
		}, "TS7114"},
		"an older one, by who has the snapshot and timestamp keys": {func(w *world) {
			old, v := w.current("tier-edge"), w.repo.Versions()["tier-edge"]
			w.packages("edge", 3)
			w.all("edge", 3)
			snap := forge(w.t, w.current("snapshot"), func(s *snapshotT) {
				s.Version++
				s.Meta["tier-edge.json"] = info(v, old)
			}, w.keys["snapshot"])
			n := w.repo.Versions()["snapshot"] + 1
			w.files["metadata/"+repo.FileName("snapshot", n)] = snap
			w.files["metadata/timestamp.json"] = forge(w.t, w.current("timestamp"), func(s *timestampT) {
				s.Version++
				s.Meta["snapshot.json"] = info(n, snap)
			}, w.keys["timestamp"])
		}, "TS7112"},
		"one that a stranger signed, with stolen snapshot and timestamp keys": {func(w *world) {
			evil := w.makePackages("edge", 1)
			role := forge(w.t, w.current("tier-edge"), func(s *targetsT) {
				s.Version++
				s.Targets[trust.PackagesPath("edge")] = entry(evil)
			}, newKey(w.t))
			w.chain(map[string][]byte{"tier-edge": role}, w.keys["snapshot"], w.keys["timestamp"])
		}, "TS7111"},
		"one for ever": {func(w *world) { w.now = w.now.Add(25 * time.Hour); w.server = w.now }, "TS7113"},
	} {
		t.Run(name, func(t *testing.T) {
			w := withPackages(t, 2)
			c.attack(w)
			w.refusedList(c.want)
		})
	}
	t.Run("an index of a package for another", func(t *testing.T) {
		w := withPackages(t, 2)
		target, _ := w.repo.Target("edge", trust.IndexPath("edge", packageID(1), ""))
		qt.Assert(t, qt.IsNil(w.repo.SetTarget("edge", trust.IndexPath("edge", packageID(0), ""), target)))
		w.files["targets/"+target.FilePath(trust.IndexPath("edge", packageID(0), ""))] = w.files["targets/"+target.FilePath(trust.IndexPath("edge", packageID(1), ""))]
		w.publish()
		qt.Assert(t, qt.IsNil(w.machine.Refresh(t.Context())))
		_, err := w.machine.Index(t.Context(), "edge", packageID(0), "")
		qt.Check(t, qt.Equals(code.Of(err), "TS7115"))
	})
}

// TestAListOfPackagesGrows: a list with a higher number is taken, also an empty
// one, and the machine remembers it.
func TestAListOfPackagesGrows(t *testing.T) {
	w := withPackages(t, 2)
	for _, sequence := range []int64{3, 3, 9} {
		w.list(1, sequence)
		p, err := w.machine.Packages(t.Context(), "edge")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(p.Sequence, sequence))
	}
	w.list(0, 10) // the last package is gone
	p, err := w.machine.Packages(t.Context(), "edge")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(p.Packages, 0))
	w.list(1, 9)
	_, err = w.newMachine(w.dir).Packages(t.Context(), "edge") // after a start of the agent
	qt.Check(t, qt.Equals(code.Of(err), "TS7118"))
}

func TestManyPackagesCostADiskLittle(t *testing.T) {
	const count = 40
	w := withPackages(t, count)
	path := filepath.Join(w.dir, "trusted.tar")
	stat := func() os.FileInfo {
		info, err := os.Stat(path)
		qt.Assert(t, qt.IsNil(err))
		return info
	}
	was := stat()
	role := int64(len(w.current("tier-edge")))
	qt.Check(t, qt.IsTrue(was.Size() < 2*role+count*4096), qt.Commentf("%d bytes", was.Size())) // they share it
	w.all("edge", count)
	qt.Check(t, qt.IsTrue(os.SameFile(was, stat()))) // asking again writes nothing

	// When the repository goes on, what did not change is carried along at once.
	w.number++
	w.index("edge", w.number)
	w.publish()
	w.machine = w.newMachine(w.dir)
	w.asked = nil
	w.ok("edge")
	was = stat()
	w.all("edge", count)
	qt.Check(t, qt.IsTrue(os.SameFile(was, stat())))
	for _, name := range w.asked {
		qt.Check(t, qt.IsFalse(strings.Contains(name, "packages.json") || strings.Contains(name, packageID(7))), qt.Commentf(name))
	}
	for n := range count {
		x, _, err := w.newMachine(w.dir).Cached("edge", packageID(n), "")
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNotNil(x))
	}

	// What changed keeps what it is verified by until the machine has the new one.
	w.number++
	w.packages("edge", count)
	w.ok("edge")
	x, _, err := w.newMachine(w.dir).Cached("edge", packageID(7), "")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(x.Sequence, 1))
	w.all("edge", count)
	x, _, err = w.newMachine(w.dir).Cached("edge", packageID(7), "")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(x.Sequence, w.number))
}
