// SPDX-License-Identifier: Apache-2.0

package updater_test

import (
	"path/filepath"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// FuzzUpdate puts foreign bytes in the place of each file that a machine
// fetches: it ends in a problem, or in what was published.
func FuzzUpdate(f *testing.F) {
	w := newWorld(f)
	want := string(w.makeIndex("edge", 1))
	index := trust.IndexPath("edge", buildID, "")
	target, _ := w.repo.Target("edge", index)
	names := []string{
		"metadata/2.root.json", "metadata/timestamp.json", w.name("snapshot"), w.name("targets"), w.name("tier-edge"), "targets/" + target.FilePath(index),
	}
	for i, n := range names {
		if b := w.files[n]; b != nil {
			f.Add(byte(i), b)
		}
	}
	f.Add(byte(0), w.repo.Root())
	f.Add(byte(3), []byte(`{"signed":{"_type":"targets","targets":{"a":null}},"signatures":[]}`))
	root := w.repo.Root()
	good := w.served()
	f.Fuzz(func(t *testing.T, which byte, b []byte) {
		w.t = t
		w.files = map[string][]byte{}
		for n, v := range good {
			w.files[n] = v
		}
		w.files[names[int(which)%len(names)]] = b
		u := w.newMachine(filepath.Join(inMemory(t), "tuf"))
		qt.Assert(t, qt.IsNil(u.Bootstrap(root)))
		x, err := u.Index(t.Context(), "edge", buildID, "")
		if err != nil {
			if code.Of(err) == "" || x != nil {
				t.Fatalf("%v, %v", x, err)
			}
			return
		}
		got, err := x.Bytes()
		if err != nil || string(got) != want {
			t.Fatalf("%s, %v", got, err)
		}
	})
}
