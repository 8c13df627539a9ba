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
		rows[i] = []string{p.Target, patchOf(p.Patch), protection(p.Protection), processes(p), ui.Dim(clip(p.Reason, 90))}
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

// staleText lists the files that processes run and the disk has no more.
func staleText(s *api.Stale) string {
	if s == nil || s.Processes == 0 {
		return ""
	}
	rows := make([][]string, len(s.Files))
	for i, f := range s.Files {
		rows[i] = []string{clip(f.Path, 60), ui.Warn(strconv.Itoa(f.Processes)), f.Program}
	}
	text := "\n" + toRestart(s.Processes) + ": they run files that are not on the disk any more, since an upgrade\n"
	if len(rows) > 0 {
		text += ui.Table([]string{"replaced file", "processes", "one is"}, rows)
	}
	if s.More > 0 {
		text += ui.Dim("and "+ui.Count(s.More, "file")+" more") + "\n"
	}
	return text
}

// processes says how far a live patch reached, and how many of its processes run a
// file that the disk has no more.
func processes(p api.MachinePackage) string {
	var words []string
	for _, w := range []struct {
		n    int
		word string
	}{
		{p.Processes.Protected, "protected"},
		{p.Processes.Pending, ui.Warn("pending")},
		{p.Processes.Unprotected, ui.Bad("unprotected")},
		{p.Stale, "not of the disk's version"},
	} {
		if w.n > 0 {
			words = append(words, fmt.Sprintf("%d %s", w.n, w.word))
		}
	}
	return cmp.Or(strings.Join(words, ", "), ui.Dim("none"))
}
