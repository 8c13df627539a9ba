// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/series"
)

func TestDoubtsAreListedTheWorstFirst(t *testing.T) {
	t.Parallel()
	var doubts []series.Doubt
	for i := range 12 {
		doubts = append(doubts, series.Doubt{CVE: fmt.Sprintf("CVE-2026-%04d", i), Fixes: []string{"a"}})
	}
	text := doubtText(doubts, false)
	qt.Check(t, qt.StringContains(text, "CVE-2026-0009"))
	qt.Check(t, qt.IsFalse(strings.Contains(text, "CVE-2026-0010")))
	qt.Check(t, qt.StringContains(text, "and 2 more; tsugictl fix ls --doubtful"))
	qt.Check(t, qt.StringContains(doubtText(doubts, true), "CVE-2026-0011"))
	qt.Check(t, qt.Equals(doubtText(nil, true), ""))
}
