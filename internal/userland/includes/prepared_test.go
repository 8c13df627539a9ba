// SPDX-License-Identifier: Apache-2.0

package includes

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/userland"
)

func TestThePreparedTargetsAreIndexedInSeconds(t *testing.T) {
	if os.Getenv("TSUGI_TEST_USERLAND") == "" {
		t.Skip("TSUGI_TEST_USERLAND is not set: it takes prepared package targets")
	}
	home, err := kernel.Home()
	qt.Assert(t, qt.IsNil(err))
	s, err := userland.OpenStore(home)
	qt.Assert(t, qt.IsNil(err))
	targets, err := s.List()
	qt.Assert(t, qt.IsNil(err))
	for _, target := range targets {
		file := filepath.Join(t.TempDir(), "x")
		start := time.Now()
		x, err := Load(t.Context(), Of(target), file)
		qt.Assert(t, qt.IsNil(err))
		made := time.Since(start)
		start = time.Now()
		again, err := Load(t.Context(), Of(target), file)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(again, x))
		info, err := os.Stat(file)
		qt.Assert(t, qt.IsNil(err))
		unknown, reads := 0, 0
		for _, u := range x.Units {
			reads += len(u.Files)
			if u.Unknown {
				unknown++
			}
		}
		t.Logf("%s: %d compilations (%d unknown), %d files, %d reads, made in %v, read again in %v, %d bytes",
			target.Name, len(x.Units), unknown, len(x.Files), reads, made, time.Since(start), info.Size())
	}
}
