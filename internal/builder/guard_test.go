// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"errors"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
)

func TestGuardTellsWhereTheEngineStopped(t *testing.T) {
	var none []int
	err := Guard("net/ipv4/tcp.o", func() error { _ = none[len(none)]; return nil })
	p, ok := errors.AsType[*code.Problem](err)
	qt.Assert(t, qt.IsTrue(ok))
	qt.Assert(t, qt.Equals(p.Code, code.Code("TS1402")))
	qt.Assert(t, qt.Equals(p.Where, "net/ipv4/tcp.o"))
	qt.Assert(t, qt.StringContains(p.Why, "index out of range"))
	qt.Assert(t, qt.StringContains(p.Why, "internal/builder/guard_test.go:"))

	want := errors.New("as it is")
	qt.Assert(t, qt.ErrorIs(Guard("x", func() error { return want }), want))
	qt.Assert(t, qt.IsNil(Guard("x", func() error { return nil })))
}
