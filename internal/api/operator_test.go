// SPDX-License-Identifier: Apache-2.0

package api

import (
	"testing"

	"github.com/go-quicktest/qt"
)

func TestAWholeIsToldByItsWorstPart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ kernel, library, whole Protection }{
		{Protected, Protected, Protected},
		{Protected, NotCovered, Protected},
		{NotCovered, Protected, Protected},
		{NotCovered, NotCovered, NotCovered},
		{Protected, Outdated, Outdated},
		{Outdated, Partly, Partly},
		{Partly, Unprotected, Unprotected},
		{Unprotected, Failing, Failing},
		{Failing, Protected, Failing},
		{Protected, "", Protected}, // there are no libraries
	} {
		qt.Check(t, qt.Equals(c.kernel.Worse(c.library), c.whole), qt.Commentf("%s, %s", c.kernel, c.library))
		qt.Check(t, qt.Equals(c.library.Worse(c.kernel), c.whole), qt.Commentf("%s, %s", c.library, c.kernel))
	}
}
