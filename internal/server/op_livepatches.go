// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"context"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/publish"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/trust"
)

type livePatchesInput struct {
	Tier   string `query:"tier" maxLength:"64"`
	Target string `query:"target" maxLength:"255"`
	CVE    string `query:"cve" pattern:"^[Cc][Vv][Ee]-[0-9]{4}-[0-9]{4,19}$" maxLength:"40" doc:"only those that have a fix of it"`
	Page
}

type promoteInput struct {
	ID string `path:"id" maxLength:"255"`
	ApprovalQuery
	Body api.Promote
}

type blockInput struct {
	ID   string `path:"id" maxLength:"255"`
	Body api.Block
}

type revertInput struct{ Body api.AuthoriseRevert }

func (s *Server) livePatchOperations(o *operations) {
	answer(o, op{id: "list-livepatches", method: "GET", path: "/v1/livepatches", summary: "Live patches, the newest first", may: look},
		func(ctx context.Context, _ operator, in *livePatchesInput) (api.List[api.LivePatch], error) {
			return s.livePatches(ctx, in)
		})
	answer(o, op{id: "get-livepatch", method: "GET", path: "/v1/livepatches/{id}", summary: "One live patch, with the number of machines by state", may: look, scoped: true},
		func(ctx context.Context, who operator, in *byID) (api.LivePatch, error) {
			return s.livePatch(ctx, who, in.ID)
		})
	answer(o, op{id: "promote-livepatch", method: "POST", path: "/v1/livepatches/{id}/promote", summary: "Take a live patch to the next tier, or to one that is named", may: change},
		func(ctx context.Context, who operator, in *promoteInput) (api.LivePatch, error) {
			if _, err := s.publish.Promote(ctx, in.ID, in.Body.Tier, who.name, s.promotionCheck(who, in.ID, in.Approval)); err != nil {
				return api.LivePatch{}, err
			}
			return s.livePatch(ctx, who, in.ID)
		})
	answer(o, op{id: "block-livepatch", method: "POST", path: "/v1/livepatches/{id}/block", summary: "Stop the delivery of a live patch at once", may: change},
		func(ctx context.Context, who operator, in *blockInput) (api.LivePatch, error) {
			if _, err := s.publish.Block(ctx, in.ID, in.Body.Reason, in.Body.Recall, who.name); err != nil {
				return api.LivePatch{}, err
			}
			return s.livePatch(ctx, who, in.ID)
		})
	answer(o, op{id: "unblock-livepatch", method: "POST", path: "/v1/livepatches/{id}/unblock", summary: "Deliver a live patch again", may: change},
		func(ctx context.Context, who operator, in *byID) (api.LivePatch, error) {
			if _, err := s.publish.Unblock(ctx, in.ID, who.name); err != nil {
				return api.LivePatch{}, err
			}
			return s.livePatch(ctx, who, in.ID)
		})
	quiet(o, op{id: "authorise-revert", method: "POST", path: "/v1/reverts", summary: "Let the machines of a tier go to an older live patch", may: change},
		func(ctx context.Context, who operator, in *revertInput) error {
			b := in.Body
			return s.publish.AuthoriseRevert(ctx, b.Target, b.Tier, b.Policy, b.To, b.Reason, who.name)
		})
}

func livePatchOf(p store.LivePatch) api.LivePatch {
	tiers, policies := p.Tiers, p.Policies
	if tiers == nil {
		tiers = []string{}
	}
	if policies == nil {
		policies = []string{}
	}
	kernel := api.Kernel{Release: p.Release, BuildID: p.BuildID, Arch: p.Arch}
	if p.Release == "" { // of a package, which has build-ids in its files alone
		kernel.BuildID = ""
	}
	return api.LivePatch{
		ID: p.ID, Name: p.Name, Version: p.Version, Target: p.Target, Kernel: kernel, Digest: p.Digest, Size: p.Size,
		CVEs: p.CVEs, Fixes: p.Fixes, Proven: p.Proven, Signed: p.Signed, Tiers: tiers, Policies: policies, Created: p.Created,
		Blocked: p.Blocked, Reason: p.Reason, Recall: p.Recall,
	}
}

