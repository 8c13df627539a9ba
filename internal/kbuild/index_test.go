// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"maps"
	"slices"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/testenv"
)

func TestTheIndexKnowsExactlyTheModulesOfThePackage(t *testing.T) {
	for _, k := range []string{testenv.Demo, testenv.IBT} {
		t.Run(k, func(t *testing.T) {
			target := testenv.Kernel(t, k)
			m, err := openTestMakefiles(t, target)
			qt.Assert(t, qt.IsNil(err))
			index, err := m.index(t.Context(), progress.Discard)
			qt.Assert(t, qt.IsNil(err))
			built := make(map[string]bool)
			for _, objs := range index {
				for _, o := range objs {
					if o.Module != "" {
						built[o.Module] = true
					}
				}
			}
			var shipped []string
			for _, m := range target.Modules() {
				shipped = append(shipped, m.Name)
			}
			qt.Check(t, qt.DeepEquals(slices.Sorted(maps.Keys(built)), shipped))
			for _, o := range []string{"init/main.o", "lib/argv_split.o", "arch/x86/lib/delay.o", "arch/x86/kernel/head64.o"} {
				qt.Check(t, qt.DeepEquals(index[o], []Object{{Path: o}}))
			}
		})
	}
}

func openTestMakefiles(t *testing.T, target *kernel.Target) (*makefiles, error) {
	t.Helper()
	tree, err := Open(t.Context(), target)
	if err != nil {
		return nil, err
	}
	return tree.m, nil
}

// TestAnIndexedTreeReadsNothingAgain: who makes the index and goes on with the
// tree does not have it read, or made, a second time.
func TestAnIndexedTreeReadsNothingAgain(t *testing.T) {
	tree, err := Open(t.Context(), testenv.Kernel(t, testenv.Demo))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(tree.Index(t.Context(), progress.Discard)))
	graph, words := tree.graph, tree.words
	qt.Assert(t, qt.IsNotNil(graph))
	qt.Assert(t, qt.IsNotNil(words))
	qt.Check(t, qt.IsNotNil(tree.m.known()))
	again, err := tree.index(t.Context(), progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(again == words && tree.graph == graph))
}
