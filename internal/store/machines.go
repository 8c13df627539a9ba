// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/tsugi-project/tsugi/internal/store/query"
)

// MachineByCredential returns the enrolled machine with the SHA-256 of a
// credential.
func (r Reader) MachineByCredential(ctx context.Context, hash []byte) (Machine, error) {
	row, err := r.q.MachineByCredential(ctx, hash)
	return machine(row.Machine, row.Seen, row.Silences), named(r.s.translate(err), "machine of this credential")
}

// Machine returns a machine, also when it is decommissioned.
func (r Reader) Machine(ctx context.Context, id string) (Machine, error) {
	row, err := r.q.MachineByID(ctx, id)
	return machine(row.Machine, row.Seen, row.Silences), named(r.s.translate(err), "machine %s", id)
}

// MachinesByIDs returns those of the machines that there are, in the order of the
// ids, also when they are decommissioned.
func (r Reader) MachinesByIDs(ctx context.Context, ids []string) ([]Machine, error) {
	const atOnce = 100 // an engine finds an id by walking over those before it
	all := make([]Machine, 0, len(ids))
	for some := range slices.Chunk(slices.Sorted(slices.Values(ids)), atOnce) {
		p := query.MachinesByIDsParams{AskedFor: int32(len(some))}
		for _, id := range some {
			p.Width = max(p.Width, int32(utf8.RuneCountInString(id)))
		}
		var b strings.Builder
		for _, id := range some {
			fmt.Fprintf(&b, "%-*s", p.Width, id)
		}
		p.Ids = b.String()
		found, err := r.q.MachinesByIDs(ctx, p)
		if err != nil {
			return nil, r.s.translate(err)
		}
		first := len(all)
		for _, row := range found {
			all = append(all, machine(row.Machine, row.Seen, row.Silences))
		}
		slices.SortFunc(all[first:], func(a, b Machine) int { return cmp.Compare(a.ID, b.ID) })
	}
	return all, nil
}

// Machines lists machines in the order of their ids.
func (r Reader) Machines(ctx context.Context, f MachineFilter) ([]Machine, error) {
	p := query.MachinesParams{
		After: f.After, AnyTier: f.Tier == "", Tier: f.Tier, AnyGroup: f.Group == nil,
		AnyBuildID: f.BuildID == "", BuildID: f.BuildID, AnyPatch: f.Patch == "", Patch: f.Patch,
		AnyState: f.State == "", PatchState: f.State, GoneToo: f.Gone,
		AnyText: f.Query == "", Contains: "%" + like(f.Query) + "%", Starts: like(f.Query) + "%", RowLimit: rows(f.Limit),
	}
	if f.Group != nil {
		p.MachineGroup = text(*f.Group)
	}
	found, err := r.q.Machines(ctx, p)
	all := make([]Machine, len(found))
	for i, row := range found {
		all[i] = machine(row.Machine, row.Seen, row.Silences)
	}
	return all, r.s.translate(err)
}

