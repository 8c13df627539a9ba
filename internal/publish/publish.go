// SPDX-License-Identifier: Apache-2.0

// Package publish is how live patches come to machines: it takes artifacts in,
// encrypts them, and signs what each tier holds. What it decides is in the
// store, what machines fetch is in the blobs below tuf/, and the two agree
// through the TUF repository that it writes.
//
// Several servers may do this at once. Everything that changes the repository
// is one transaction of the store, which fails when another server signed in
// between, and is then done again. Blobs that metadata names are written
// before the transaction ends and metadata after it, timestamp.json last: a
// machine never sees a name whose file is not there. What a killed server did
// not write any more, the next Refresh writes.
package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/store/blob"
	"github.com/tsugi-project/tsugi/internal/trust"
	"github.com/tsugi-project/tsugi/internal/trust/repo"
)

// Where things are among the blobs.
const (
	metadataDir = "tuf/metadata/"
	targetsDir  = "tuf/targets/"
	artifactDir = "artifacts/"
)

// keySetting is the prefix of the settings that hold keys of tiers that were
// made after the installation, each sealed to the server's own identity.
const keySetting = "trust.key."

// baseSetting holds the number that all sequence numbers of indexes start
// from: see Advance.
const baseSetting = "trust.sequence-base"

// Options of a service.
type Options struct {
	Store *store.Store
	Blobs blob.Store
	Keys  Keys
	// Reload, if not nil, reads the keys again when one is missing that must
	// sign: after a ceremony a new key lies beside the old ones.
	Reload    func() (Keys, error)
	Lifetimes repo.Lifetimes // zero: DefaultLifetimes
	Log       *slog.Logger
	Now       func() time.Time // nil: time.Now
}

// Service is safe for concurrent use.
type Service struct {
	store *store.Store
	blobs blob.Store
	life  repo.Lifetimes
	id    trust.Identity
	load  func() (Keys, error)
	log   *slog.Logger
	now   func() time.Time

	turn chan struct{} // holds who changes the repository; others of this process wait

	mu      sync.Mutex
	keys    Keys
	pruned  time.Time
	sealed  map[string]*trust.Key // keys from settings, by id
	wrapped wrapCache
}

