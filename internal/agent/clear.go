// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Clear ends the quarantine of a live patch, or lets a fixed module in again
// by its name. "journal" puts a damaged journal
// aside, and "all" ends every quarantine.
func (a *Agent) Clear(ctx context.Context, what string) ([]string, error) {
	ctx, end, err := a.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	host, err := a.host(ctx)
	if err != nil {
		return nil, err
	}
	if what == journalName {
		return []string{journalName}, a.clearJournal(host)
	}
	s, _ := a.journal.view()
	ids := []string{what}
	if what == "all" {
		ids = slices.Sorted(maps.Keys(s.Quarantined))
		for _, b := range s.Bad {
			ids = append(ids, b.Name)
		}
		slices.Sort(ids)
		ids = slices.Compact(ids)
	} else if _, ok := s.Quarantined[what]; !ok && !s.isBad(what) {
		return nil, code.New("TS9419", what, quarantineList(s))
	}
	for _, id := range ids {
		if err := a.journal.add(&Record{Clear: id}); err != nil {
			return nil, err
		}
		if err := a.event(host, "quarantine cleared: "+id); err != nil {
			return nil, err
		}
		a.mu.Lock()
		delete(a.tries, id)
		a.mu.Unlock()
	}
	a.decided(host)
	a.Kick()
	return ids, nil
}

func quarantineList(s *State) string {
	ids := slices.Sorted(maps.Keys(s.Quarantined))
	for _, b := range s.Bad {
		ids = append(ids, b.Name)
	}
	slices.Sort(ids)
	if len(ids) == 0 {
		return "nothing is in quarantine"
	}
	return fmt.Sprintf("in quarantine are %v", ids)
}

// clearJournal begins a new journal beside the damaged one.
func (a *Agent) clearJournal(h *Host) error {
	if _, bad := a.journal.view(); code.Of(bad) != "TS9403" {
		return code.New("TS9419", journalName, "the journal is not damaged")
	}
	b, err := a.disk.ReadFile(journalName)
	if err != nil {
		return diskProblem(journalName, err)
	}
	if err := a.disk.WriteFile(journalName+".damaged", b); err != nil {
		return err
	}
	if err := a.disk.Remove(journalName); err != nil {
		return err
	}
	a.journal.mu.Lock()
	a.journal.state, a.journal.good, a.journal.bad = newState(), 0, nil
	a.journal.mu.Unlock()
	a.Kick()
	return a.event(h, "the damaged journal was put aside; floors and quarantines begin anew")
}
