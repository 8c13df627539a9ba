// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"testing"

	"github.com/go-quicktest/qt"
)

// TestASharedObjectsCommandIsRecordedOnce: two modules may be linked from one
// object, whose recorded command is there once.
func TestASharedObjectsCommandIsRecordedOnce(t *testing.T) {
	t.Parallel()
	c := &compilation{dir: t.TempDir()}
	var paths []string
	for _, m := range c.withoutPreprocessor([]candidate{
		{Object: Object{Path: "drivers/x/core.o", Module: "x"}},
		{Object: Object{Path: "drivers/x/main.o", Module: "x"}},
		{Object: Object{Path: "drivers/x/core.o", Module: "x_vf"}},
	}) {
		paths = append(paths, m.Path)
	}
	qt.Assert(t, qt.DeepEquals(paths, []string{"drivers/x/core.o", "drivers/x/main.o"}))
}
