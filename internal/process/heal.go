// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"fmt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/process/proc"
)

// Heal finishes what a patcher that was killed has begun. Jumps that are all
// written are noted as such; where some are missing they are all taken out
// again; and what was being taken out is taken out. Apply and Revert do this
// too before their own work. A process with nothing to heal is NotAffected.
func (e *Engine) Heal(ctx context.Context, p *proc.Process, opt Options) (Result, error) {
	return e.do(ctx, p, opt, deed{healed: Healed, units: func(*sight) ([]*unit, error) { return nil, nil }})
}

// healUnits says for each journal that is unfinished how it ends.
func healUnits(s *sight, broken []*area) ([]*unit, error) {
	var units []*unit
	for _, a := range broken {
		u := &unit{object: a.object, journal: a.journal, header: a.raw, through: a.state, end: TakenOut}
		now := make([][jumpSize]byte, len(a.records))
		whole := a.state == Applying
		for i := range a.records {
			r := &a.records[i]
			if err := readFull(s.mem, now[i][:], r.entry()); err != nil {
				return nil, err
			}
			name := fmt.Sprintf("a function at %#x", r.function)
			if now[i] != r.before && now[i] != r.after && now[i] != r.original {
				return nil, code.New("TS9638", name, "what stands at its entry is not what the journal says")
			}
			u.watch = append(u.watch, watch{addr: r.entry(), want: now[i][:], what: name})
			if err := proven(s, r, name); err != nil {
				return nil, err
			}
			whole = whole && now[i] == r.after
		}
		if whole {
			u.end = InEffect
			u.prior = s.at(a.prior)
		}
		for i := range a.records {
			r := &a.records[i]
			to := r.before // a patch that this one was to replace stays in effect
			if a.state == Reverting {
				to = r.original
			}
			if !whole && now[i] != to {
				u.back(r, fmt.Sprintf("a function at %#x", r.function), now[i], to)
			}
		}
		units = append(units, u)
	}
	return units, nil
}

// proven compares a whole function, with the recorded bytes put back, with the
// recorded digest.
func proven(s *sight, r *record, name string) error {
	whole := make([]byte, max(uint64(r.size), uint64(r.skip)+jumpSize))
	if err := readFull(s.mem, whole, r.function); err != nil {
		return err
	}
	return shipped(r, whole, name)
}
