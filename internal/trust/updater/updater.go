// SPDX-License-Identifier: Apache-2.0

// Package updater follows a TUF repository on a machine: it fetches metadata
// and files of the machine's tier, lets go-tuf verify them against the root
// that was pinned at enrolment, and keeps what it has verified.
//
// The verification is go-tuf's (trustedmetadata). The order of the steps is
// the specification's detailed client workflow (5.3 to 5.7) and is written out
// here, because a machine needs more than go-tuf's own updater gives: a
// context, a clock that is passed in, a disk on which everything changes at
// once and survives power loss, and damaged files that do not stop it for
// ever. Nothing that was fetched is kept unless all of it holds; only a new
// root is kept at once, as the specification wants.
//
// Every way in which a repository can be attacked ends in a problem with a
// code of its own: see the table in docs/threat-model.md.
package updater

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/renameio/v2"
	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/trust"
	"github.com/tsugi-project/tsugi/internal/trust/repo"
)

// Bounds of what is fetched, where no signed length says it.
const (
	maxRoot       = 512 << 10
	maxTimestamp  = 16 << 10
	maxSnapshot   = 2 << 20
	maxTargets    = 8 << 20
	maxTarget     = 600 << 20 // a signed length above this is not believed
	maxRootChange = 256       // roots followed in one refresh
)

// ErrNotFound is what a Source returns for a file that it does not have.
var ErrNotFound = fs.ErrNotExist

// Source is where a repository is read from. Paths are relative and have
// slashes: metadata/timestamp.json, targets/edge/DIGEST.NAME. An answer longer
// than max must not be read to its end: it is a problem TS7114.
type Source interface {
	Fetch(ctx context.Context, path string, max int64) ([]byte, error)
}

// Options of an updater.
type Options struct {
	Dir string // of what is kept: a directory of mode 0700 of its own
	// Source, or else BaseURL (https://server/tuf) with HTTP, says where the
	// repository is.
	Source  Source
	BaseURL string
	HTTP    *http.Client
	// MinRate is the fewest bytes a second, over RateWindow, that a server may
	// send at; 0 is 1 kB/s over 20 s.
	MinRate    int64
	RateWindow time.Duration
	Now        func() time.Time // nil: time.Now
	// ServerTime, if known, is what the server believes the time to be. It
	// decides nothing: it only tells a wrong clock from expired metadata.
	ServerTime func() (time.Time, bool)
}

// Updater is safe for concurrent use; its work is done one call at a time.
type Updater struct {
	dir    string
	source Source
	now    func() time.Time
	server func() (time.Time, bool)

	mu      sync.Mutex
	trusted *trustedmetadata.TrustedMetadata // of the last Refresh that held; nil: none in this process
	kept    *kept                            // what the disk has
	roles   map[string][]byte                // the bytes of trusted.Targets, by role
}

// New opens the directory, which need not be there yet.
func New(o Options) (*Updater, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	u := &Updater{dir: o.Dir, source: o.Source, now: o.Now, server: o.ServerTime}
	if u.source == nil {
		if o.BaseURL == "" {
			return nil, errors.New("updater: a source or a URL is needed")
		}
		h := newHTTPSource(o)
		u.source = h
		if u.server == nil {
			u.server = h.serverTime
		}
	}
	if u.server == nil {
		u.server = func() (time.Time, bool) { return time.Time{}, false }
	}
	return u, nil
}

// Bootstrap pins the first root. A machine that has one keeps it: pinning the
// same chain again is harmless, another one is refused.
func (u *Updater) Bootstrap(root []byte) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := repo.VerifyRoot(root); err != nil {
		return err
	}
	if have, err := os.ReadFile(u.path(pinnedFile)); err == nil {
		if string(have) == string(root) {
			return nil
		}
		return code.New("TS7123", u.dir, "")
	} else if !errors.Is(err, os.ErrNotExist) {
		return disk(u.dir, err)
	}
	if err := os.MkdirAll(u.dir, 0o700); err != nil {
		return disk(u.dir, err)
	}
	// The present root first: a machine that has a pinned one has both.
	for _, name := range []string{rootFile, pinnedFile} {
		if err := renameio.WriteFile(u.path(name), root, 0o600); err != nil {
			return disk(u.path(name), err)
		}
	}
	return nil
}

