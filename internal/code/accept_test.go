// SPDX-License-Identifier: Apache-2.0

package code

import (
	"testing"

	"github.com/go-quicktest/qt"
)

func TestAcceptsNamesCodeOrCodeAndPlace(t *testing.T) {
	t.Parallel()
	list := []string{"TS4010:sysctl_x", "TS4002"}
	qt.Check(t, qt.IsTrue(Accepts(list, New("TS4010", "sysctl_x", ""))))
	qt.Check(t, qt.IsFalse(Accepts(list, New("TS4010", "other", ""))))
	qt.Check(t, qt.IsTrue(Accepts(list, New("TS4002", "any", ""))))
	qt.Check(t, qt.IsFalse(Accepts(nil, New("TS4002", "any", ""))))
}

func TestWhatNamesNoRefusalIsTold(t *testing.T) {
	t.Parallel()
	qt.Check(t, qt.HasLen(NotRefusals([]string{"TS4010", "TS4002:x"}), 0))
	// TS1103 is an error: there is nothing to live with.
	qt.Check(t, qt.DeepEquals(NotRefusals([]string{"TS4010", "TS401", "TS1103:x", ""}), []string{"TS401", "TS1103:x", ""}))
}
