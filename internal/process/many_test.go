// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/process/proc"
)

// TestMany patches a crowd, of which some end meanwhile and some are not meant.
func TestMany(t *testing.T) {
	v2, v3 := patches(t)
	n := 40
	if s := os.Getenv("TSUGI_TEST_CROWD"); s != "" {
		n, _ = strconv.Atoi(s)
	}
	var ids []proc.ID
	var crowd []*target
	for range n {
		g := start(t, filepath.Join(fixtures.dir, "program"))
		crowd = append(crowd, g)
		ids = append(ids, g.p.ID())
	}
	other := start(t, filepath.Join(fixtures.dir, "opener"), "libc.so.6")
	ids = append(ids, other.p.ID(), proc.ID{PID: 1 << 22, Start: 1})
	gone := start(t, filepath.Join(fixtures.dir, "program"))
	ids = append(ids, gone.p.ID())
	gone.stop()

	e := engine(t)
	for _, p := range []Patch{v2, v3} {
		began := time.Now()
		results, err := e.Many(t.Context(), ids, p, Options{Budget: time.Minute})
		qt.Assert(t, qt.IsNil(err))
		took := time.Since(began)
		var pauses []time.Duration
		for i, r := range results[:n] {
			qt.Assert(t, qt.Equals(r.Process, ids[i]))
			qt.Assert(t, qt.Equals(r.State, Applied), qt.Commentf("%v", r.Reason))
			pauses = append(pauses, r.Pause)
		}
		slices.Sort(pauses)
		t.Logf("%d processes in %v; pause: median %v, longest %v", n, took, pauses[n/2], pauses[n-1])
		qt.Assert(t, qt.Equals(results[n].State, NotAffected))
		qt.Assert(t, qt.Equals(results[n+1].State, Ended))
		qt.Assert(t, qt.Equals(results[n+2].State, Ended))
	}
	for _, g := range crowd {
		qt.Assert(t, qt.Equals(g.ask("v"), "1 302"))
	}
	out := e.RevertMany(t.Context(), ids, Selection{Patch: v3.ID}, Options{Budget: 20 * time.Second})
	for i, g := range crowd {
		qt.Assert(t, qt.Equals(out[i].State, Reverted), qt.Commentf("%v", out[i].Reason))
		qt.Assert(t, qt.Equals(g.ask("v"), "1 2"))
	}
	qt.Assert(t, qt.Equals(out[n].State, NotAffected))
	qt.Assert(t, qt.Equals(out[n+2].State, Ended))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	results, err := e.Many(ctx, ids[:2], v2, Options{})
	qt.Assert(t, qt.IsNil(err))
	for _, r := range results {
		qt.Assert(t, qt.Equals(r.State, Pending))
		qt.Assert(t, qt.IsNotNil(r.Reason))
	}
	_, err = e.Many(t.Context(), ids, Patch{"", v2.Files}, Options{})
	qt.Assert(t, qt.IsNotNil(err), qt.Commentf("%s", fmt.Sprint(err)))
}
