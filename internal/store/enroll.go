// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"strconv"

	"github.com/tsugi-project/tsugi/internal/store/query"
)

// SettingPlanMachines is how many machines may be enrolled at a time: a
// number, or PlanUnlimited. DefaultPlanMachines holds until it is set.
const (
	SettingPlanMachines = "plan.machines"
	PlanUnlimited       = "unlimited"
	DefaultPlanMachines = 3
)

// Enrolled is the outcome of an enrolment.
type Enrolled struct {
	Machine
	Again bool // the machine was known and kept its id, tier and group
}

// Enroll makes a machine known, or known again with a new credential and a
// new recipient. It holds the token to its state and both limits in one
// transaction with the new row: ErrNotFound, ErrRevoked, ErrExpired are about
// the token; a *LimitError (ErrLimit) says which limit is reached; ErrConflict
// that the new credential is one already.
//
// A machine is known when it shows its last credential and its machine id is
// still the same, or else when the token has enrolled exactly one machine with
// this machine id. One whose identity is used twice (Cloned) is known to
// nobody: the first of the two to enroll becomes a machine of its own, and
// the other one keeps the identity.
func (s *Store) Enroll(ctx context.Context, in EnrollInput) (Enrolled, error) {
	var e Enrolled
	err := s.Update(ctx, func(tx *Tx) (err error) {
		e, err = tx.enroll(ctx, in)
		return err
	})
	return e, err
}

func (tx *Tx) enroll(ctx context.Context, in EnrollInput) (e Enrolled, err error) {
	if err := tx.fleet(ctx); err != nil {
		return e, err
	}
	t, err := tx.TokenByHash(ctx, in.TokenHash)
	if err != nil {
		return e, err
	}
	switch {
	case t.Revoked != 0:
		return e, named(ErrRevoked, "token %s", t.Name)
	case t.Expires != 0 && t.Expires <= tx.now:
		return e, named(ErrExpired, "token %s", t.Name)
	}
	in.clean()
	known, err := tx.knownMachine(ctx, in, t)
	if err != nil {
		return e, err
	}
	e.Again = known != ""
	if !e.Again {
		if err := tx.room(ctx, t); err != nil {
			return e, err
		}
		if known, err = tx.insertMachine(ctx, in, t); err != nil {
			return e, err
		}
	} else if err := tx.q.ReenrollMachine(ctx, query.ReenrollMachineParams{
		ID: known, Credential: in.Credential, Recipient: in.Recipient, Hostname: in.Hostname, Token: t.ID, Os: in.OS,
		Agent: in.Agent, Kernel: in.Release, BuildID: in.BuildID, Arch: in.Arch, Enrolled: tx.now,
	}); err != nil {
		return e, err
	}
	use := query.UseTokenParams{ID: t.ID, LastUsed: tx.now}
	if !e.Again {
		use.Machines = 1
	}
	if err := tx.q.UseToken(ctx, use); err != nil {
		return e, err
	}
	if err := tx.q.TouchMachine(ctx, query.TouchMachineParams{Machine: known, Seen: tx.now}); err != nil {
		return e, err
	}
	tx.changed(KindMachine, known)
	tx.changed(KindToken, t.ID)
	e.Machine, err = tx.Machine(ctx, known)
	return e, err
}

// clean makes what the machine said storable.
func (in *EnrollInput) clean() {
	for _, s := range []*string{&in.MachineID, &in.Hostname, &in.Recipient, &in.OS, &in.Agent, &in.Release, &in.BuildID, &in.Arch} {
		*s = text(*s)
	}
}

// knownMachine is the id of the machine that enrolls again, or "".
func (tx *Tx) knownMachine(ctx context.Context, in EnrollInput, t Token) (string, error) {
	if len(in.Previous) > 0 {
		m, err := tx.MachineByCredential(ctx, in.Previous)
		switch {
		case errors.Is(err, ErrNotFound):
		case err != nil:
			return "", err
		case m.MachineID != in.MachineID:
			return "", nil // its disk was copied to another machine
		case m.Cloned:
			is := false
			_, err := tx.UpdateMachine(ctx, m.ID, MachineChange{Cloned: &is})
			return "", err
		default:
			return m.ID, nil
		}
	}
	same, err := tx.q.MachinesByMachineID(ctx, query.MachinesByMachineIDParams{MachineID: in.MachineID, Token: t.ID})
	if err != nil || len(same) != 1 {
		return "", err
	}
	m, err := tx.Machine(ctx, same[0])
	if err != nil || m.Cloned {
		return "", err
	}
	return m.ID, nil
}

// room holds both limits.
func (tx *Tx) room(ctx context.Context, t Token) error {
	if t.Limit > 0 && t.Uses >= t.Limit {
		return &LimitError{Of: "token", Limit: t.Limit, Used: t.Uses}
	}
	limit, limited, err := tx.PlanMachines(ctx)
	if err != nil || !limited {
		return err
	}
	n, err := tx.q.CountLiveMachines(ctx)
	if err != nil {
		return err
	}
	if int(n) >= limit {
		return &LimitError{Of: "plan", Limit: limit, Used: int(n)}
	}
	return nil
}

// PlanMachines is how many machines may be enrolled at a time.
func (r Reader) PlanMachines(ctx context.Context) (limit int, limited bool, err error) {
	v, err := r.Setting(ctx, SettingPlanMachines)
	switch {
	case errors.Is(err, ErrNotFound):
		return DefaultPlanMachines, true, nil
	case err != nil:
		return 0, false, err
	case v == PlanUnlimited:
		return 0, false, nil
	}
	limit, err = strconv.Atoi(v)
	return limit, true, named(err, "setting %s", SettingPlanMachines)
}

func (tx *Tx) insertMachine(ctx context.Context, in EnrollInput, t Token) (string, error) {
	id, err := id()
	if err != nil {
		return "", err
	}
	err = tx.q.InsertMachine(ctx, query.InsertMachineParams{
		ID: id, MachineID: in.MachineID, Credential: in.Credential, Recipient: in.Recipient, Hostname: in.Hostname,
		Tier: t.Tier, MachineGroup: t.Group, Token: t.ID, Os: in.OS, Agent: in.Agent, Kernel: in.Release,
		BuildID: in.BuildID, Arch: in.Arch, Enrolled: tx.now,
	})
	if err != nil {
		return "", err
	}
	return id, tx.q.InsertSeen(ctx, query.InsertSeenParams{Machine: id, Seen: tx.now})
}
