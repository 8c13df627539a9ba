// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/store"
)

type newOperator struct{ Body api.NewOperator }

type reportsInput struct {
	Machine string `query:"machine" maxLength:"255"`
	Kind    string `query:"kind" enum:"state,crash,health,agent"`
	Patch   string `query:"patch" maxLength:"255"`
	Page
}

func (s *Server) adminOperations(o *operations) {
	answer(o, op{id: "whoami", method: "GET", path: "/v1/whoami", summary: "Whose credential this is", may: look},
		func(_ context.Context, who operator, _ *none) (api.Whoami, error) {
			return api.Whoami{Name: who.name, Role: who.role, Server: s.opts.URL, Version: s.opts.Version, May: mayOf(who)}, nil
		})
	answer(o, op{id: "list-operators", method: "GET", path: "/v1/operators", summary: "Operators, without their credentials", may: look},
		func(ctx context.Context, _ operator, _ *none) (api.List[api.Operator], error) {
			return s.operators(ctx)
		})
	answer(o, op{id: "create-operator", method: "POST", path: "/v1/operators", summary: "Make an operator; its credential is told once", may: change, status: 201},
		func(ctx context.Context, who operator, in *newOperator) (api.OperatorMade, error) {
			return s.createOperator(ctx, who, in.Body)
		})
	quiet(o, op{id: "revoke-operator", method: "DELETE", path: "/v1/operators/{id}", summary: "Revoke an operator's credential", may: change},
		func(ctx context.Context, who operator, in *byID) error { return s.revokeOperator(ctx, who, in.ID) })
	answer(o, op{id: "list-audit", method: "GET", path: "/v1/audit", summary: "Decisions, the newest first", may: look},
		func(ctx context.Context, _ operator, in *auditInput) (api.List[api.AuditEntry], error) {
			return s.auditLog(ctx, in)
		})
	answer(o, op{id: "verify-audit", method: "GET", path: "/v1/audit/chain", summary: "Check that the audit log is what was written; a long one in pieces: ask again until it is done", may: look},
		func(ctx context.Context, _ operator, _ *none) (api.AuditChain, error) {
			return s.auditCheck.chain(ctx, s)
		})
	answer(o, op{id: "list-reports", method: "GET", path: "/v1/reports", summary: "Reports of machines, the newest first", may: look, scoped: true},
		func(ctx context.Context, who operator, in *reportsInput) (api.List[api.StoredReport], error) {
			return s.seenReports(ctx, who, in)
		})
	answer(o, op{id: "get-trust", method: "GET", path: "/v1/trust", summary: "How the TUF repository stands", may: look},
		func(ctx context.Context, _ operator, _ *none) (api.Trust, error) { return s.trust(ctx) })
}

// mayOf is what a caller has, for consoles.
func mayOf(who operator) map[string][]string {
	may := map[string][]string{}
	for p, groups := range who.caller.Subject.May() {
		may[string(p)] = groups
	}
	return may
}

func operatorOf(o store.Operator) api.Operator {
	return api.Operator{ID: o.ID, Name: o.Name, Role: o.Kind, Created: o.Created, Revoked: o.Revoked}
}

func (s *Server) operators(ctx context.Context) (api.List[api.Operator], error) {
	rows, err := s.store.Operators(ctx)
	items := make([]api.Operator, len(rows))
	for i, o := range rows {
		items[i] = operatorOf(o)
	}
	return api.List[api.Operator]{Items: items}, err
}

func (s *Server) createOperator(ctx context.Context, who operator, in api.NewOperator) (api.OperatorMade, error) {
	kind := api.OperatorCredential
	if in.Role == store.OperatorWorker {
		kind = api.WorkerCredential
	}
	secret := api.NewCredential(kind)
	var made store.Operator
	err := s.store.Update(ctx, func(tx *store.Tx) (err error) {
		if err := s.people.FreeName(ctx, tx, in.Name); err != nil {
			return err
		}
		if made, err = tx.CreateOperator(ctx, in.Name, in.Role, api.HashCredential(secret)); err != nil {
			return err
		}
		return tx.Audit(ctx, store.AuditEntry{Actor: who.name, Action: "operator.create", Object: made.ID, Detail: in.Name + ", " + in.Role})
	})
	if err != nil {
		return api.OperatorMade{}, err
	}
	return api.OperatorMade{Operator: operatorOf(made), Secret: secret}, nil
}