// Pinned reports whether there is a root to begin with.
func (u *Updater) Pinned() bool {
	_, err := os.Stat(u.path(pinnedFile))
	return err == nil
}

func (u *Updater) path(name string) string { return filepath.Join(u.dir, name) }

// Refresh brings the metadata of the repository up to now. On an error what
// was trusted before stays, on the disk and here.
func (u *Updater) Refresh(ctx context.Context) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.refresh(ctx)
}

func (u *Updater) refresh(ctx context.Context) (err error) {
	defer survive(&err)
	root, err := u.loadRoot()
	if err != nil {
		return err
	}
	k, _ := u.load() // what can't be read is fetched anew
	t, err := trustedmetadata.New(root)
	if err != nil {
		return code.New("TS7122", u.path(rootFile), "").With(err)
	}
	t.RefTime = u.now().UTC()
	if err := u.followRoots(ctx, t); err != nil {
		return err
	}
	next := &kept{cached: k.cached, Floors: k.Floors, Refreshed: t.RefTime}
	if next.newest.timestamp, err = u.fetchTimestamp(ctx, t, k.newest.timestamp); err != nil {
		return err
	}
	if next.newest.snapshot, err = u.fetchSnapshot(ctx, t, k.newest.snapshot); err != nil {
		return err
	}
	if next.newest.targets, err = u.fetchTargets(ctx, t, metadata.TARGETS, metadata.ROOT, k.newest.targets); err != nil {
		return err
	}
	if err := u.checkClock(k); err != nil {
		return err
	}
	if err := u.save(k, next); err != nil {
		return err
	}
	u.trusted, u.kept, u.roles = t, next, map[string][]byte{}
	return nil
}

// followRoots takes each next root that is there, and keeps it at once.
func (u *Updater) followRoots(ctx context.Context, t *trustedmetadata.TrustedMetadata) error {
	for range maxRootChange {
		v := t.Root.Signed.Version + 1
		name := fmt.Sprintf("metadata/%d.root.json", v)
		b, err := u.source.Fetch(ctx, name, maxRoot)
		if errors.Is(err, ErrNotFound) {
			break
		}
		if err != nil {
			return u.fetchProblem(name, err)
		}
		if _, err := t.UpdateRoot(b); err != nil {
			return u.problem("root.json", t, err)
		}
		if err := renameio.WriteFile(u.path(rootFile), b, 0o600); err != nil {
			return disk(u.path(rootFile), err)
		}
	}
	if t.Root.Signed.IsExpired(t.RefTime) {
		return u.expired("root.json", t.Root.Signed.Expires)
	}
	return nil
}

func (u *Updater) fetchTimestamp(ctx context.Context, t *trustedmetadata.TrustedMetadata, have []byte) ([]byte, error) {
	if have != nil {
		// One that the present root's keys did not sign counts for nothing:
		// that is how a machine recovers when a stolen key ran ahead (5.3.11).
		// An expired one still says below which version nothing may go.
		_, _ = t.UpdateTimestamp(have)
	}
	had := t.Timestamp != nil
	const name = "metadata/timestamp.json"
	b, err := u.source.Fetch(ctx, name, maxTimestamp)
	if err != nil {
		return nil, u.fetchProblem(name, err)
	}
	m, err := t.UpdateTimestamp(b)
	if errors.Is(err, &metadata.ErrEqualVersionNumber{}) && had {
		b, err = have, nil
		m = t.Timestamp
	}
	if err != nil {
		return nil, u.problem("timestamp.json", t, err)
	}
	if m.Signed.Meta["snapshot.json"] == nil {
		return nil, malformed("timestamp.json", "it names no snapshot")
	}
	if m.Signed.IsExpired(t.RefTime) {
		return nil, u.expired("timestamp.json", m.Signed.Expires)
	}
	return b, nil
}

