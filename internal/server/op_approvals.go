// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"net/http"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/people"
	"github.com/tsugi-project/tsugi/internal/store"
)

type approvalsInput struct {
	All bool `query:"all" doc:"those too that were decided or whose time is over"`
	Page
}

// ApprovalQuery is the part of an input that names an approval. Its name is in
// upper case because huma looks only into what is exported.
type ApprovalQuery struct {
	Approval string `query:"approval" maxLength:"64" doc:"id of what another person agreed to, where one is needed (TS8222): see POST /v1/approvals"`
}

type approvalActionsInput struct {
	ApprovalQuery
	Body api.ApprovalActions
}

type askInput struct{ Body api.AskApproval }

// approvalOperations are those of what needs a second person.
func (s *Server) approvalOperations(o *operations) {
	const tag = "people"
	answer(o, op{id: "list-approvals", method: "GET", path: "/v1/approvals", summary: "What a second person was asked for, the newest first", may: look, tag: tag},
		func(ctx context.Context, _ operator, in *approvalsInput) (api.List[api.Approval], error) {
			all, err := s.people.Approvals(ctx, store.ApprovalFilter{All: in.All, Before: in.After, Limit: in.Limit})
			return listOf(all, in.Limit, func(a api.Approval) string { return a.ID }), err
		})
	answer(o, op{id: "get-approval", method: "GET", path: "/v1/approvals/{id}", summary: "One of them", may: look, tag: tag},
		func(ctx context.Context, _ operator, in *byID) (api.Approval, error) {
			a, err := s.people.Approval(ctx, in.ID)
			return a, missing(err, "approval", in.ID)
		})
	answer(o, op{id: "ask-approval", method: "POST", path: "/v1/approvals", summary: "Ask for another person's agreement to one thing; do it then with ?approval=ID", may: change, tag: tag, status: http.StatusCreated},
		func(ctx context.Context, who operator, in *askInput) (api.Approval, error) {
			return s.askApproval(ctx, who, in.Body)
		})
	answer(o, op{id: "give-approval", method: "POST", path: "/v1/approvals/{id}/give", summary: "Agree, as the second person; who asked then does it", may: change, tag: tag},
		func(ctx context.Context, who operator, in *byID) (api.Approval, error) {
			return s.giveApproval(ctx, who, in.ID)
		})
	answer(o, op{id: "refuse-approval", method: "POST", path: "/v1/approvals/{id}/refuse", summary: "Refuse, or take back what one asked for", may: change, tag: tag},
		func(ctx context.Context, who operator, in *byID) (api.Approval, error) {
			a, err := s.people.Decide(ctx, who.caller, in.ID, false)
			return a, missing(err, "approval", in.ID)
		})
	answer(o, op{id: "get-approval-actions", method: "GET", path: "/v1/approvals/actions", summary: "What needs a second person on this server", may: look, tag: tag},
		func(ctx context.Context, _ operator, _ *none) (api.ApprovalActions, error) {
			return s.approvalActions(ctx)
		})
	answer(o, op{id: "set-approvals", method: "PUT", path: "/v1/approvals/actions", summary: "Say what needs a second person; that fewer things shall needs one itself", may: change, tag: tag},
		func(ctx context.Context, who operator, in *approvalActionsInput) (api.ApprovalActions, error) {
			if err := s.people.SetApprovals(ctx, who.caller, in.Body.Actions, in.Approval); err != nil {
				return api.ApprovalActions{}, err
			}
			return s.approvalActions(ctx)
		})
}

func (s *Server) approvalActions(ctx context.Context) (api.ApprovalActions, error) {
	set, err := s.people.ApprovalsSet(ctx)
	if set == nil {
		set = []string{}
	}
	return api.ApprovalActions{Actions: set, All: people.ApprovalActions()}, err
}
