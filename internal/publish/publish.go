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
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/selection"
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
	updateDir   = "updates/" // what is pushed
)

// keySetting is the prefix of the settings that hold keys of tiers that were
// made after the installation, each sealed to the server's own identity.
const keySetting = "trust.key."

// baseSetting holds the number that all sequence numbers of indexes and lists
// start from: see Advance.
const baseSetting = "trust.sequence-base"

// packagesSetting is the prefix of the settings that hold how many lists of
// packages each tier has had, also one that was removed.
const packagesSetting = "trust.packages-sequence."

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

	turn   chan struct{} // holds who changes the repository; others of this process wait
	looked atomic.Pointer[looked]

	mu       sync.Mutex
	keys     Keys
	pruned   time.Time
	sealed   map[string]*trust.Key // keys from settings, by id
	wrapped  wrapCache
	read     map[string]*selection.Source // what was pushed, by digest
	selected map[string][]Selected        // what policies choose, by selectionKey
	active   map[string]string            // by policy, the exclusions in force that its indexes are made by
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
