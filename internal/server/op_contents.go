// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/publish"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/store/blob"
)

type fixInput struct {
	ID  string `path:"id" maxLength:"255"`
	Fix string `query:"fix" required:"true" maxLength:"200" doc:"id of the fix"`
}

func (s *Server) contentsOperations(o *operations) {
	answer(o, op{id: "get-livepatch-contents", method: "GET", path: "/v1/livepatches/{id}/contents", summary: "What a live patch is made of: functions, fixes, modules, risks, inputs", may: look},
		func(ctx context.Context, _ operator, in *byID) (api.LivePatchContents, error) {
			return s.contents(ctx, in.ID)
		})
	answer(o, op{id: "get-livepatch-diff", method: "GET", path: "/v1/livepatches/{id}/diff", summary: "The diff of a fix as it went into a live patch", may: look},
		func(ctx context.Context, _ operator, in *fixInput) (api.FixDiff, error) { return s.fixDiff(ctx, in) })
	answer(o, op{id: "get-livepatch-proof", method: "GET", path: "/v1/livepatches/{id}/proof", summary: "The record of the proof that came with a live patch, with the consoles of its machines", may: look},
		func(ctx context.Context, _ operator, in *byID) (api.PatchProof, error) { return s.proofOf(ctx, in.ID) })
	answer(o, op{id: "get-livepatch-provenance", method: "GET", path: "/v1/livepatches/{id}/provenance", summary: "The statement of how a live patch was made", may: look},
		func(ctx context.Context, _ operator, in *byID) (api.PatchProvenance, error) {
			return s.provenanceOf(ctx, in.ID)
		})
}

// patchRow finds a live patch.
func (s *Server) patchRow(ctx context.Context, id string) (store.LivePatch, *livepatch.Manifest, error) {
	row, err := s.store.LivePatch(ctx, id)
	if err != nil {
		return row, nil, missing(err, "live patch", id)
	}
	m, err := livepatch.ParseManifest(row.Manifest)
	if err != nil {
		return row, nil, fmt.Errorf("manifest of %s: %w", id, err)
	}
	return row, m, nil
}

func (s *Server) contents(ctx context.Context, id string) (api.LivePatchContents, error) {
	row, m, err := s.patchRow(ctx, id)
	if err != nil {
		return api.LivePatchContents{}, err
	}
	out := api.LivePatchContents{
		ID: row.ID, PackageVersion: m.Target.PackageVersion, Callbacks: m.Callbacks, Compiler: m.Compiler, Builder: m.Builder,
		Size: row.Size, CipherSize: row.CipherSize, Provenance: row.ProvenanceDigest, CreatedBy: row.CreatedBy, Members: len(m.Members),
		Module: api.PatchFile{Name: m.Module.Name, Digest: m.Module.Digest, Size: m.Module.Size}, Published: map[string]int64{},
		Fixes: []api.PatchFix{}, Open: []api.LeftFix{}, Functions: []api.PatchFunction{}, Risks: []api.Problem{},
	}
	if m.Selection != nil {
		out.Update, out.Selection = m.Selection.Update, m.Selection.Digest
	}
	for _, f := range m.Fixes {
		out.Fixes = append(out.Fixes, api.PatchFix{
			ID: f.ID, Title: f.Title, Origin: f.Origin, CVEs: f.CVEs, Possible: f.Possible, Severity: f.Severity,
			Exploited: f.Exploited, Modules: f.Modules, Size: f.Diff.Size,
		})
	}
	for _, f := range m.Open {
		out.Open = append(out.Open, api.LeftFix{
			ID: f.ID, Title: f.Title, CVEs: f.CVEs, Severity: f.Severity, Exploited: f.Exploited, Kind: f.Kind, Code: string(f.Code), Why: f.Why,
		})
	}
	for _, f := range m.Functions {
		out.Functions = append(out.Functions, api.PatchFunction{Object: f.Object, Name: f.Name, Change: f.Change, Source: f.Source})
	}
	for _, x := range m.Modules {
		out.Modules = append(out.Modules, api.Module{Name: x.Name, BuildID: x.BuildID})
	}
	for _, x := range m.Replacements {
		out.Replacements = append(out.Replacements, api.PatchReplacement{Name: x.Name, Path: x.Path, Fixes: x.Fixes, Size: x.Module.Size})
	}
	for _, f := range m.Files {
		out.Files = append(out.Files, api.PatchedFile{Name: f.Name, BuildID: f.BuildID, Path: f.Path, Package: f.Package, Size: f.Splice.Size})
	}
	for _, r := range m.Risks {
		out.Risks = append(out.Risks, api.Problem{Code: r.Code, What: r.What, Where: r.Where, Why: r.Why})
	}
	for _, i := range m.Inputs {
		out.Inputs = append(out.Inputs, api.NamedDigest{Name: i.Name, Digest: i.Digest})
	}
	for _, x := range m.States {
		out.States = append(out.States, api.PatchState{ID: x.ID, Version: x.Version})
	}
	publications, err := s.store.Publications(ctx, row.ID, "")
	for _, p := range publications {
		out.Published[p.Tier] = p.Published
	}
	return out, err
}

