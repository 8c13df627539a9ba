// SPDX-License-Identifier: Apache-2.0

package scenarios

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/agent/keeper"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/splice"
)

// artifact packs a splice as a live patch of a package.
func artifact(t *testing.T, version int, s *splice.File) []byte {
	t.Helper()
	b, err := s.Encode()
	qt.Assert(t, qt.IsNil(err))
	m := livepatch.Manifest{
		Name: "scenario", Version: version,
		Target: livepatch.TargetRef{Name: "debian:scenario=1", PackageVersion: "1", Arch: "x86_64"},
		Fixes:  []livepatch.FixRef{{ID: "fix", CVEs: []string{"CVE-2026-1000"}}},
		Files:  []livepatch.FileRef{{BuildID: s.BuildID, Name: s.Name, Path: "/usr/bin/" + s.Name, Package: "scenario"}},
	}
	for _, f := range s.Functions {
		m.Functions = append(m.Functions, livepatch.Function{Object: s.Name, Name: f.Name, Change: "its code"})
	}
	p, err := livepatch.NewUserland(m, map[string][]byte{s.BuildID: b}, map[string][]byte{"fix": []byte("diff")})
	qt.Assert(t, qt.IsNil(err))
	file, err := p.Bytes()
	qt.Assert(t, qt.IsNil(err))
	return file
}

// TestKeeper: what is applied comes to processes that run and to those that
// start later, a higher version takes its place, and a revert ends it.
func TestKeeper(t *testing.T) {
	needs(t)
	if os.Geteuid() != 0 {
		t.Skip("processes of others are for root")
	}
	t.Parallel()
	m := ownProgram("kept").make(t, 1)
	v3 := m.level(t, 3)
	dir := t.TempDir()
	k := keeper.New(dir+"/processes", keeper.Host{Engine: engine()})
	busy, idle := start(t, m.ELF), start(t, m.ELF)
	busy.do("start held 5")
	until(t, "the thread waits", func() bool { return busy.do("gated") == 1 })

	r, err := k.Apply(t.Context(), artifact(t, 1, m.Splice))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(r.Counts[keeper.Protected], 1))
	qt.Check(t, qt.Equals(r.Counts[keeper.Pending], 1))
	qt.Check(t, qt.IsFalse(r.Whole()))
	qt.Assert(t, qt.HasLen(r.Patches, 1))
	qt.Check(t, qt.Equals(r.Patches[0].ID, "debian-scenario-1-v1"))

	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var kept error
	wg.Go(func() { kept = k.Run(ctx, slog.New(slog.DiscardHandler)) })
	busy.do("release")
	qt.Check(t, qt.Equals(busy.do("join"), 6))
	later := start(t, m.ELF)
	later.do("release")
	idle.do("release")
	for _, p := range []*program{busy, idle, later} {
		until(t, "the patch", func() bool { return p.do("call held 5") == 105 })
	}

	r, err = k.Apply(t.Context(), artifact(t, 3, v3))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(r.Whole()))
	for _, p := range []*program{busy, idle, later} {
		until(t, "version 3", func() bool { return p.do("call held 5") == 305 })
	}
	_, err = k.Apply(t.Context(), artifact(t, 1, m.Splice))
	qt.Check(t, qt.Equals(code.Of(err), "TS9423"))
	r, err = k.Status(t.Context())
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(r.Counts[keeper.Protected], 3))

	r, err = k.Revert(t.Context(), "debian:scenario=1")
	qt.Assert(t, qt.IsNil(err))
	for _, p := range r.Processes {
		if p.Standing != keeper.Original && p.Standing != keeper.Unknown {
			t.Logf("%d is %s: %v", p.PID, p.Standing, p.Problem)
		}
	}
	for _, p := range []*program{busy, idle, later} {
		until(t, "the original", func() bool { return p.do("call held 5") == 6 })
	}
	until(t, "nothing is kept", func() bool {
		r, err = k.Status(t.Context())
		qt.Assert(t, qt.IsNil(err))
		return len(r.Patches) == 0
	})
	_, err = k.Revert(t.Context(), "debian:scenario=1")
	qt.Check(t, qt.Equals(code.Of(err), "TS9664"))
	stop()
	wg.Wait()
	qt.Check(t, qt.IsNil(kept))
	for _, p := range []*program{busy, idle, later} {
		qt.Check(t, qt.Equals(p.do("call held 5"), 6))
		p.quit()
	}
}
