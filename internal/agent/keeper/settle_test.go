// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/process/proc"
)

func oneProcess(t *testing.T) (*Keeper, *machine) {
	m := &machine{processes: map[proc.ID]string{{PID: 7, Start: 1}: "nginx"}, busy: map[int]bool{}, has: map[int]string{}}
	return New(filepath.Join(t.TempDir(), "processes"), m), m
}

// TestKilledBetweenTwoRecords: the later of two versions is in effect, and the
// older does not come back when that one is taken out.
func TestKilledBetweenTwoRecords(t *testing.T) {
	t.Parallel()
	k, m := oneProcess(t)
	one, err := k.Give(t.Context(), givenFile(t, 1), false)
	qt.Assert(t, qt.IsNil(err))
	two, _, err := k.read(givenFile(t, 2))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(k.dir.put(two, givenFile(t, 2)))) // and here it was killed
	qt.Check(t, qt.Equals(inEffect(t, k), two.ID))
	m.busy[7] = true // so that the older one is not forgotten in the first pass
	_, _, err = k.pass(t.Context())
	qt.Assert(t, qt.IsNil(err))
	m.busy[7] = false
	r, err := k.Revert(t.Context(), two.ID)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(r.Whole()))
	for range 2 {
		_, _, err = k.pass(t.Context())
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(m.has, 0), qt.Commentf("%s", one.ID))
	}
	all, err := k.dir.list()
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(all, 0))
}

// TestAFileThatIsGone: its live patch can be taken out, and others are kept.
func TestAFileThatIsGone(t *testing.T) {
	t.Parallel()
	k, m := oneProcess(t)
	p, err := k.Give(t.Context(), givenFile(t, 1), false)
	qt.Assert(t, qt.IsNil(err))
	other := Patch{ID: "debian-other-1-v1", Target: "debian:other=1", Version: 1, Files: []string{"libother.so.1"}, BuildIDs: []string{"cdcdcdcdcdcdcdcd"}}
	qt.Assert(t, qt.IsNil(k.dir.put(other, nil)))
	r, _, err := k.pass(t.Context())
	qt.Check(t, qt.ErrorMatches(err, "TS9661.*debian-other.*"))
	qt.Assert(t, qt.IsNotNil(r))
	qt.Check(t, qt.Equals(m.has[7], p.ID))
	_, err = k.Revert(t.Context(), other.ID)
	qt.Assert(t, qt.IsNil(err))
	_, _, err = k.pass(t.Context())
	qt.Assert(t, qt.IsNil(err))

	qt.Assert(t, qt.IsNil(os.WriteFile(k.dir.file(p.ID, "tsugi"), []byte("damaged"), 0o600)))
	qt.Assert(t, qt.IsNil(os.Remove(k.dir.file(p.ID, "tsugi"))))
	r, err = k.Revert(t.Context(), p.Target)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(r.Whole()))
	qt.Check(t, qt.HasLen(m.has, 0))
	all, err := k.dir.list()
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(all, 0))
}

// TestAReplacedVersionForbidsNone: after a recall the older one may be applied
// again, though some processes have the newer one still.
func TestAReplacedVersionForbidsNone(t *testing.T) {
	t.Parallel()
	k, _ := oneProcess(t)
	for _, give := range []struct {
		version int
		back    bool
	}{{1, false}, {2, false}, {1, true}, {1, false}} {
		p, err := k.Give(t.Context(), givenFile(t, give.version), give.back)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(inEffect(t, k), p.ID))
	}
}
