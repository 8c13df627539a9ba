// SPDX-License-Identifier: Apache-2.0

package updater_test

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/trust"
	"github.com/tsugi-project/tsugi/internal/trust/updater"
)

func TestWhatATierHoldsReachesTheMachineThatMayHaveIt(t *testing.T) {
	w := newWorld(t)
	tree := fstest.MapFS{}
	for name, b := range w.files {
		tree[name] = &fstest.MapFile{Data: b}
	}
	files := http.StripPrefix("/tuf/", http.FileServerFS(tree))
	web := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Date", w.now.Format(http.TimeFormat)) // the machine compares its clock with it
		files.ServeHTTP(rw, r)
	}))
	defer web.Close()

	u, err := updater.New(updater.Options{Dir: w.dir, BaseURL: web.URL + "/tuf", Now: func() time.Time { return w.now }})
	qt.Assert(t, qt.IsNil(err))
	x, err := u.Index(t.Context(), "edge", buildID, "") // refreshes by itself
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.DeepEquals(x.Patches, []trust.Offer{w.offer}))

	cipher, err := u.Patch(t.Context(), "edge", x.Patches[0])
	qt.Assert(t, qt.IsNil(err))
	wrapped, err := trust.Wrap(w.key, w.id.Recipient())
	qt.Assert(t, qt.IsNil(err))
	key, err := trust.Unwrap(wrapped, w.id)
	qt.Assert(t, qt.IsNil(err))
	plain, err := trust.Open(cipher, key, x.Patches[0].Size)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsTrue(bytes.Equal(plain, w.plain)))

	stranger, err := trust.NewIdentity()
	qt.Assert(t, qt.IsNil(err))
	_, err = trust.Unwrap(wrapped, stranger)
	qt.Assert(t, qt.Equals(code.Of(err), "TS7105"))
}

func TestTheIndexIsThereWithoutANetworkAndAfterItsEnd(t *testing.T) {
	w := newWorld(t)
	w.ok("edge")
	w.now = w.now.AddDate(1, 0, 0)
	x, when, err := w.newMachine(w.dir).Cached("edge", buildID, "")
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(x.Sequence, 1))
	qt.Assert(t, qt.Equals(when, start))

	x, _, err = w.newMachine(w.dir).Cached("edge", "00112233445566778899", "")
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(x))

	// What is on the disk is verified each time.
	path := filepath.Join(w.dir, "trusted.tar")
	b, err := os.ReadFile(path)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(os.WriteFile(path, bytes.Replace(b, []byte(`"sequence":1,"target"`), []byte(`"sequence":2,"target"`), 1), 0o600)))
	_, _, err = w.newMachine(w.dir).Cached("edge", buildID, "")
	qt.Assert(t, qt.Equals(code.Of(err), "TS7115"))
}

func TestATierWithNothingForAKernelIsNoError(t *testing.T) {
	w := newWorld(t)
	qt.Assert(t, qt.IsNil(w.machine.Refresh(t.Context())))
	x, err := w.machine.Index(t.Context(), "edge", "00112233445566778899", "")
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(x))
	x, err = w.machine.Index(t.Context(), "beta", buildID, "")
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(x))
}

func TestNothingIsAskedTwice(t *testing.T) {
	w := newWorld(t)
	w.ok("edge")
	w.asked = nil
	w.machine = w.newMachine(w.dir)
	w.ok("edge")
	qt.Assert(t, qt.DeepEquals(w.asked, []string{"metadata/2.root.json", "metadata/timestamp.json"}))
}

func TestDamagedFilesOnTheMachineAreFetchedAnew(t *testing.T) {
	w := newWorld(t)
	w.ok("edge")
	for _, damage := range []string{"", "{", "\x00\x00"} {
		qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(w.dir, "trusted.tar"), []byte(damage), 0o600)))
		w.machine = w.newMachine(w.dir)
		w.ok("edge")
	}
	qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(w.dir, "root.json"), nil, 0o600)))
	w.machine = w.newMachine(w.dir)
	w.ok("edge") // the pinned root is as good
	qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(w.dir, "pinned-root.json"), nil, 0o600)))
	w.machine = w.newMachine(w.dir)
	_, err := w.update("edge")
	qt.Assert(t, qt.Equals(code.Of(err), "TS7122"))
}

func TestAMachineKeepsTheRootThatItWasEnrolledWith(t *testing.T) {
	w := newWorld(t)
	qt.Assert(t, qt.IsNil(w.machine.Bootstrap(w.repo.Root())))
	other := newWorld(t)
	err := w.machine.Bootstrap(other.repo.Root())
	qt.Assert(t, qt.Equals(code.Of(err), "TS7123"))
	fresh := w.newMachine(filepath.Join(t.TempDir(), "none"))
	qt.Assert(t, qt.IsFalse(fresh.Pinned()))
	qt.Assert(t, qt.Equals(code.Of(fresh.Refresh(t.Context())), "TS7110"))
}

func TestWhatOldKeysSignedIsNotEvenUsedFromTheCache(t *testing.T) {
	w := newWorld(t)
	w.ok("edge")
	w.rotate("snapshot")
	w.answer = func(p string, _ int64) ([]byte, error) {
		if p == "metadata/timestamp.json" {
			return nil, errors.New("cut off after the root")
		}
		return nil, nil
	}
	qt.Assert(t, qt.Equals(code.Of(w.machine.Refresh(t.Context())), "TS7120"))
	_, _, err := w.newMachine(w.dir).Cached("edge", buildID, "")
	qt.Assert(t, qt.Equals(code.Of(err), "TS7111"))
	w.answer = nil
	w.ok("edge")
	x, _, err := w.newMachine(w.dir).Cached("edge", buildID, "")
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNotNil(x))
}
