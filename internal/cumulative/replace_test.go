// SPDX-License-Identifier: Apache-2.0

package cumulative

import (
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/series"
)

// What requires another fix comes into the fixed module with it, unless that
// one is live, excluded or not there.
func TestFixesComeIntoModulesWithWhatTheyRequire(t *testing.T) {
	t.Parallel()
	left := func(id string, kind selection.LeftKind, by string, cves int, requires ...string) selection.Left {
		f := &series.Fix{Meta: series.Meta{ID: id, Requires: requires}}
		for range cves {
			f.CVEs = append(f.CVEs, "CVE-2026-1001")
		}
		return selection.Left{Fix: f, ID: id, Kind: kind, By: by}
	}
	var got []string
	for _, all := range candidates([]selection.Left{
		left("alone", selection.Reboot, "", 1),
		left("root", selection.Reboot, "", 0), // nobody's reason by itself
		left("on-root", selection.Dragged, "root", 1, "root"),
		left("on-that", selection.Dragged, "on-root", 1, "on-root", "root"),
		left("on-live", selection.Reboot, "", 1, "chosen"),
		left("excluded", selection.Excluded, "CVE-2026-1002", 1),
		left("on-excluded", selection.Dragged, "excluded", 1, "excluded"),
		left("on-both", selection.Reboot, "", 1, "root", "excluded"),
		left("lesser", selection.Lesser, "", 1),
		left("broken", selection.Failed, "", 1),
	}) {
		var ids []string
		for _, f := range all {
			ids = append(ids, f.ID)
		}
		got = append(got, strings.Join(ids, "+"))
	}
	qt.Check(t, qt.DeepEquals(got, []string{"alone", "on-root+root", "on-that+on-root+root"}))
}
