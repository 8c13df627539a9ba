// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/tsugi-project/tsugi/internal/api"
)

// MachineFilter chooses machines; empty fields choose all.
type MachineFilter struct {
	Tier, Group, Query string
	Protection         api.Protection
	CVE                string   // open there
	Need               api.Need // that would end something that is open there
	Stale              bool     // processes run what the disk has no more
	After              string
	Limit              int
}

func (f MachineFilter) query() url.Values {
	stale := ""
	if f.Stale {
		stale = "true"
	}
	return query("stale", stale, "tier", f.Tier, "group", f.Group, "q", f.Query, "protection", string(f.Protection), "cve", f.CVE, "need", string(f.Need), "after", f.After, "limit", number(f.Limit))
}

// Whoami tells whose credential this is.
func (c *Client) Whoami(ctx context.Context) (*api.Whoami, error) {
	return get[api.Whoami](ctx, c, "/v1/whoami", nil)
}

// Machines lists enrolled machines, a page at a time.
func (c *Client) Machines(ctx context.Context, f MachineFilter) (*api.List[api.Machine], error) {
	return get[api.List[api.Machine]](ctx, c, "/v1/machines", f.query())
}

// Machine is one machine, with the CVEs that are fixed live on it.
func (c *Client) Machine(ctx context.Context, id string) (*api.Machine, error) {
	return get[api.Machine](ctx, c, path("v1", "machines", id), nil)
}

// ChangeMachine changes tier, group or hold.
func (c *Client) ChangeMachine(ctx context.Context, id string, change api.MachineChange) (*api.Machine, error) {
	return post[api.Machine](ctx, c, http.MethodPatch, path("v1", "machines", id), change)
}

// Decommission ends a machine's enrolment. What it has loaded stays loaded.
func (c *Client) Decommission(ctx context.Context, id string) error {
	return c.remove(ctx, path("v1", "machines", id))
}

// Tokens lists the enrolment tokens.
func (c *Client) Tokens(ctx context.Context) (*api.List[api.Token], error) {
	return get[api.List[api.Token]](ctx, c, "/v1/tokens", nil)
}

// CreateToken makes an enrolment token; its secret is in the answer only.
func (c *Client) CreateToken(ctx context.Context, t api.NewToken) (*api.TokenMade, error) {
	return post[api.TokenMade](ctx, c, http.MethodPost, "/v1/tokens", t)
}

// RevokeToken stops a token; machines that came with it stay enrolled.
func (c *Client) RevokeToken(ctx context.Context, id string) error {
	return c.remove(ctx, path("v1", "tokens", id))
}

// Tiers lists the tiers in order.
func (c *Client) Tiers(ctx context.Context) (*api.List[api.Tier], error) {
	return get[api.List[api.Tier]](ctx, c, "/v1/tiers", nil)
}

// CreateTier adds a tier.
func (c *Client) CreateTier(ctx context.Context, t api.NewTier) (*api.Tier, error) {
	return post[api.Tier](ctx, c, http.MethodPost, "/v1/tiers", t)
}

// DeleteTier removes an empty tier.
func (c *Client) DeleteTier(ctx context.Context, name string) error {
	return c.remove(ctx, path("v1", "tiers", name))
}

// PatchFilter chooses live patches; empty fields choose all.
type PatchFilter struct {
	Tier, Target string
	CVE          string // that it fixes
	After        string
	Limit        int
}

// LivePatches lists published live patches, the newest first.
func (c *Client) LivePatches(ctx context.Context, f PatchFilter) (*api.List[api.LivePatch], error) {
	return get[api.List[api.LivePatch]](ctx, c, "/v1/livepatches",
		query("tier", f.Tier, "target", f.Target, "cve", f.CVE, "after", f.After, "limit", number(f.Limit)))
}

// LivePatch is one live patch, with the number of machines by state.
func (c *Client) LivePatch(ctx context.Context, id string) (*api.LivePatch, error) {
	return get[api.LivePatch](ctx, c, patchPath(id, ""), nil)
}

// Publication is what Publish sends. Proof and Report may be nil.
type Publication struct {
	Artifact, Proof, Report []byte
	Tier                    string // "" is the first
	// Policies are those whose machines it is for; none: every policy that
	// excludes nothing of it.
	Policies []string
}

// Publish hands a live patch to the server.
func (c *Client) Publish(ctx context.Context, p Publication) (*api.LivePatch, error) {
	body, kind, err := form(part{"artifact", p.Artifact}, part{"proof", p.Proof}, part{"report", p.Report})
	if err != nil {
		return nil, err
	}
	q := query("tier", p.Tier)
	for _, name := range p.Policies {
		q.Add("policy", name)
	}
	return upload[api.LivePatch](ctx, c, "/v1/livepatches", q, body, kind)
}

// Promote takes a live patch to a tier; "" is the next one.
func (c *Client) Promote(ctx context.Context, id, tier string) (*api.LivePatch, error) {
	return post[api.LivePatch](ctx, c, http.MethodPost, patchPath(id, "/promote"), api.Promote{Tier: tier})
}

