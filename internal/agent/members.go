// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"slices"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/livepatch"
)

// Members are the new members of structs that the live patches of one boot have
// brought. Objects hold what was put there until they are gone, also after a
// revert, so each live patch of that boot is held against all of them.
type Members struct {
	Boot string             `json:"boot"`
	List []livepatch.Member `json:"list"`
}

// held are the members that objects of a boot may hold.
func (s *State) held(boot string) []livepatch.Member {
	if s.Members == nil || s.Members.Boot != boot {
		return nil
	}
	return s.Members.List
}

// preflight judges a live patch against the machine as it is, and against what
// was in its kernel since the boot.
func (a *Agent) preflight(ctx context.Context, h *Host, p *livepatch.Patch) []*code.Problem {
	problems := a.opts.System.Preflight(ctx, p, a.ours(h))
	if slices.ContainsFunc(problems, func(p *code.Problem) bool { return p.Code == "TS9225" }) {
		return problems // with the one that is loaded
	}
	s, _ := a.journal.view()
	if why := livepatch.Clash(p.Manifest.Members, s.held(h.BootID)); why != "" {
		problems = append(problems, code.New("TS9225", p.Manifest.Name, why))
	}
	return problems
}

// remember writes down which members a live patch brings, before the kernel gets
// it.
func (a *Agent) remember(h *Host, m *livepatch.Manifest) error {
	if len(m.Members) == 0 {
		return nil
	}
	s, _ := a.journal.view()
	r := Members{Boot: h.BootID, List: livepatch.Remember(m.Members, s.held(h.BootID))}
	if err := a.journal.add(&Record{Members: &r}); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}