func (u *Updater) fetchSnapshot(ctx context.Context, t *trustedmetadata.TrustedMetadata, have []byte) ([]byte, error) {
	if have != nil {
		if _, err := t.UpdateSnapshot(have, true); err == nil {
			return have, nil
		}
	}
	info := t.Timestamp.Signed.Meta["snapshot.json"]
	name := fmt.Sprintf("metadata/%d.snapshot.json", info.Version)
	b, err := u.source.Fetch(ctx, name, bound(info.Length, maxSnapshot))
	if err != nil {
		return nil, u.fetchProblem(name, err)
	}
	m, err := t.UpdateSnapshot(b, false)
	if err != nil {
		return nil, u.problem("snapshot.json", t, err)
	}
	for role, info := range m.Signed.Meta {
		if info == nil {
			return nil, malformed("snapshot.json", "an entry for "+role+" that is empty")
		}
	}
	return b, nil
}

func (u *Updater) fetchTargets(ctx context.Context, t *trustedmetadata.TrustedMetadata, role, parent string, have []byte) ([]byte, error) {
	if have != nil {
		if _, err := t.UpdateDelegatedTargets(have, role, parent); err == nil {
			return have, nil
		}
	}
	info := t.Snapshot.Signed.Meta[role+".json"]
	if info == nil {
		return nil, code.New("TS7115", "snapshot.json", "it does not name "+role)
	}
	name := fmt.Sprintf("metadata/%d.%s.json", info.Version, role)
	b, err := u.source.Fetch(ctx, name, bound(info.Length, maxTargets))
	if err != nil {
		return nil, u.fetchProblem(name, err)
	}
	if _, err := t.UpdateDelegatedTargets(b, role, parent); err != nil {
		return nil, u.problem(role+".json", t, err)
	}
	return b, nil
}

func bound(length, most int64) int64 {
	if length > 0 {
		return min(length, most)
	}
	return most
}

// Status is what a machine knows about its trust.
type Status struct {
	RootVersion int64
	RootExpires time.Time
	Refreshed   time.Time // of the last refresh that held
	Expires     time.Time // of the timestamp of then
}

// Status tells from the disk, verified, how things stand.
func (u *Updater) Status() (_ Status, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	defer survive(&err)
	root, err := u.loadRoot()
	if err != nil {
		return Status{}, err
	}
	r, err := repo.ReadRoot(root)
	if err != nil {
		return Status{}, err
	}
	s := Status{RootVersion: r.Version, RootExpires: r.Expires}
	k, err := u.load()
	if err != nil {
		return s, err
	}
	s.Refreshed = k.Refreshed
	if k.newest.timestamp != nil {
		if m, err := metadata.Timestamp().FromBytes(k.newest.timestamp); err == nil {
			s.Expires = m.Signed.Expires
		}
	}
	return s, nil
}

// tierKeys are the keys that sign for a tier, as the targets role says.
func tierKeys(t *trustedmetadata.TrustedMetadata, role string) ([]trust.PublicKey, error) {
	top := t.Targets[metadata.TARGETS]
	if top == nil || top.Signed.Delegations == nil {
		return nil, malformed("targets.json", "it delegates nothing")
	}
	for _, d := range top.Signed.Delegations.Roles {
		if d.Name != role {
			continue
		}
		var out []trust.PublicKey
		for _, id := range d.KeyIDs {
			k := top.Signed.Delegations.Keys[id]
			if k == nil {
				return nil, malformed("targets.json", "a key of "+role+" is missing")
			}
			public, err := k.ToPublicKey()
			if err != nil {
				return nil, malformed("targets.json", err.Error())
			}
			if p, ok := publicKey(public); ok {
				out = append(out, p)
			}
		}
		return out, nil
	}
	return nil, code.New("TS7117", role, "there is no such tier")
}
