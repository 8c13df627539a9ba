// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"io"
	"net/http"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/publish"
	"github.com/tsugi-project/tsugi/internal/store"
)

type updateInput struct {
	Target string `query:"target" required:"true" maxLength:"255"`
	Name   string `query:"name" required:"true" maxLength:"63"`
}

func (s *Server) updateOperations(o *operations) {
	answer(o, op{id: "list-updates", method: "GET", path: "/v1/updates", summary: "The fixes that are pushed, by target", may: look},
		func(ctx context.Context, _ operator, _ *none) (api.List[api.Update], error) { return s.updates(ctx) })
	quiet(o, op{id: "delete-update", method: "DELETE", path: "/v1/updates", summary: "Take back what was pushed for a target", may: change},
		func(ctx context.Context, who operator, in *updateInput) error {
			return s.publish.DeleteUpdate(ctx, in.Target, in.Name, who.name)
		})
}

func (s *Server) updates(ctx context.Context) (api.List[api.Update], error) {
	rows, err := s.store.Updates(ctx, "")
	if err != nil {
		return api.List[api.Update]{}, err
	}
	choices, err := s.store.Choices(ctx)
	if err != nil {
		return api.List[api.Update]{}, err
	}
	items := []api.Update{}
	for _, u := range rows {
		items = append(items, updateOf(u, choices))
	}
	return api.List[api.Update]{Items: items}, nil
}

func updateOf(u store.Update, choices []store.Choice) api.Update {
	var sum publish.Summary
	_ = json.Unmarshal(u.Summary, &sum) // what is not readable is not shown
	distinct := map[string]bool{}
	for _, c := range choices {
		if c.Target == u.Target {
			distinct[c.Selection] = true
		}
	}
	return api.Update{
		Target: u.Target, Name: u.Name, Extra: u.Extra, Title: sum.Title, From: sum.From, To: sum.To, Digest: u.Digest, Size: u.Size,
		Fixes: sum.Fixes, CVEs: sum.CVEs, Known: sum.Known, Live: sum.Live, Reboot: sum.Reboot, Created: u.Created,
		CreatedBy: u.CreatedBy, Selections: len(distinct),
	}
}

// pushUpdate answers POST /v1/updates: the body is what package selection
// calls Pushed.
func (s *Server) pushUpdate(w http.ResponseWriter, r *http.Request, who operator) error {
	body, err := upload(w, r, api.MaxUpdate)
	if err != nil {
		return err
	}
	select {
	case s.uploading <- struct{}{}:
		defer func() { <-s.uploading }()
	default:
		f := refuse("TS7610", "", "others are publishing")
		f.retryAfter = 10
		return f
	}
	b, err := io.ReadAll(body)
	if err != nil {
		return bodyError(err)
	}
	q := r.URL.Query()
	u, err := s.publish.PushUpdate(r.Context(), q.Get("name"), q.Get("extra") == "true", b, who.name)
	s.settle(r.Context())
	if err != nil {
		return err
	}
	u.Created = s.now().UnixMilli()
	s.writeJSON(w, http.StatusCreated, updateOf(u, nil))
	return nil
}

// workerUpdate answers GET /v1/worker/updates/{digest}.
func (s *Server) workerUpdate(w http.ResponseWriter, r *http.Request, _ operator) error {
	b, err := s.jobs.Series(r.Context(), r.PathValue("digest"))
	if err != nil {
		return err
	}
	return s.sendBytes(w, r, b)
}