func (s *Server) livePatches(ctx context.Context, in *livePatchesInput) (api.List[api.LivePatch], error) {
	f := store.LivePatchFilter{Tier: in.Tier, Target: in.Target, CVE: strings.ToUpper(in.CVE), Bare: true, Limit: in.Limit}
	if in.After != "" {
		last, err := s.store.LivePatch(ctx, in.After)
		if err != nil {
			return api.List[api.LivePatch]{}, missing(err, "live patch", in.After)
		}
		f.Before = &last
	}
	rows, err := s.store.LivePatches(ctx, f)
	items := make([]api.LivePatch, len(rows))
	for i, p := range rows {
		items[i] = livePatchOf(p)
	}
	return listOf(items, in.Limit, func(p api.LivePatch) string { return p.ID }), err
}

// livePatch is one with how it does on the machines that somebody may see.
func (s *Server) livePatch(ctx context.Context, who operator, id string) (api.LivePatch, error) {
	row, err := s.store.LivePatch(ctx, id)
	if err != nil {
		return api.LivePatch{}, missing(err, "live patch", id)
	}
	p := livePatchOf(row)
	p.Machines = map[string]int{}
	s.fleet.each(func(m *member) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.gone || !who.sees(m.group) {
			return
		}
		m.patches(func(of string, state api.State) {
			if of == id && state != "" {
				p.Machines[string(state)]++
			}
		})
	})
	return p, nil
}

// uploads is how many artifacts may be in memory at a time.
const uploads = 2

// publishLivePatch answers POST /v1/livepatches: a form with the parts
// artifact, proof and report.
func (s *Server) publishLivePatch(w http.ResponseWriter, r *http.Request, who operator) error {
	select {
	case s.uploading <- struct{}{}:
		defer func() { <-s.uploading }()
	default:
		f := refuse("TS7610", "", "others are publishing")
		f.retryAfter = 10
		return f
	}
	if r.ContentLength > api.MaxArtifact+2*api.MaxJobFiles {
		return tooLarge(api.MaxArtifact)
	}
	extend(w, transferTime(r.ContentLength))
	parts, err := readForm(w, r)
	if err != nil {
		return err
	}
	if parts["artifact"] == nil {
		return refuse("TS7601", "body.artifact", "this part is missing")
	}
	if err := s.mayPublishInto(r.Context(), s.store.Reader, who, r.URL.Query().Get("tier")); err != nil {
		return err
	}
	p, err := s.publish.Publish(r.Context(), publish.PublishRequest{
		Artifact: parts["artifact"], Proof: parts["proof"], Report: parts["report"], Tier: r.URL.Query().Get("tier"),
		Policies: r.URL.Query()["policy"], Actor: who.name, Checks: []publish.Check{func(ctx context.Context, tx *store.Tx, tier string) error {
			return s.mayPublishInto(ctx, tx.Reader, who, tier)
		}},
	})
	s.settle(r.Context())
	if err != nil {
		return err
	}
	out, err := s.livePatch(r.Context(), who, p.ID)
	if err != nil {
		return err
	}
	s.writeJSON(w, http.StatusCreated, out)
	return nil
}

// transferTime is how long bytes may take from or to the slowest client that
// is served.
func transferTime(n int64) time.Duration {
	return 30*time.Second + time.Duration(max(n, 0)/slowest)*time.Second
}