// like makes a part of a LIKE pattern of what a person typed.
func like(s string) string {
	return strings.NewReplacer(`\`, `\\`, "%", `\%`, "_", `\_`).Replace(strings.ToLower(text(s)))
}

// AllMachines calls f with each enrolled machine, in the order of the ids. A
// few thousand are in memory at a time, and no lock is held while f works.
func (r Reader) AllMachines(ctx context.Context, f func(Machine) error) error {
	const page = 2000
	for after := ""; ; {
		found, err := r.q.AllMachines(ctx, query.AllMachinesParams{After: after, RowLimit: page})
		if err != nil {
			return r.s.translate(err)
		}
		for _, row := range found {
			after = row.Machine.ID
			if row.Machine.Gone != 0 {
				continue
			}
			if err := f(machine(row.Machine, row.Seen, row.Silences)); err != nil {
				return err
			}
		}
		if len(found) < page {
			return nil
		}
	}
}

// CountMachines counts machines.
func (r Reader) CountMachines(ctx context.Context) (Counts, error) {
	found, err := r.q.CountMachines(ctx)
	c := Counts{ByTier: map[string]int{}}
	for _, row := range found {
		c.Live += int(row.Live)
		c.Gone += int(row.Gone)
		if row.Live > 0 {
			c.ByTier[row.Tier] = int(row.Live)
		}
	}
	return c, r.s.translate(err)
}

// UpdateMachine changes what operators decide about a machine and returns it.
func (tx *Tx) UpdateMachine(ctx context.Context, id string, change MachineChange) (Machine, error) {
	if change.Tier != nil {
		if err := tx.fleet(ctx); err != nil {
			return Machine{}, err
		}
		if _, err := tx.q.Tier(ctx, *change.Tier); err != nil {
			return Machine{}, named(tx.s.translate(err), "tier %s", *change.Tier)
		}
	}
	m, err := tx.Machine(ctx, id)
	if err != nil {
		return Machine{}, err
	}
	set(&m.Tier, change.Tier)
	if change.Group != nil {
		m.Group = text(*change.Group)
	}
	set(&m.Hold, change.Hold)
	set(&m.Cloned, change.Cloned)
	err = changedOne(tx.q.UpdateMachine(ctx, query.UpdateMachineParams{
		ID: id, Tier: m.Tier, MachineGroup: m.Group, Hold: m.Hold, Cloned: m.Cloned,
	}))
	tx.changed(KindMachine, id)
	return m, err
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// UpdateMachine changes what operators decide about a machine and returns it.
func (s *Store) UpdateMachine(ctx context.Context, id string, change MachineChange) (m Machine, err error) {
	err = s.Update(ctx, func(tx *Tx) error {
		m, err = tx.UpdateMachine(ctx, id, change)
		return err
	})
	return m, err
}

// Decommission ends a machine's enrolment: its credential is worth nothing
// any more, and its place in the plan is free. The row stays. ErrNotFound if
// there is no enrolled machine with this id.
func (tx *Tx) Decommission(ctx context.Context, id string) error {
	tx.changed(KindMachine, id)
	return named(changedOne(tx.q.DecommissionMachine(ctx, query.DecommissionMachineParams{
		ID: id, Gone: tx.now, Credential: []byte{},
	})), "machine %s", id)
}

// Decommission ends a machine's enrolment: see Tx.
func (s *Store) Decommission(ctx context.Context, id string) error {
	return s.Update(ctx, func(tx *Tx) error { return tx.Decommission(ctx, id) })
}

// touchBatch is how many machines one transaction of TouchMachines has: other
// writes wait no longer than these take.
const touchBatch = 1000

// TouchMachines stores when machines were last heard of; an older time than
// the stored one changes nothing, and neither does a machine that is unknown.
// It is no news for the change feed.
func (s *Store) TouchMachines(ctx context.Context, touches []Touch) error {
	sorted := slices.SortedFunc(slices.Values(touches), func(a, b Touch) int { return cmp.Compare(a.ID, b.ID) })
	for batch := range slices.Chunk(sorted, touchBatch) {
		err := s.Update(ctx, func(tx *Tx) error {
			for _, t := range batch {
				listening := t.Listening
				if t.Silence <= 0 {
					listening = math.MaxInt64
				}
				if err := tx.q.TouchMachine(ctx, query.TouchMachineParams{Machine: t.ID, Seen: t.Seen, Listening: listening, Silent: t.Seen - max(t.Silence, 0)}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// SaveCheckIns stores what machines said about themselves. It returns when
// that is durable, in one transaction with what others save at the same time;
// each machine is news for the change feed. One that was decommissioned
// meanwhile is left as it is.
func (s *Store) SaveCheckIns(ctx context.Context, checkIns []CheckInRow) error {
	// In order of ids: transactions that lock the same machines lock them in
	// the same order.
	sorted := slices.SortedStableFunc(slices.Values(checkIns), func(a, b CheckInRow) int { return cmp.Compare(a.ID, b.ID) })
	return s.group.do(ctx, func(ctx context.Context, tx *Tx) error {
		for _, c := range sorted {
			if err := tx.saveCheckIn(ctx, c); err != nil {
				return named(err, "machine %s", c.ID)
			}
		}
		return nil
	})
}

func (tx *Tx) saveCheckIn(ctx context.Context, c CheckInRow) error {
	n, err := tx.q.SaveCheckIn(ctx, query.SaveCheckInParams{
		ID: c.ID, Hostname: text(c.Hostname), Os: text(c.OS), Cloned: c.Cloned, Agent: text(c.Agent),
		Kernel: text(c.Release), BuildID: text(c.BuildID), Arch: text(c.Arch), Patch: text(c.Patch),
		PatchVersion: int64(c.PatchVersion), PatchState: text(c.PatchState), Able: c.Able, Booted: c.Booted, Boots: int64(c.Boots),
		Facts: text(string(c.JSON)),
	})
	if err != nil || n == 0 {
		return err
	}
	tx.changed(KindMachine, c.ID)
	return tx.q.TouchMachine(ctx, query.TouchMachineParams{Machine: c.ID, Seen: c.Seen, Listening: math.MaxInt64})
}

func machine(m query.Machine, seen, silences int64) Machine {
	return Machine{
		ID: m.ID, MachineID: m.MachineID, Credential: bytesOrNil(m.Credential), Recipient: m.Recipient, Hostname: m.Hostname,
		Tier: m.Tier, Group: m.MachineGroup, Token: m.Token, OS: m.Os,
		Facts: Facts{
			Agent: m.Agent, Release: m.Kernel, BuildID: m.BuildID, Arch: m.Arch, Patch: m.Patch,
			PatchVersion: int(m.PatchVersion), PatchState: m.PatchState, Able: m.Able, Booted: m.Booted, JSON: bytesOrNil([]byte(m.Facts)),
		},
		Hold: m.Hold, Cloned: m.Cloned, Enrolled: m.Enrolled, Seen: seen, Gone: m.Gone,
		Boots: int(m.Boots), Silences: int(silences),
	}
}

func bytesOrNil(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}
