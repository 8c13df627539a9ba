// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
)

// TestRealUpdates takes real updates apart, which TSUGI_UPDATES names
// (6.1.190-1..6.1.192-1 and so on): all fixes together give the newer source
// byte by byte, any choice of them applies, groups stay within reason and most
// entries find theirs. It takes a minute for each, and the sources of both.
func TestRealUpdates(t *testing.T) {
	names := strings.Fields(os.Getenv("TSUGI_UPDATES"))
	if len(names) == 0 {
		t.Skip("TSUGI_UPDATES names no updates")
	}
	home, err := kernel.Home()
	qt.Assert(t, qt.IsNil(err))
	store, err := kernel.OpenStore(home)
	qt.Assert(t, qt.IsNil(err))
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			from, to, ok := strings.Cut(name, "..")
			qt.Assert(t, qt.IsTrue(ok))
			s, err := open(t).Update(t.Context(), store, from, to, progress.Discard)
			qt.Assert(t, qt.IsNil(err))
			trees := make(map[string]string)
			for _, v := range []string{from, to} {
				trees[v], err = store.SourceTree(t.Context(), v, progress.Discard)
				qt.Assert(t, qt.IsNil(err))
			}
			r := rand.New(rand.NewPCG(1, 2))
			for round := range 4 {
				tree := make(map[string][]byte)
				for _, f := range s.Fixes {
					if round > 0 && r.IntN(2) == 0 {
						continue
					}
					changes, err := f.Diff.Apply(func(p string) ([]byte, error) {
						if b, ok := tree[p]; ok {
							if b == nil {
								return nil, fs.ErrNotExist
							}
							return b, nil
						}
						return os.ReadFile(filepath.Join(trees[from], p))
					})
					qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", f.ID))
					for _, c := range changes {
						for _, n := range c.Notes {
							if strings.Contains(n, "less context") || strings.Contains(n, "fits") {
								t.Errorf("%s: %s", f.ID, n)
							}
						}
						if tree[c.Path] = c.New; c.Deleted {
							tree[c.Path] = nil
						}
					}
				}
				for p, b := range tree {
					want, err := os.ReadFile(filepath.Join(trees[to], p))
					if round == 0 && (string(want) != string(b) || errors.Is(err, fs.ErrNotExist) != (b == nil)) {
						t.Errorf("%s is not what the newer source has", p)
					}
				}
			}
			largest, entries := 0, 0
			for _, f := range s.Fixes {
				largest = max(largest, len(f.Diff.Files))
				entries += len(f.Entries)
			}
			t.Logf("%d fixes, the largest of %d files; %d attributions, %d entries left", len(s.Fixes), largest, entries, len(s.Unattributed))
			qt.Check(t, qt.IsTrue(largest <= 60), qt.Commentf("%d files in one fix", largest))
			qt.Check(t, qt.IsTrue(20*len(s.Unattributed) <= entries), qt.Commentf("%d entries of %d find no fix", len(s.Unattributed), entries))
		})
	}
}
