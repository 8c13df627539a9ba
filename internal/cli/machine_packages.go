// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/ui"
)

// packagesText lists the packages whose files processes of a machine map: how far
// the live patch of each reached, and why not further.
func packagesText(all []api.MachinePackage) string {
	if len(all) == 0 {
		return ""
	}
	rows := make([][]string, len(all))
	var why [][]string
	var problems strings.Builder
	for i, p := range all {
		rows[i] = []string{p.Target, patchOf(p.Patch), protection(p.Protection), processes(p.Processes), ui.Dim(clip(p.Reason, 90))}
		if p.Patch.Problem != nil {
			fmt.Fprintf(&problems, "\n%s\n", told(p.Patch.Problem))
		}
		for _, r := range p.Reasons {
			why = append(why, []string{p.Target, string(r.Problem.Code), ui.Warn(strconv.Itoa(r.Processes)), r.Program, clip(cmp.Or(r.Problem.Why, r.Problem.What), 90)})
		}
	}
	text := "\n" + ui.Table([]string{"library or program", "live patch", "", "processes", ""}, rows)
	if len(why) > 0 {
		text += "\n" + ui.Table([]string{"not protected", "", "processes", "one is", ""}, why)
	}
	return text + problems.String()
}

// processes says how far a live patch reached.
func processes(n api.Processes) string {
	var words []string
	for _, w := range []struct {
		n    int
		word string
	}{{n.Protected, "protected"}, {n.Pending, ui.Warn("pending")}, {n.Unprotected, ui.Bad("unprotected")}} {
		if w.n > 0 {
			words = append(words, fmt.Sprintf("%d %s", w.n, w.word))
		}
	}
	return cmp.Or(strings.Join(words, ", "), ui.Dim("none"))
}
