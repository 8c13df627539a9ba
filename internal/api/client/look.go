// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"

	"github.com/tsugi-project/tsugi/internal/api"
)

// Overview is how the fleet stands, in numbers.
func (c *Client) Overview(ctx context.Context) (*api.Overview, error) {
	return get[api.Overview](ctx, c, "/v1/overview", nil)
}

// MachineModules lists the kernel modules that a machine has loaded.
func (c *Client) MachineModules(ctx context.Context, id string) (*api.List[api.Module], error) {
	return get[api.List[api.Module]](ctx, c, path("v1", "machines", id, "modules"), nil)
}

// ReportFilter chooses reports; empty fields choose all.
type ReportFilter struct {
	Machine, Kind, Patch, After string
	Limit                       int
}

// Reports lists what machines reported, the newest first.
func (c *Client) Reports(ctx context.Context, f ReportFilter) (*api.List[api.StoredReport], error) {
	return get[api.List[api.StoredReport]](ctx, c, "/v1/reports",
		query("machine", f.Machine, "kind", f.Kind, "patch", f.Patch, "after", f.After, "limit", number(f.Limit)))
}

// LivePatchDiff is the diff of a fix as it went into a live patch.
func (c *Client) LivePatchDiff(ctx context.Context, id, fix string) (*api.FixDiff, error) {
	return get[api.FixDiff](ctx, c, patchPath(id, "/diff"), query("fix", fix))
}

// LivePatchProof is the record of the proof that came with a live patch.
func (c *Client) LivePatchProof(ctx context.Context, id string) (*api.PatchProof, error) {
	return get[api.PatchProof](ctx, c, patchPath(id, "/proof"), nil)
}

// LivePatchProvenance is the statement of how a live patch was made.
func (c *Client) LivePatchProvenance(ctx context.Context, id string) (*api.PatchProvenance, error) {
	return get[api.PatchProvenance](ctx, c, patchPath(id, "/provenance"), nil)
}
