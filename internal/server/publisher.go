// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"io"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/publish"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// Publisher is what the server needs of *publish.Service, which writes the
// audit log itself.
type Publisher interface {
	// Index is what is signed for a tier, a kernel and a policy now; nil: nothing.
	Index(ctx context.Context, tier, buildID, policy string) (*trust.Index, error)
	// Packages is what is signed of a tier's packages now, and its SHA-256 in
	// hex; nil: nothing.
	Packages(ctx context.Context, tier string) (*trust.Packages, string, error)
	// Keys are the content keys of live patches, each wrapped for a recipient.
	Keys(ctx context.Context, recipient string, ids []string) (map[string]string, error)

	Publish(ctx context.Context, r publish.PublishRequest) (store.LivePatch, error)
	Promote(ctx context.Context, id, tier, actor string, checks ...publish.Check) (store.LivePatch, error)
	Block(ctx context.Context, id, reason string, recall bool, actor string) (store.LivePatch, error)
	Unblock(ctx context.Context, id, actor string) (store.LivePatch, error)
	AuthoriseRevert(ctx context.Context, target, tier, policy string, to int, reason, actor string) error
	AddTier(ctx context.Context, name string, rank int, actor string, checks ...publish.TiersCheck) error
	DeleteTier(ctx context.Context, name, actor string, checks ...publish.TiersCheck) error
	RotateTierKey(ctx context.Context, name, actor string, checks ...publish.Check) error

	RootDigest(ctx context.Context) (string, error)
	FirstRoot(ctx context.Context) ([]byte, error)
	Status(ctx context.Context) ([]publish.RoleStatus, error)
	ImportRoot(ctx context.Context, root []byte, actor string, checks ...publish.Check) error
	Bundle(ctx context.Context, ids []string, tier string, recipients []publish.Recipient, actor string) ([]byte, error)

	// Choose brings up to date what policies choose, and says what of it has to
	// be built. The error is of what could not be chosen.
	Choose(ctx context.Context) ([]publish.Wanted, error)
	// Select is what a policy would choose at a time.
	Select(ctx context.Context, p selection.Policy, now time.Time) ([]publish.Selected, error)
	ChangePolicy(ctx context.Context, name, actor string, f func(old selection.Policy, there bool) (selection.Policy, string, error)) error
	DeletePolicy(ctx context.Context, name, actor string) error
	Rebuild(ctx context.Context, policy, target, actor string) ([]string, error)
	SetGroups(ctx context.Context, policy string, groups []string, actor string) error
	PushUpdate(ctx context.Context, name string, extra bool, b []byte, actor string) (store.Update, error)
	DeleteUpdate(ctx context.Context, target, name, actor string) error
	// Refresh signs anew what is due.
	Refresh(ctx context.Context) error
}

// Jobs is what the server needs of *jobs.Queue.
type Jobs interface {
	Submit(ctx context.Context, n api.NewJob, actor string) (api.Job, error)
	// SubmitUpdate queues the build of a selection that nobody builds yet.
	SubmitUpdate(ctx context.Context, target, title string, u api.JobUpdate, pushed int64) (bool, error)
	// DropUnwanted cancels what waits and nobody wants any more.
	DropUnwanted(ctx context.Context) error
	Series(ctx context.Context, digest string) ([]byte, error)
	Job(ctx context.Context, id string) (api.Job, error)
	Jobs(ctx context.Context, f store.JobFilter) ([]api.Job, error)
	Cancel(ctx context.Context, id string) error
	Log(ctx context.Context, id string, after int64, wait time.Duration) ([]api.LogChunk, error)
	OpenArtifact(ctx context.Context, id string) (io.ReadSeekCloser, int64, error)

	Lease(ctx context.Context, worker string, wait time.Duration) (*api.Lease, error)
	Heartbeat(ctx context.Context, job string, h api.Heartbeat) (api.HeartbeatAnswer, error)
	AppendLog(ctx context.Context, job string, l api.JobLog) error
	PutFile(ctx context.Context, job string, f api.JobFile, r io.Reader, size int64) error
	Finish(ctx context.Context, job string, r api.JobResult) error
	Release(ctx context.Context, job, worker string) error
	Previous(ctx context.Context, job string) ([]byte, error)
	CacheGet(ctx context.Context, key string) ([]byte, error)
	CachePut(ctx context.Context, key string, b []byte) error
	// Wake tells those who wait that another server changed a job.
	Wake()
}
