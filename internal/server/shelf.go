// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// shelf is what a tier has for one kernel, or one package, and policy, as it is
// signed.
type shelf struct {
	index    *trust.Index // nil: nothing
	sequence int64
	ids      []string // of the live patches that a machine may read
	names    digest   // of ids
	gates    []*gate  // of ids, what a rollout lets only some machines have; nil: none
}

// shelves are kept in memory until the change feed says that live patches,
// tiers or the signed metadata changed.
type shelves struct {
	load     func(ctx context.Context, tier, buildID, policy string) (*trust.Index, error)
	packages func(ctx context.Context, tier string) (*trust.Packages, string, error)
	gates    func(ctx context.Context, tier string, ids []string) ([]*gate, error)

	mu         sync.RWMutex
	byTier     map[string]*catalogue
	byKernel   map[[3]string]*shelf
	generation uint64
}

// maxShelves bounds what machines can make the server remember by naming
// kernels that there are none of.
const maxShelves = 10_000

func (s *shelves) get(ctx context.Context, tier, buildID, policy string) (*shelf, error) {
	key := [3]string{tier, buildID, policy}
	s.mu.RLock()
	got, generation := s.byKernel[key], s.generation
	s.mu.RUnlock()
	if got != nil {
		return got, nil
	}
	x, err := s.load(ctx, tier, buildID, policy)
	if err != nil {
		return nil, fmt.Errorf("index of %s for %s: %w", tier, buildID, err)
	}
	got = newShelf(x)
	if got.gates, err = s.gates(ctx, tier, got.ids); err != nil {
		return nil, fmt.Errorf("rollouts of %s: %w", tier, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if generation != s.generation {
		return got, nil // what was read may be older than the change: not for keeping
	}
	if s.byKernel == nil || len(s.byKernel) >= maxShelves {
		s.byKernel = map[[3]string]*shelf{}
	}
	s.byKernel[key] = got
	return got, nil
}

// clear forgets all of it.
func (s *shelves) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byKernel, s.byTier = nil, nil
	s.generation++
}

func newShelf(x *trust.Index) *shelf {
	if x == nil {
		return &shelf{}
	}
	s := &shelf{index: x, sequence: x.Sequence}
	blocked := map[string]bool{}
	for _, b := range x.Blocked {
		blocked[b.ID] = true
	}
	for _, o := range x.Patches {
		if !blocked[o.ID] {
			s.ids = append(s.ids, o.ID)
		}
	}
	s.names = namesDigest(s.ids)
	return s
}

func namesDigest(ids []string) digest { return digestOf([]byte(strings.Join(ids, "\n"))) }

// view is a machine at a moment, for an answer.
type view struct {
	id, tier, group, buildID string
	policy                   string // "" is the default one
	packages                 *packageSet
	recipient                digest
	hold                     bool
	want                     []api.Wish
	interval                 int64
	ending                   []api.Ending
	endings                  digest   // of ending
	ids                      []string // of the live patches that it may have
	names                    digest   // of those of its kernel
	sequence                 int64
	catalogue                string           // of the tier
	sequences                map[string]int64 // of the indexes of packages
	others                   []byte           // what of packages the answer depends on
}

// sees takes what a machine may have off the shelf of its kernel.
func (v *view) sees(s *shelf) {
	v.ids, v.names, _ = s.admitted(v.id)
	v.sequence = s.sequence
}

// seesPackage takes what it may have off the shelf of one of its packages. sees
// comes before it.
func (v *view) seesPackage(id string, s *shelf) {
	if s.index == nil {
		return
	}
	ids, names, _ := s.admitted(v.id)
	v.ids = append(slices.Clip(v.ids), ids...)
	if v.sequences == nil {
		v.sequences = map[string]int64{}
	}
	v.sequences[id] = s.sequence
	v.others = append(append(v.others, id...), names[:]...)
	v.others = strconv.AppendInt(v.others, s.sequence, 10)
}

// etag names the answer to a check-in without its time. Any server makes the
// same one of the same state. sees comes before it.
func (v *view) etag() string {
	b := make([]byte, 0, 256)
	for _, w := range [...]string{v.id, v.tier, v.group, v.buildID, v.policy} {
		b = strconv.AppendQuote(b, w)
	}
	b = append(b, v.recipient[:]...)
	b = append(b, v.names[:]...)
	b = append(b, v.endings[:]...)
	b = strconv.AppendInt(b, v.sequence, 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, v.interval, 10)
	b = strconv.AppendBool(b, v.hold)
	for _, w := range v.want {
		b = append(append(b, ' '), w...)
	}
	b = append(append(append(b, ' '), v.catalogue...), v.others...)
	h := sha256.Sum256(b)
	var text [26]byte
	text[0], text[25] = '"', '"'
	hex.Encode(text[1:25], h[:12])
	return string(text[:])
}
