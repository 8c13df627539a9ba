// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/authz"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/people"
)

// permission is what an operation does, for its place in the document and for
// the change feed. Who may is in the table of package authz, by the operation's
// id, and nowhere else.
type permission string

const (
	look   permission = "look"   // see how things stand
	change permission = "change" // decide something
	work   permission = "work"   // do build jobs
)

// operator is who calls an operation, and for what they may.
type operator struct {
	name, role string // as the audit log and people name it
	caller     people.Caller
	from       people.From
	may        authz.Decision
}

// subject finds who a request comes from: whose key it shows or, without one,
// whose session its cookie is of. Only keys are counted against an address: a
// browser that is left open asks with a session that ended long ago.
func (s *Server) subject(r *http.Request, from people.From) (people.Caller, error) {
	credential := bearer(r)
	if credential == "" {
		secret := people.SecretOf(r)
		if secret == "" {
			return people.Caller{}, refuse("TS7603", "", "an operator's credential is expected")
		}
		return s.people.BySession(r.Context(), secret, from)
	}
	addr := s.clientAddr(r)
	kind, ok := api.CredentialKindOf(credential)
	known := ok && (kind == api.OperatorCredential || kind == api.WorkerCredential)
	hash := api.HashCredential(credential)
	if (!known || !s.proven.has(hash)) && s.failures.exhausted(addr, s.now()) {
		return people.Caller{}, tooMany("too many credentials from here that nobody has")
	}
	c, err := s.people.ByKey(r.Context(), credential)
	if p, ok := err.(*code.Problem); ok && p.Code == "TS8201" { //nolint:errorlint // it comes as it was made
		s.failures.failed(addr, s.now())
		s.metrics.authFailures.Inc()
		why := p.Why
		if !known {
			why = "an operator's credential is expected"
		}
		return c, refuse("TS7603", "", why)
	}
	if err == nil {
		s.proven.add(hash)
	}
	return c, err
}

// operator finds who a request comes from, and whether they may do what it
// asks. What anybody may, a stranger does.
func (s *Server) operator(r *http.Request, id string) (operator, error) {
	from := people.From{Address: s.clientAddr(r), Agent: r.UserAgent(), Background: r.Header.Get(api.BackgroundHeader) != "" || id == "events"}
	if line, ok := s.table.Operation(id); ok && line.Caller == authz.Anybody {
		if s.strangers.exhausted(from.Address, s.now()) {
			return operator{}, tooMany("too many sign-ins from here that failed")
		}
		return operator{from: from}, nil
	}
	c, err := s.subject(r, from)
	if err != nil {
		return operator{}, err
	}
	d, err := s.table.Decide(c.Subject, id)
	if err != nil {
		return operator{}, err
	}
	return operator{name: c.Name, role: c.Role, caller: c, from: from, may: d}, nil
}

// id names the caller: a person, or a program's key.
func (o operator) id() string {
	if o.caller.UserID != "" {
		return "user:" + o.caller.UserID
	}
	return "key:" + o.caller.KeyID
}

// person names the person who calls, by whichever of their keys: two keys are not
// two people.
func (o operator) person() string {
	if o.caller.UserID != "" {
		return nameOfPerson(o.name)
	}
	return o.name
}

// nameOfPerson is the person in a name of the audit log.
func nameOfPerson(name string) string {
	name, _, _ = strings.Cut(name, "/")
	return name
}

// sees reports whether a caller may see what is of a group.
func (o operator) sees(group string) bool { return o.may.Covers(group) }

// reaches refuses what is of a group that a caller's decision does not cover.
func (o operator) reaches(group string) error {
	if o.may.Covers(group) {
		return nil
	}
	return o.may.Refuse(group)
}

type operatorKey struct{}

// authorise is the middleware of the operations that huma serves.
func (s *Server) authorise(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	line := ctx.Operation()
	o, err := s.operator(r, line.OperationID)
	if err == nil && line.Metadata["scoped"] != true {
		err = o.whole()
	}
	if err != nil {
		s.writeFault(w, r, err)
		return
	}
	if wait, ok := line.Metadata["wait"].(time.Duration); ok {
		extend(w, wait)
	}
	next(huma.WithValue(ctx, operatorKey{}, o))
}

// whole refuses who may do something for some groups alone, where the
// operation does not tell groups apart.
func (o operator) whole() error {
	if o.may.Whole() {
		return nil
	}
	return o.may.Refuse("")
}

// extend gives a request more time than the server's limits.
func extend(w http.ResponseWriter, d time.Duration) {
	control := http.NewResponseController(w)
	deadline := time.Now().Add(d + 10*time.Second)
	_ = control.SetReadDeadline(deadline) // not every connection has deadlines
	_ = control.SetWriteDeadline(deadline)
}

// withOperator is the same for plain handlers: those of operations by their
// ids in the document, which plains has.
func (s *Server) withOperator(id string, h plainHandler) http.HandlerFunc {
	return s.withScope(id, func(w http.ResponseWriter, r *http.Request, o operator) error {
		if err := o.whole(); err != nil {
			return err
		}
		return h(w, r, o)
	})
}

type plainHandler func(http.ResponseWriter, *http.Request, operator) error

// withScope is withOperator for handlers that tell groups apart: the caller may
// be for some of them alone.
func (s *Server) withScope(id string, h plainHandler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		o, err := s.operator(r, id)
		if err == nil {
			err = h(w, r, o)
		}
		if err != nil {
			s.countStranger(o, err)
			s.writeFault(w, r, err)
		}
	}
}

// countStranger counts what may be guessing against the address that it comes
// from. A user is locked as well (package people); this is for who tries many
// of them, and links, and passkeys.
func (s *Server) countStranger(o operator, err error) {
	switch code.Of(err) {
	case "TS8207", "TS8211", "TS8212", "TS8216", "TS8217":
		s.strangers.failed(o.from.Address, s.now())
		s.metrics.signInFailures.Inc()
	}
}

// prunePeople removes sessions, links and ceremonies that are over.
func (s *Server) prunePeople(ctx context.Context) {
	if err := s.people.Prune(ctx); err != nil && ctx.Err() == nil {
		s.log.Error("sessions that are over could not be removed", "err", err)
	}
}
