// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// enroll answers POST /v1/enroll, which the token alone authorises.
func (s *Server) enroll(w http.ResponseWriter, r *http.Request) {
	addr := s.clientAddr(r)
	var in api.EnrollRequest
	err := s.readJSON(w, r, &in)
	if err == nil {
		err = checkEnroll(&in)
	}
	hash := api.HashCredential(in.Token)
	if !s.proven.has(hash) && s.failures.exhausted(addr, s.now()) {
		s.writeFault(w, r, tooMany("too many enrolments from here were refused"))
		return
	}
	if err == nil {
		err = trust.CheckRecipient(in.Recipient)
	}
	if err != nil {
		s.failures.failed(addr, s.now())
		s.writeFault(w, r, err)
		return
	}
	credential := api.NewCredential(api.MachineCredential)
	input := store.EnrollInput{
		TokenHash: hash, MachineID: in.MachineID, Hostname: in.Hostname, Recipient: in.Recipient,
		Credential: api.HashCredential(credential), OS: in.OS, Agent: in.Agent,
		Release: in.Kernel.Release, BuildID: in.Kernel.BuildID, Arch: in.Kernel.Arch,
	}
	if in.Previous != "" {
		input.Previous = api.HashCredential(in.Previous)
	}
	e, err := s.store.Enroll(r.Context(), input)
	if err != nil {
		s.metrics.enrolled.refused.Inc()
		s.failures.failed(addr, s.now())
		s.writeFault(w, r, enrollError(err))
		return
	}
	s.proven.add(hash)
	if _, err := s.fleet.refresh(r.Context(), s.store, e.ID); err != nil {
		s.writeFault(w, r, err)
		return
	}
	s.metrics.enrolled.done.Inc()
	action := "machine.enroll"
	if e.Again {
		action = "machine.reenroll"
	}
	s.audit(r.Context(), "machine:"+e.ID, action, e.ID, fmt.Sprintf("%s from %s, tier %s", in.Hostname, addr, e.Tier))
	s.writeJSON(w, http.StatusOK, api.EnrollAnswer{
		Machine: e.ID, Credential: credential, Tier: e.Tier, Group: e.Group, Reenrolled: e.Again,
	})
}

// enrollError says in the words of the one who enrolls what the store refused.
func enrollError(err error) error {
	if l, ok := errors.AsType[*store.LimitError](err); ok {
		f := refuse("TS7622", "", fmt.Sprintf("%d of %d machines of the %s are enrolled", l.Used, l.Limit, l.Of))
		if l.Of == "token" {
			f.body.Fix = "use another token, or make one with a higher limit: tsugictl token new --limit N"
		} else {
			f.body.Fix = "remove machines that are gone (tsugictl machine rm), or raise the plan: plan_machines of /v1/settings"
		}
		return f
	}
	switch {
	case errors.Is(err, store.ErrNotFound):
		return refuse("TS7621", "", "this server does not know it")
	case errors.Is(err, store.ErrRevoked):
		return refuse("TS7621", "", "it was revoked")
	case errors.Is(err, store.ErrExpired):
		return refuse("TS7621", "", "it has expired")
	}
	return err
}

// unenroll answers DELETE /v1/machine: a machine takes its leave.
func (s *Server) unenroll(w http.ResponseWriter, r *http.Request) {
	m, _, err := s.machine(r)
	if err == nil {
		err = s.decommission(r.Context(), m.id, "machine:"+m.id)
	}
	if err != nil {
		s.writeFault(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// decommission ends an enrolment. When it returns, nothing is answered to the
// machine's credential any more, on this server; on others the change feed ends it.
func (s *Server) decommission(ctx context.Context, id, actor string) error {
	if err := s.store.Update(ctx, func(tx *store.Tx) error {
		if err := tx.Decommission(ctx, id); err != nil {
			return err
		}
		return tx.Audit(ctx, store.AuditEntry{Actor: actor, Action: "machine.remove", Object: id})
	}); err != nil {
		return missing(err, "enrolled machine", id)
	}
	s.fleet.remove(id)
	s.waiters.wake(id)
	return nil
}

// readJSON reads a bounded body.
func (s *Server) readJSON(w http.ResponseWriter, r *http.Request, v any) error {
	b, release, err := s.readBody(w, r)
	if err != nil {
		return err
	}
	defer release()
	return decodeBody(b, v)
}

func (s *Server) writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the connection is the client's
}