// Block stops the delivery of a live patch at once.
func (c *Client) Block(ctx context.Context, id string, b api.Block) (*api.LivePatch, error) {
	return post[api.LivePatch](ctx, c, http.MethodPost, patchPath(id, "/block"), b)
}

// Unblock lets it be delivered again.
func (c *Client) Unblock(ctx context.Context, id string) (*api.LivePatch, error) {
	return post[api.LivePatch](ctx, c, http.MethodPost, patchPath(id, "/unblock"), nil)
}

// AuthoriseRevert lets a tier's machines go to an older live patch.
func (c *Client) AuthoriseRevert(ctx context.Context, r api.AuthoriseRevert) error {
	_, err := post[struct{}](ctx, c, http.MethodPost, "/v1/reverts", r)
	return err
}

func patchPath(id, verb string) string { return "/v1/livepatches/" + url.PathEscape(id) + verb }

// CreateJob queues a build.
func (c *Client) CreateJob(ctx context.Context, j api.NewJob) (*api.Job, error) {
	return post[api.Job](ctx, c, http.MethodPost, "/v1/jobs", j)
}

// Jobs lists builds, the newest first.
func (c *Client) Jobs(ctx context.Context, state api.JobState, after string, limit int) (*api.List[api.Job], error) {
	return get[api.List[api.Job]](ctx, c, "/v1/jobs", query("state", string(state), "after", after, "limit", number(limit)))
}

// Job is one build.
func (c *Client) Job(ctx context.Context, id string) (*api.Job, error) {
	return get[api.Job](ctx, c, jobPath(id, ""), nil)
}

// JobLog is what a build said after a position of its log. While the job runs
// the server waits up to so many seconds for more.
func (c *Client) JobLog(ctx context.Context, id string, after int64, wait int) (*api.List[api.LogChunk], error) {
	return get[api.List[api.LogChunk]](ctx, c, jobPath(id, "/log"),
		query("after", strconv.FormatInt(after, 10), "wait", number(wait)))
}

// CancelJob stops a build.
func (c *Client) CancelJob(ctx context.Context, id string) (*api.Job, error) {
	return post[api.Job](ctx, c, http.MethodPost, jobPath(id, "/cancel"), nil)
}

// JobArtifact is the live patch that a build made.
func (c *Client) JobArtifact(ctx context.Context, id string) ([]byte, error) {
	return c.bytes(ctx, jobPath(id, "/artifact"), nil, api.MaxArtifact)
}

func jobPath(id, verb string) string { return "/v1/jobs/" + url.PathEscape(id) + verb }

// Bundle is a file that carries live patches to machines without a network.
// No ids means all of the tier.
func (c *Client) Bundle(ctx context.Context, tier string, ids, machines []string) ([]byte, error) {
	q := query("tier", tier)
	q["id"], q["machine"] = ids, machines
	return c.bytes(ctx, "/v1/bundle", q, api.MaxArtifact)
}

// Operators lists the credentials of people and programs.
func (c *Client) Operators(ctx context.Context) (*api.List[api.Operator], error) {
	return get[api.List[api.Operator]](ctx, c, "/v1/operators", nil)
}

// CreateOperator makes one; its secret is in the answer only.
func (c *Client) CreateOperator(ctx context.Context, o api.NewOperator) (*api.OperatorMade, error) {
	return post[api.OperatorMade](ctx, c, http.MethodPost, "/v1/operators", o)
}

// RevokeOperator ends one.
func (c *Client) RevokeOperator(ctx context.Context, id string) error {
	return c.remove(ctx, path("v1", "operators", id))
}

// Trust tells how the TUF repository stands.
func (c *Client) Trust(ctx context.Context) (*api.Trust, error) {
	return get[api.Trust](ctx, c, "/v1/trust", nil)
}

// ImportRoot hands a newly signed TUF root to the server.
func (c *Client) ImportRoot(ctx context.Context, root []byte) (*api.Trust, error) {
	return upload[api.Trust](ctx, c, "/v1/trust/root", nil, root, "application/json")
}

// Settings are the fleet's.
func (c *Client) Settings(ctx context.Context) (*api.Settings, error) {
	return get[api.Settings](ctx, c, "/v1/settings", nil)
}

// ChangeSettings changes some.
func (c *Client) ChangeSettings(ctx context.Context, s api.SettingsChange) (*api.Settings, error) {
	return post[api.Settings](ctx, c, http.MethodPatch, "/v1/settings", s)
}

// AuditFilter chooses decisions; empty fields choose all.
type AuditFilter struct {
	Actor, Action, Object, After string // Action: one, such as policy.set, or an area, as rollout.*
	Limit                        int
}

// Audit lists decisions, the newest first.
func (c *Client) Audit(ctx context.Context, f AuditFilter) (*api.List[api.AuditEntry], error) {
	return get[api.List[api.AuditEntry]](ctx, c, "/v1/audit",
		query("actor", f.Actor, "action", f.Action, "object", f.Object, "after", f.After, "limit", number(f.Limit)))
}

// AuditChain goes on with the check of the audit log; it is through when it is
// Done.
func (c *Client) AuditChain(ctx context.Context) (*api.AuditChain, error) {
	return get[api.AuditChain](ctx, c, "/v1/audit/chain", nil)
}
