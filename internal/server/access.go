// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/store"
)

// permission is what an operation asks of who calls it.
type permission string

const (
	look   permission = "look"   // see how things stand
	change permission = "change" // decide something
	work   permission = "work"   // do build jobs
)

// permits is the whole table of roles. A worker sees nothing: it runs
// compilers on what others send, and is the easiest to take over.
func permits(role string, p permission) bool {
	switch role {
	case store.OperatorAdmin:
		return true
	case store.OperatorReader:
		return p == look
	case store.OperatorWorker:
		return p == work
	}
	return false
}

// operator is who calls an operation.
type operator struct{ id, name, role string }

// operator finds who a request comes from, and whether it may do what it asks.
func (s *Server) operator(r *http.Request, p permission) (operator, error) {
	addr := s.clientAddr(r)
	refused := func(why string) (operator, error) {
		s.failures.failed(addr, s.now())
		s.metrics.authFailures.Inc()
		return operator{}, refuse("TS7603", "", why)
	}
	credential := bearer(r)
	kind, ok := api.CredentialKindOf(credential)
	if !ok || kind != api.OperatorCredential && kind != api.WorkerCredential {
		if s.failures.exhausted(addr, s.now()) {
			return operator{}, tooMany("too many credentials from here that nobody has")
		}
		return refused("an operator's credential is expected")
	}
	hash := api.HashCredential(credential)
	if !s.proven.has(hash) && s.failures.exhausted(addr, s.now()) {
		return operator{}, tooMany("too many credentials from here that nobody has")
	}
	o, err := s.store.OperatorByHash(r.Context(), hash)
	switch {
	case errors.Is(err, store.ErrRevoked):
		return refused("this credential was revoked")
	case errors.Is(err, store.ErrExpired):
		return refused("the time of this credential is over")
	case errors.Is(err, store.ErrNotFound):
		return refused("this server does not know the credential")
	case err != nil:
		return operator{}, err
	}
	s.proven.add(hash)
	s.used(r.Context(), o)
	if !permits(o.Kind, p) {
		return operator{}, refuse("TS7604", "", fmt.Sprintf("%s is a %s", o.Name, o.Kind))
	}
	return operator{id: o.ID, name: o.Name, role: o.Kind}, nil
}

// used writes down, not more often than once a minute, that an operator was
// heard of.
func (s *Server) used(ctx context.Context, o store.Operator) {
	now := s.now().UnixMilli()
	if now-o.LastUsed < time.Minute.Milliseconds() {
		return
	}
	if err := s.store.UseOperator(ctx, o.ID, now); err != nil && ctx.Err() == nil {
		s.log.Warn("last use of an operator could not be written down", "operator", o.Name, "err", err)
	}
}

type operatorKey struct{}

// authorise is the middleware of the operations that huma serves.
func (s *Server) authorise(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	meta := ctx.Operation().Metadata
	p, ok := meta["permission"].(permission)
	if !ok {
		s.writeFault(w, r, refuse("TS7609", "", "")) // an operation without a line in the table
		return
	}
	o, err := s.operator(r, p)
	if err != nil {
		s.writeFault(w, r, err)
		return
	}
	if wait, ok := meta["wait"].(time.Duration); ok {
		extend(w, wait)
	}
	next(huma.WithValue(ctx, operatorKey{}, o))
}

// extend gives a request more time than the server's limits.
func extend(w http.ResponseWriter, d time.Duration) {
	control := http.NewResponseController(w)
	deadline := time.Now().Add(d + 10*time.Second)
	_ = control.SetReadDeadline(deadline) // not every connection has deadlines
	_ = control.SetWriteDeadline(deadline)
}

// withOperator is the same for plain handlers.
func (s *Server) withOperator(p permission, h func(http.ResponseWriter, *http.Request, operator) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		o, err := s.operator(r, p)
		if err == nil {
			err = h(w, r, o)
		}
		if err != nil {
			s.writeFault(w, r, err)
		}
	}
}