// readForm reads the parts of a form, each within its limit.
func readForm(w http.ResponseWriter, r *http.Request) (map[string][]byte, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "multipart/form-data" {
		return nil, refuse("TS7601", "header.Content-Type", "multipart/form-data is expected")
	}
	r.Body = http.MaxBytesReader(w, r.Body, api.MaxArtifact+2*api.MaxJobFiles+api.MaxBody)
	form, err := r.MultipartReader()
	if err != nil {
		return nil, refuse("TS7601", "body", "no form: "+err.Error())
	}
	limits := map[string]int64{"artifact": api.MaxArtifact, "proof": api.MaxJobFiles, "report": api.MaxJobFiles}
	parts := map[string][]byte{}
	for {
		p, err := form.NextRawPart()
		if errors.Is(err, io.EOF) {
			return parts, nil
		}
		if err != nil {
			return nil, formError(err)
		}
		limit, ok := limits[p.FormName()]
		if !ok || parts[p.FormName()] != nil {
			return nil, refuse("TS7601", "body", "a part "+strconv.Quote(p.FormName())+" that is unknown or there twice")
		}
		if parts[p.FormName()], err = readPart(p, limit); err != nil {
			return nil, err
		}
	}
}

func readPart(p *multipart.Part, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(p, limit+1))
	if err != nil {
		return nil, formError(err)
	}
	if int64(len(b)) > limit {
		return nil, refuse("TS7607", "body."+p.FormName(), "at most "+size(limit)+" are accepted")
	}
	return b, nil
}

func formError(err error) error {
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge(e.Limit)
	}
	return refuse("TS7601", "body", "the form is damaged, or did not arrive whole or in time")
}

// bundle answers GET /v1/bundle.
func (s *Server) bundle(w http.ResponseWriter, r *http.Request, who operator) error {
	q := r.URL.Query()
	if len(q["id"]) > maxBundled || len(q["machine"]) > maxBundled {
		return refuse("TS7601", "query", "at most "+strconv.Itoa(maxBundled)+" names are expected")
	}
	recipients, err := s.recipients(r.Context(), q.Get("tier"), q["machine"])
	if err != nil {
		return err
	}
	b, err := s.publish.Bundle(r.Context(), q["id"], q.Get("tier"), recipients, who.name)
	if err != nil {
		return err
	}
	extend(w, transferTime(int64(len(b))))
	w.Header().Set("Content-Type", "application/x-tar")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	_, _ = w.Write(b) // the connection is the client's
	return nil
}

// maxBundled bounds the machines that a bundle can be for.
const maxBundled = 10_000

// recipients are those of the machines that are named or, if none is, of all
// machines of the tier.
func (s *Server) recipients(ctx context.Context, tier string, ids []string) ([]publish.Recipient, error) {
	book := s.book.Load()
	var out []publish.Recipient
	// What a rollout has not come to a machine with, no file brings to it.
	gates := map[string]*gate{}
	add := func(m store.Machine) {
		out = append(out, publish.Recipient{Key: m.Recipient, Policy: cmp.Or(book.of(m.Group).word, trust.DefaultPolicy), May: func(patch string) (bool, error) {
			g, known := gates[patch]
			if !known {
				found, err := s.gatesOf(ctx, tier, []string{patch})
				if err != nil {
					return false, err
				}
				if found != nil {
					g = found[0]
				}
				gates[patch] = g
			}
			return g.admits(m.ID), nil
		}})
	}
	if len(ids) == 0 {
		rows, err := s.store.Machines(ctx, store.MachineFilter{Tier: tier, Limit: maxBundled + 1})
		if err != nil {
			return nil, err
		}
		for _, m := range rows {
			add(m)
		}
		if len(out) == 0 || len(out) > maxBundled || tier == "" {
			return nil, refuse("TS7601", "query.machine", "the tier has "+strconv.Itoa(len(out))+" machines: name those that the bundle is for")
		}
		return out, nil
	}
	for _, id := range ids {
		m, err := s.store.Machine(ctx, id)
		if err == nil && m.Gone != 0 {
			err = store.ErrNotFound
		}
		if err != nil {
			return nil, missing(err, "enrolled machine", id)
		}
		add(m)
	}
	return out, nil
}