func (s *Server) revokeOperator(ctx context.Context, who operator, id string) error {
	return missing(s.people.RevokeKey(ctx, who.caller, id), "operator that is not revoked", id)
}

// auditInput asks for entries: of one who decided, of one action, about one thing.
type auditInput struct {
	Actor  string `query:"actor" maxLength:"255" doc:"only of this one who decided"`
	Action string `query:"action" maxLength:"64" doc:"only this action, such as policy.set, or all of one area, as rollout.*"`
	Object string `query:"object" maxLength:"255" doc:"only what was about this: an id or a name, as entries have it"`
	Page
}

func (s *Server) auditLog(ctx context.Context, in *auditInput) (api.List[api.AuditEntry], error) {
	rows, err := s.store.AuditEntries(ctx, store.AuditFilter{Actor: in.Actor, Action: in.Action, Object: in.Object, Before: in.After, Limit: in.Limit})
	items := make([]api.AuditEntry, len(rows))
	for i, e := range rows {
		items[i] = api.AuditEntry{Seq: e.Seq, ID: e.ID, Time: e.Time, Actor: e.Actor, Action: e.Action, Object: e.Object, Detail: e.Detail, Hash: e.Hash}
	}
	return listOf(items, in.Limit, func(e api.AuditEntry) string { return e.ID }), err
}

func (s *Server) reportList(ctx context.Context, in *reportsInput) (api.List[api.StoredReport], error) {
	rows, err := s.store.Reports(ctx, store.ReportFilter{
		Machine: in.Machine, Kind: in.Kind, Patch: in.Patch, Before: in.After, Limit: in.Limit,
	})
	if err != nil {
		return api.List[api.StoredReport]{}, err
	}
	items := make([]api.StoredReport, len(rows))
	for i, row := range rows {
		if items[i], err = storedReport(row); err != nil {
			return api.List[api.StoredReport]{}, err
		}
	}
	l := api.List[api.StoredReport]{Items: items}
	if len(rows) >= in.Limit && len(rows) > 0 {
		l.Next = rows[len(rows)-1].Seq
	}
	return l, nil
}

func storedReport(row store.Report) (api.StoredReport, error) {
	r := api.StoredReport{Machine: row.Machine, Received: row.Received}
	return r, json.Unmarshal(row.Body, &r.Report)
}

func (s *Server) trust(ctx context.Context) (api.Trust, error) {
	digest, err := s.publish.RootDigest(ctx)
	if err != nil {
		return api.Trust{}, err
	}
	roles, err := s.publish.Status(ctx)
	if err != nil {
		return api.Trust{}, err
	}
	out := api.Trust{RootDigest: digest, Roles: make([]api.TrustRole, len(roles))}
	for i, r := range roles {
		out.Roles[i] = roleOf(r)
	}
	return out, nil
}

// importRoot answers POST /v1/trust/root. The body is the signed file as it
// is: decoding and encoding it again would break its signatures.
func (s *Server) importRoot(w http.ResponseWriter, r *http.Request, who operator) error {
	b, release, err := s.readBody(w, r)
	if err != nil {
		return err
	}
	defer release()
	err = s.publish.ImportRoot(r.Context(), append([]byte(nil), b...), who.name, s.approvalCheck(who, wantedRoot(sha256Hex(b)), r.URL.Query().Get("approval")))
	s.settle(r.Context())
	if err != nil {
		return err
	}
	t, err := s.trust(r.Context())
	if err != nil {
		return err
	}
	s.writeJSON(w, http.StatusOK, t)
	return nil
}