// file reads a blob that a person asked about.
func (s *Server) file(ctx context.Context, name, what string, limit int64) ([]byte, error) {
	f, info, err := s.blobs.Open(ctx, name)
	if errors.Is(err, blob.ErrNotFound) {
		return nil, missing(store.ErrNotFound, what, name)
	}
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", name, err)
	}
	defer f.Close()
	if info.Size > limit {
		return nil, fmt.Errorf("blob %s: %d bytes, more than %d", name, info.Size, limit)
	}
	b, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", name, err)
	}
	return b, nil
}

// fixDiff takes the diff out of the live patch itself.
func (s *Server) fixDiff(ctx context.Context, in *fixInput) (api.FixDiff, error) {
	row, m, err := s.patchRow(ctx, in.ID)
	if err != nil {
		return api.FixDiff{}, err
	}
	for _, f := range m.Fixes {
		if f.ID != in.Fix {
			continue
		}
		diff, err := s.payload(ctx, row, f.Diff)
		out := api.FixDiff{Fix: f.ID}
		out.Diff, out.Cut = cutText(diff)
		return out, err
	}
	return api.FixDiff{}, missing(store.ErrNotFound, "fix", in.Fix)
}

// downloads is how many live patches may be in memory at a time because people
// look into them; others wait for their turn.
const downloads = 2

// payload takes a file out of a live patch.
func (s *Server) payload(ctx context.Context, row store.LivePatch, of livepatch.Payload) ([]byte, error) {
	select {
	case s.reading <- struct{}{}:
		defer func() { <-s.reading }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	b, err := s.file(ctx, publish.ArtifactName(row), "file of live patch", api.MaxArtifact)
	if err != nil {
		return nil, err
	}
	p, err := livepatch.Read(b)
	if err != nil {
		return nil, err
	}
	text, _ := p.Payload(of)
	return bytes.Clone(text), nil // and nothing else of it
}

// proofOf reads the proof, and those consoles that the worker handed in.
func (s *Server) proofOf(ctx context.Context, id string) (api.PatchProof, error) {
	row, err := s.store.LivePatch(ctx, id)
	if err != nil {
		return api.PatchProof{}, missing(err, "live patch", id)
	}
	if row.ProofDigest == "" {
		return api.PatchProof{}, missing(store.ErrNotFound, "proof of live patch", id)
	}
	b, err := s.file(ctx, publish.ProofName(row), "proof of live patch", api.MaxJobFiles)
	if err != nil {
		return api.PatchProof{}, err
	}
	out := api.PatchProof{Digest: row.ProofDigest, Consoles: []api.Console{}}
	type run struct {
		Console string `json:"console_sha256"`
	}
	var p struct { // of package proof, as much as is needed
		Before, After *run
	}
	if err := cmp.Or(json.Unmarshal(b, &out.Proof), json.Unmarshal(b, &p)); err != nil {
		return out, fmt.Errorf("proof of %s: %w", id, err)
	}
	for _, r := range []struct {
		name string
		run  *run
	}{{"before", p.Before}, {"after", p.After}} {
		if r.run == nil {
			continue
		}
		c := api.Console{Run: r.name, Digest: r.run.Console}
		if name, ok := publish.ConsoleName(c.Digest); ok {
			text, err := s.file(ctx, name, "console", api.MaxConsole)
			switch {
			case err != nil && toFault(err).body.Status != http.StatusNotFound:
				return out, err
			case err == nil:
				c.Kept = true
				if cut := len(text) - api.MaxDiff; cut > 0 {
					text, c.Cut = text[cut:], true
				}
				c.Text = strings.ToValidUTF8(string(text), "\uFFFD")
			}
		}
		out.Consoles = append(out.Consoles, c)
	}
	return out, nil
}

func (s *Server) provenanceOf(ctx context.Context, id string) (api.PatchProvenance, error) {
	row, err := s.store.LivePatch(ctx, id)
	if err != nil {
		return api.PatchProvenance{}, missing(err, "live patch", id)
	}
	b, err := s.file(ctx, publish.StatementName(row), "provenance of live patch", api.MaxJobFiles)
	if err != nil {
		return api.PatchProvenance{}, err
	}
	out := api.PatchProvenance{Digest: row.ProvenanceDigest}
	if err := json.Unmarshal(b, &out.Statement); err != nil {
		return out, fmt.Errorf("provenance of %s: %w", id, err)
	}
	return out, nil
}