// New makes a service. The store and the blobs stay the caller's.
func New(o Options) (*Service, error) {
	if o.Store == nil || o.Blobs == nil || o.Keys.Identity == (trust.Identity{}) {
		return nil, errors.New("publish: a store, blobs and keys are needed")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Lifetimes == (repo.Lifetimes{}) {
		o.Lifetimes = repo.DefaultLifetimes()
	}
	return &Service{
		store: o.Store, blobs: o.Blobs, keys: o.Keys, id: o.Keys.Identity, load: o.Reload, life: o.Lifetimes, log: o.Log, now: o.Now,
		turn: make(chan struct{}, 1), sealed: map[string]*trust.Key{},
	}, nil
}

// Init makes the first metadata, of this root and for the tiers that the store
// has. A repository that is there already stays as it is.
func (s *Service) Init(ctx context.Context, root []byte) error {
	generation, err := s.store.TUFGeneration(ctx)
	if err != nil {
		return err
	}
	if generation == 0 {
		if err := s.first(ctx, root); err != nil && !errors.Is(err, store.ErrConflict) {
			return err // a conflict: another server was first
		}
	}
	return s.Sync(ctx)
}

func (s *Service) first(ctx context.Context, root []byte) error {
	said, err := repo.ReadRoot(root)
	if err != nil {
		return err
	}
	if said.Version != 1 {
		return code.New("TS7131", "root.json", fmt.Sprintf("version %d, the first is 1", said.Version))
	}
	s.mu.Lock()
	keys := s.keys
	s.mu.Unlock()
	return s.store.Update(ctx, func(tx *store.Tx) error {
		tiers, err := tx.Tiers(ctx)
		if err != nil {
			return err
		}
		var have []repo.Tier
		ring := slices.Clone(keys.Ring)
		for _, t := range tiers {
			k := keys.Tiers[t.Name]
			if k == nil {
				if k, err = s.newTierKey(ctx, tx, t.Name); err != nil {
					return err
				}
				ring = append(ring, k)
			}
			have = append(have, repo.Tier{Name: t.Name, Keys: []trust.PublicKey{k.Public()}})
		}
		r, err := repo.New(root, ring, s.life, have)
		if err != nil {
			return err
		}
		if _, err := r.Sign(s.now()); err != nil {
			return err
		}
		_, err = tx.SaveTUF(ctx, rows(r, nil), 0)
		return err
	})
}

// newTierKey makes a key for a tier and stores it sealed, for all servers.
func (s *Service) newTierKey(ctx context.Context, tx *store.Tx, tier string) (*trust.Key, error) {
	k, err := trust.GenerateKey()
	if err != nil {
		return nil, err
	}
	file, err := k.PEM(nil)
	if err != nil {
		return nil, err
	}
	sealed, err := trust.SealBytes(file, s.id.Recipient())
	if err != nil {
		return nil, err
	}
	s.log.Info("new key of a tier", "tier", tier, "key", k.ID())
	return k, tx.SetSetting(ctx, keySetting+k.ID(), encode(sealed))
}

// ring is all keys at hand: those of files and those of settings.
func (s *Service) ring(ctx context.Context, r store.Reader) (repo.Keyring, error) {
	settings, err := r.Settings(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ring := slices.Clone(s.keys.Ring)
	for name, value := range settings {
		id, ok := strings.CutPrefix(name, keySetting)
		if !ok || value == "" {
			continue
		}
		k := s.sealed[id]
		if k == nil {
			b, err := decode(value)
			if err == nil {
				b, err = trust.OpenBytes(b, s.id)
			}
			if err == nil {
				k, err = trust.ParseKey(b, nil)
			}
			if err != nil {
				return nil, fmt.Errorf("setting %s: %w", name, err)
			}
			s.sealed[id] = k
		}
		ring = append(ring, k)
	}
	return ring, nil
}

// job is one change of the repository.
type job struct {
	s    *Service
	tx   *store.Tx
	repo *repo.Repo
}

// maxTries bounds how often a change is done again because another server
// signed in between.
const maxTries = 10

// change opens the repository, lets f change it and the store, signs what
// follows and serves it.
func (s *Service) change(ctx context.Context, f func(*job) error) error {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	var err error
	reloaded := false
	for try := range maxTries {
		err = s.store.Update(ctx, func(tx *store.Tx) error { return s.changeOnce(ctx, tx, f) })
		if code.Of(err) == "TS7130" && !reloaded {
			if reloaded = s.reload(); reloaded {
				continue
			}
		}
		if !errors.Is(err, errSigned) {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(try+1) * 20 * time.Millisecond):
		}
	}
	if errors.Is(err, errSigned) {
		return code.New("TS7708", "", fmt.Sprintf("%d times", maxTries))
	}
	if err != nil {
		return err
	}
	return s.Sync(ctx)
}

// reload reads the keys anew, and says whether there are any to go on with.
func (s *Service) reload() bool {
	if s.load == nil {
		return false
	}
	keys, err := s.load()
	if err != nil {
		s.log.Error("keys not read again", "err", err)
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = keys
	return true
}

// errSigned is a change that another server's came before.
var errSigned = errors.New("another server signed meanwhile")

func (s *Service) changeOnce(ctx context.Context, tx *store.Tx, f func(*job) error) error {
	files, generation, err := tx.TUFFiles(ctx)
	if err != nil {
		return err
	}
	if generation == 0 {
		return code.New("TS7709", "", "")
	}
	ring, err := s.ring(ctx, tx.Reader)
	if err != nil {
		return err
	}
	r, err := repo.Open(byRole(files), ring, s.life)
	if err != nil {
		return err
	}
	before := r.Versions()
	if err := f(&job{s: s, tx: tx, repo: r}); err != nil {
		return err
	}
	// f may have brought keys.
	if ring, err = s.ring(ctx, tx.Reader); err != nil {
		return err
	}
	r.UseKeys(ring)
	if _, err := r.Sign(s.now()); err != nil {
		return err
	}
	changed := rows(r, before)
	if len(changed) == 0 {
		return nil
	}
	if _, err := tx.SaveTUF(ctx, changed, generation); errors.Is(err, store.ErrConflict) {
		return errSigned
	} else if err != nil {
		return err
	}
	return nil
}

// byRole picks the newest file of each role.
func byRole(files []store.TUFFile) map[string][]byte {
	newest, out := map[string]int64{}, map[string][]byte{}
	for _, f := range files {
		if f.Version >= newest[f.Role] {
			newest[f.Role], out[f.Role] = f.Version, f.Body
		}
	}
	return out
}

// rows are the files of the repository that differ from the versions before.
func rows(r *repo.Repo, before map[string]int64) []store.TUFFile {
	var out []store.TUFFile
	now, bodies := r.Versions(), r.ByRole()
	for role, v := range now {
		if before[role] != v {
			out = append(out, store.TUFFile{Role: role, Version: v, Name: repo.FileName(role, v), Body: bodies[role]})
		}
	}
	slices.SortFunc(out, func(a, b store.TUFFile) int { return strings.Compare(a.Role, b.Role) })
	return out
}

// Sync writes the metadata of the store to where machines fetch it. It goes on
// until no other server has signed meanwhile: whoever writes last writes the
// newest.
func (s *Service) Sync(ctx context.Context) error {
	for {
		files, generation, err := s.store.TUFFiles(ctx)
		if err != nil {
			return err
		}
		// In the order in which a machine must not miss them.
		slices.SortStableFunc(files, func(a, b store.TUFFile) int { return served(a.Role) - served(b.Role) })
		for _, f := range files {
			if err := s.serve(ctx, f); err != nil {
				return err
			}
		}
		now, err := s.store.TUFGeneration(ctx)
		if err != nil || now == generation {
			return err
		}
	}
}

func served(role string) int {
	switch role {
	case repo.RoleTimestamp:
		return 3
	case repo.RoleSnapshot:
		return 2
	case repo.RoleRoot:
		return 1 // after what its keys did not sign is no longer needed, before what they sign
	}
	return 0
}

func (s *Service) serve(ctx context.Context, f store.TUFFile) error {
	name := metadataDir + f.Name
	have, err := s.get(ctx, name, int64(len(f.Body)))
	if err == nil && bytes.Equal(have, f.Body) {
		return nil
	}
	if err != nil && !errors.Is(err, blob.ErrNotFound) && !errors.Is(err, errLong) {
		return err
	}
	return s.put(ctx, name, f.Body)
}

var errLong = errors.New("longer than it should be")

func (s *Service) put(ctx context.Context, name string, b []byte) error {
	if err := s.blobs.Put(ctx, name, bytes.NewReader(b), int64(len(b))); err != nil {
		return fmt.Errorf("blob %s: %w", name, err)
	}
	return nil
}

func (s *Service) get(ctx context.Context, name string, limit int64) ([]byte, error) {
	f, _, err := s.blobs.Open(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", name, err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", name, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("blob %s: %w", name, errLong)
	}
	return b, nil
}

// pruneEvery is how often a server looks for old files.
const pruneEvery = 24 * time.Hour

// Refresh signs again what is due, serves what is not served yet, and once a
// day removes what is not needed any more. A server calls it every few minutes.
func (s *Service) Refresh(ctx context.Context) error {
	if err := s.change(ctx, func(*job) error { return nil }); err != nil {
		return err
	}
	s.mu.Lock()
	due := s.now().Sub(s.pruned) >= pruneEvery
	if due {
		s.pruned = s.now()
	}
	s.mu.Unlock()
	if !due {
		return nil
	}
	return s.Prune(ctx)
}

// RootDigest is the SHA-256 of the first root, which machines pin.
func (s *Service) RootDigest(ctx context.Context) (string, error) {
	b, err := s.FirstRoot(ctx)
	return digest(b), err
}

// FirstRoot is the root that machines begin with.
func (s *Service) FirstRoot(ctx context.Context) ([]byte, error) {
	files, _, err := s.store.TUFFiles(ctx)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if f.Role == repo.RoleRoot && f.Version == 1 {
			return f.Body, nil
		}
	}
	return nil, code.New("TS7709", "", "")
}

// RoleStatus is how a role of the repository stands.
type RoleStatus struct {
	Name      string
	Version   int64
	Expires   time.Time
	Threshold int
	Keys      []string
}

// Status tells how the repository stands, root first.
func (s *Service) Status(ctx context.Context) ([]RoleStatus, error) {
	files, _, err := s.store.TUFFiles(ctx)
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, code.New("TS7709", "", "")
	}
	r, err := repo.Open(byRole(files), nil, s.life)
	if err != nil {
		return nil, err
	}
	root, err := repo.ReadRoot(r.Root())
	if err != nil {
		return nil, err
	}
	versions, ends := r.Versions(), r.Expiries()
	var out []RoleStatus
	for _, role := range []string{repo.RoleRoot, repo.RoleTargets, repo.RoleSnapshot, repo.RoleTimestamp} {
		st := RoleStatus{Name: role, Version: versions[role], Expires: ends[role], Threshold: root.Roles[role].Threshold}
		for _, k := range root.Roles[role].Keys {
			st.Keys = append(st.Keys, k.ID())
		}
		out = append(out, st)
	}
	for _, tier := range r.Tiers() {
		role := trust.TierRole(tier)
		out = append(out, RoleStatus{Name: role, Version: versions[role], Expires: ends[role], Threshold: 1, Keys: r.TierKeys(tier)})
	}
	return out, nil
}

