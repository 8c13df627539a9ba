// SPDX-License-Identifier: Apache-2.0

package selection

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/series"
)

// Sharing names what a build of the selection makes: two policies whose
// selections of one series have it in common may share one live patch. Digest
// does not do for that, for a build makes more than the chosen fixes: fixed
// modules of fixes that can't be live, the list of what stays open, and it
// takes spare fixes back that chosen ones turn out to need, but never an
// excluded one.
//
// It is meant for what Choose returns: a build changes selections.
func (s *Selection) Sharing() string {
	h := sha256.New()
	fmt.Fprintf(h, "tsugi sharing 1\n%s\n", series.Digest(s.Fixes))
	by := make(map[string]Left, len(s.Left))
	for _, l := range s.Left {
		by[l.ID] = l
	}
	for _, l := range s.Left {
		what, c, why := l.class(by)
		fmt.Fprintf(h, "%q %s %q %q %s\n", l.ID, what, c, why, series.Digest([]*series.Fix{l.Fix}))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// class is what a build makes of a fix that is left out. Whose policy it was,
// and what it said, is not part of it.
func (l Left) class(by map[string]Left) (what string, c code.Code, why string) {
	switch root := l.Root(by); {
	case l.Kind.Yields() && l.Kind != NotHere:
		return "spare", "", ""
	case root.Kind == Reboot || root.Kind == Failed:
		return string(l.Kind), root.Code, l.Why
	case l.Kind == NotHere:
		return string(NotHere), "", ""
	}
	return "out", "", ""
}

// Root follows a dragged fix to the one that is left out by itself; by are
// those left out, by id.
func (l Left) Root(by map[string]Left) Left {
	for range by {
		next, ok := by[l.By]
		if l.Kind != Dragged || !ok {
			break
		}
		l = next
	}
	return l
}
