// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"context"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
)

// reader is a source file beside the running kernel that includes a changed
// file: of the vDSO, the boot code, the purgatory.
type reader struct{ source, header string }

// runsBeside tells source that a kernel's image is made of and that no live
// patch reaches.
func runsBeside(source string) bool {
	return notRunning(source) != "" && (strings.HasPrefix(source, "arch/x86/") || strings.HasPrefix(source, "lib/") || strings.HasPrefix(source, "drivers/"))
}

// runsNow tells which of it programs run while the kernel does.
func runsNow(source string) bool {
	return strings.HasPrefix(source, "arch/x86/entry/") || strings.HasPrefix(source, "lib/vdso/")
}

// runElsewhere refuses a header whose change is one of code beside the running
// kernel: the kernel's own objects see none of it, or, by the names that it
// changes, the vDSO does as well, which programs go on to run as it is.
func (s *search) runElsewhere(ctx context.Context, files []FileOutcome) error {
	var ask []reader
	for _, r := range s.elsewhere {
		if runsBeside(r.source) {
			ask = append(ask, r)
		}
	}
	if len(ask) == 0 {
		return nil
	}
	w, err := s.tree.index(ctx, s.rep)
	if err != nil {
		return err
	}
	seen := make(map[string]bool) // headers that an object of the kernel sees
	for _, f := range files {
		seen[f.Path] = f.Outcome == Built
	}
	return newNarrowing(s.m.t, w, s.changes).elsewhere(ask, seen)
}

func (n *narrowing) elsewhere(ask []reader, seen map[string]bool) error {
	for _, r := range ask {
		c := n.changed[r.header]
		if c == nil || seen[r.header] && (c.everyone || !runsNow(r.source)) {
			continue
		}
		yes, err := n.notices(r.source, n.w.mayRead(r.source))
		if err != nil {
			return err
		}
		if yes {
			return code.New("TS3105", r.header, notRunning(r.source)+": "+r.source)
		}
	}
	return nil
}
