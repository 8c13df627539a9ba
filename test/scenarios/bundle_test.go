// SPDX-License-Identifier: Apache-2.0

package scenarios

import (
	"bytes"
	"context"
	"os"
	"sync"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/code"
)

// TestFromABundleIntoProcesses: a machine that no network leads to gets the live
// patches of a program, and their recall, by bundles that the server writes.
func TestFromABundleIntoProcesses(t *testing.T) {
	needs(t)
	if os.Geteuid() != 0 {
		t.Skip("processes of others are for root")
	}
	t.Parallel()
	m := ownProgram("bundled").make(t, 1)
	first := start(t, m.ELF)
	first.do("release")

	admin, word, unplug := site(t)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	a := machine(t, ctx, &wg, word)
	defer a.Close()
	bundle := func() []byte {
		b, err := admin.Bundle(t.Context(), "edge", nil, []string{a.Status().Server.Machine})
		qt.Assert(t, qt.IsNil(err))
		return b
	}
	one, err := admin.Publish(t.Context(), client.Publication{Artifact: artifact(t, 1, m.Splice)})
	qt.Assert(t, qt.IsNil(err))
	brings := bundle()
	three, err := admin.Publish(t.Context(), client.Publication{Artifact: artifact(t, 3, m.level(t, 3))})
	qt.Assert(t, qt.IsNil(err))
	replaces := bundle()
	for _, lp := range []*api.LivePatch{three, one} {
		_, err = admin.Block(t.Context(), lp.ID, api.Block{Reason: "it was a test", Recall: true})
		qt.Assert(t, qt.IsNil(err))
	}
	recalls := bundle()
	unplug()

	// gives applies a bundle and waits until all have what it is about.
	gives := func(b []byte, id string, value int, all ...*program) {
		t.Helper()
		done, err := a.ApplyBundle(t.Context(), b)
		qt.Assert(t, qt.IsNil(err))
		if id == "" {
			qt.Check(t, qt.HasLen(done, 0))
		} else {
			qt.Assert(t, qt.HasLen(done, 1))
			qt.Check(t, qt.Equals(done[0].ID, id))
		}
		for _, p := range all {
			comes(t, "what the bundle is about", func() bool { return p.do("call held 5") == value })
		}
	}
	gives(brings, one.ID, 105, first)
	later := start(t, m.ELF)
	later.do("release")
	comes(t, "the patch in a new process", func() bool { return later.do("call held 5") == 105 })

	// What is signed, and what is encrypted, is refused when one bit is another.
	for _, text := range []string{"CVE-2026-1000", "age-encryption.org/v1"} {
		at := bytes.LastIndex(replaces, []byte(text))
		qt.Assert(t, qt.IsTrue(at > 0))
		bad := bytes.Clone(replaces)
		bad[at+3] ^= 1
		_, err = a.ApplyBundle(t.Context(), bad)
		qt.Check(t, qt.Equals(code.Of(err), "TS7115"), qt.Commentf("%s: %v", text, err))
		qt.Check(t, qt.Equals(later.do("call held 5"), 105))
	}
	gives(replaces, three.ID, 305, first, later)
	_, err = a.ApplyBundle(t.Context(), brings) // an older one takes nothing back
	qt.Check(t, qt.Equals(code.Of(err), "TS7112"))
	gives(recalls, "", 6, first, later)
	for _, p := range []*program{first, later} {
		qt.Check(t, qt.Equals(p.do("call held 5"), 6))
		p.quit()
	}
}