// ImportRoot takes the next root, signed by people. Keys that it names for the
// online roles must be at hand.
func (s *Service) ImportRoot(ctx context.Context, root []byte, actor string) error {
	return s.change(ctx, func(j *job) error {
		if string(j.repo.Root()) == string(root) {
			return nil
		}
		if err := j.repo.ImportRoot(root, s.now()); err != nil {
			return err
		}
		said, err := repo.ReadRoot(root)
		if err != nil {
			return err
		}
		return j.audit(ctx, actor, "trust.root", "version "+strconv.FormatInt(said.Version, 10), digest(root))
	})
}

// Advance lifts all version numbers above any that machines can have seen. A
// server that was restored from a backup calls it once.
func (s *Service) Advance(ctx context.Context, actor string) error {
	return s.change(ctx, func(j *job) error {
		j.repo.Advance(s.now())
		if err := j.tx.SetSetting(ctx, baseSetting, strconv.FormatInt(s.now().Unix(), 10)); err != nil {
			return err
		}
		indexes, err := j.tx.Indexes(ctx)
		if err != nil {
			return err
		}
		for _, x := range indexes {
			if err := j.index(ctx, x.Tier, x.BuildID); err != nil {
				return err
			}
		}
		return j.audit(ctx, actor, "trust.advance", "", "")
	})
}

func (j *job) audit(ctx context.Context, actor, action, object, detail string) error {
	return j.tx.Audit(ctx, store.AuditEntry{Actor: actor, Action: action, Object: object, Detail: detail})
}
