// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/store"
)

// fleet is every enrolled machine in memory, as much of it as an unchanged
// check-in needs: about 400 bytes each. The store is the truth; the change
// feed keeps the fleet right.
type fleet struct {
	shards [64]shard
	ids    [64]idShard
	words  words
	sets   packageSets

	// order is all members by id, made again when one has come or gone.
	orderMu sync.Mutex
	order   []*member
	changes atomic.Int64 // of who is there
	ordered int64        // changes that order knows
}

// idShard finds members by id.
type idShard struct {
	// turn is held from before a row is read until memory is as it says: what
	// was read before a change must not come into memory after it.
	turn    sync.Mutex
	mu      sync.RWMutex
	members map[string]*member
}

// shard is a part of the fleet, by the first bytes of the credential's hash.
type shard struct {
	mu      sync.RWMutex
	members map[hashKey]*member
	dirty   []*member // heard of since the last flush
}

// hashKey is the start of the SHA-256 of a credential. The rest is compared
// too, in constant time.
type hashKey [16]byte

// digest is the start of a SHA-256 of something that is only compared with
// what the same machine sent before.
type digest [16]byte

func digestOf(b []byte) digest {
	h := sha256.Sum256(b)
	return digest(h[:16])
}

// member is a machine in memory.
type member struct {
	id         string
	mu         sync.Mutex
	hostname   string // in lower case, for those who search
	credential [sha256.Size]byte
	tier       string
	group      string
	buildID    string
	release    string
	patch      string // id of its live patch
	modules    string // moduleWords
	policy     string // from whose index it is; "" is the default one
	state      api.State
	version    int32
	packages   *packageSet     // nil: it has named none
	counts     []api.Processes // of packages, as it told them last
	stale      *staleCounts
	facts      digest // of the check-in that the store has
	recipient  digest
	traces     traces
	seen       int64
	boot       string // id of the boot that it is in; "": it has not checked in
	booted     int64
	enrolled   int64
	boots      int32 // that nobody announced
	silences   int32
	orderly    bool // the boot was announced
	dirty      bool
	able       bool
	hold       bool // on the server
	held       bool // by the machine itself
	cloned     bool
	gone       bool
}

// words keeps one copy of each string that many machines share.
type words struct {
	mu sync.Mutex
	m  map[string]string
}

func (w *words) intern(s string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if got, ok := w.m[s]; ok {
		return got
	}
	if w.m == nil || len(w.m) > 100_000 { // machines choose some of them
		w.m = map[string]string{}
	}
	w.m[s] = s
	return s
}

func newFleet() *fleet {
	f := &fleet{}
	for i := range f.shards {
		f.shards[i].members = map[hashKey]*member{}
		f.ids[i].members = map[string]*member{}
	}
	return f
}

func (f *fleet) shard(credential []byte) *shard {
	return &f.shards[credential[0]%byte(len(f.shards))]
}

// byCredential finds a machine by the SHA-256 of its credential.
func (f *fleet) byCredential(hash []byte) *member {
	s := f.shard(hash)
	s.mu.RLock()
	m := s.members[hashKey(hash[:16])]
	s.mu.RUnlock()
	if m == nil {
		return nil
	}
	m.mu.Lock()
	ok := !m.gone && subtle.ConstantTimeCompare(m.credential[:], hash) == 1
	m.mu.Unlock()
	if !ok {
		return nil
	}
	return m
}

// idsOf is where an id is. The last characters of a UUID are random.
func (f *fleet) idsOf(id string) *idShard {
	n := uint(0)
	for _, c := range []byte(id[max(0, len(id)-4):]) {
		n = n*31 + uint(c)
	}
	return &f.ids[n%uint(len(f.ids))]
}

func (f *fleet) byID(id string) *member {
	s := f.idsOf(id)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.members[id]
}

// entry is the member with an id, made if it is not there.
func (f *fleet) entry(id string) *member {
	s := f.idsOf(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.members[id]
	if m == nil {
		m = &member{id: id}
		s.members[id] = m
		f.changes.Add(1)
	}
	return m
}

func (f *fleet) forgetID(id string) {
	s := f.idsOf(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.members, id)
	f.changes.Add(1)
}

// byOrder is every member by id. Nobody changes what it returns.
func (f *fleet) byOrder() []*member {
	f.orderMu.Lock()
	defer f.orderMu.Unlock()
	now := f.changes.Load() // before: who comes meanwhile is for the next time
	if f.order != nil && f.ordered == now {
		return f.order
	}
	all := make([]*member, 0, len(f.order)+16)
	for i := range f.ids {
		s := &f.ids[i]
		s.mu.RLock()
		all = slices.AppendSeq(all, maps.Values(s.members))
		s.mu.RUnlock()
	}
	slices.SortFunc(all, func(a, b *member) int { return strings.Compare(a.id, b.id) })
	f.order, f.ordered = all, now
	return all
}

// put takes over what the store says about a machine. Who has read that beside
// others has the turn.
func (f *fleet) put(row store.Machine) *member {
	m := f.entry(row.ID)
	saved := readFacts(row.Facts.JSON)
	m.mu.Lock()
	old := m.credential
	m.hostname = strings.ToLower(row.Hostname)
	m.tier, m.group, m.buildID = f.words.intern(row.Tier), f.words.intern(row.Group), f.words.intern(row.BuildID)
	m.patch, m.state, m.version = f.words.intern(row.Patch), api.State(f.words.intern(row.PatchState)), int32(row.PatchVersion)
	m.able, m.hold, m.cloned, m.gone = row.Able, row.Hold, row.Cloned, row.Gone != 0
	m.release, m.modules = f.words.intern(row.Release), f.words.intern(moduleWords(saved.Replacements))
	m.held, m.policy = saved.Hold, f.words.intern(saved.Patch.Policy)
	if facts := saved.digest(); m.facts != facts || m.packages == nil { // else what it told since is newer
		m.facts, m.packages, m.counts = facts, f.sets.intern(&f.words, saved), countsOf(saved.Packages, nil)
		m.stale = staleCountsOf(saved)
	}
	m.recipient = digestOf([]byte(row.Recipient))
	m.seen = max(m.seen, row.Seen)
	m.boot, m.booted, m.orderly, m.enrolled = saved.BootID, row.Booted, saved.Orderly, row.Enrolled
	m.boots, m.silences = int32(min(row.Boots, 1<<30)), int32(min(row.Silences, 1<<30))
	if saved.BootID != "" {
		m.traces.elsewhere(saved.BootID)
	}
	if len(row.Credential) == sha256.Size {
		copy(m.credential[:], row.Credential)
	}
	moved, gone := old != m.credential, m.gone
	if moved {
		m.traces = traces{} // enrolled anew
	}
	credential := m.credential
	m.mu.Unlock()

	if moved && old != ([sha256.Size]byte{}) {
		f.forget(old[:], m)
	}
	if gone {
		f.forget(credential[:], m)
		f.forgetID(row.ID)
		return m
	}
	s := f.shard(credential[:])
	s.mu.Lock()
	s.members[hashKey(credential[:16])] = m
	s.mu.Unlock()
	return m
}

func (f *fleet) forget(credential []byte, m *member) {
	s := f.shard(credential)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.members[hashKey(credential[:16])] == m {
		delete(s.members, hashKey(credential[:16]))
	}
}

// remove forgets a machine that the store does not have any more.
func (f *fleet) remove(id string) {
	ids := f.idsOf(id)
	ids.turn.Lock()
	defer ids.turn.Unlock()
	f.drop(id)
}

// drop is remove for who has the turn.
func (f *fleet) drop(id string) {
	m := f.byID(id)
	if m == nil {
		return
	}
	m.mu.Lock()
	m.gone = true
	credential := m.credential
	m.mu.Unlock()
	f.forget(credential[:], m)
	f.forgetID(id)
}

// load fills the fleet at the start.
func (f *fleet) load(ctx context.Context, st *store.Store) error {
	if err := st.AllMachines(ctx, func(row store.Machine) error {
		f.put(row)
		return nil
	}); err != nil {
		return fmt.Errorf("load machines: %w", err)
	}
	return nil
}

// refresh reads one machine again.
func (f *fleet) refresh(ctx context.Context, st *store.Store, id string) (*member, error) {
	ids := f.idsOf(id)
	ids.turn.Lock()
	defer ids.turn.Unlock()
	row, err := st.Machine(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		f.drop(id)
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("machine %s: %w", id, err)
	}
	return f.put(row), nil
}

// touch notes that a machine was heard of; flush writes it down.
func (f *fleet) touch(m *member, credential []byte, now time.Time) {
	m.mu.Lock()
	m.seen = max(m.seen, now.UnixMilli())
	first := !m.dirty
	m.dirty = true
	m.mu.Unlock()
	if first {
		s := f.shard(credential)
		s.mu.Lock()
		s.dirty = append(s.dirty, m)
		s.mu.Unlock()
	}
}

// flush writes down when machines were heard of, in batches. What could not
// be written is kept for the next time.
// A machine that was silent before, while this service listened, is counted as
// such.
func (f *fleet) flush(ctx context.Context, st *store.Store, silence, listening int64) (int, error) {
	const batch = 5_000
	total := 0
	for i := range f.shards {
		s := &f.shards[i]
		s.mu.Lock()
		dirty := s.dirty
		s.dirty = nil
		s.mu.Unlock()
		for len(dirty) > 0 {
			part := dirty[:min(batch, len(dirty))]
			touches := make([]store.Touch, 0, len(part))
			for _, m := range part {
				m.mu.Lock()
				m.dirty = false
				touches = append(touches, store.Touch{ID: m.id, Seen: m.seen, Silence: silence, Listening: listening})
				m.mu.Unlock()
			}
			if err := st.TouchMachines(ctx, touches); err != nil {
				for _, m := range dirty {
					m.mu.Lock()
					m.dirty = true
					m.mu.Unlock()
				}
				s.mu.Lock()
				s.dirty = append(s.dirty, dirty...)
				s.mu.Unlock()
				return total, fmt.Errorf("write down who was seen: %w", err)
			}
			total += len(part)
			dirty = dirty[len(part):]
		}
	}
	return total, nil
}

// crowd is what machines have in common that policies and live patches are for.
type crowd struct {
	group, tier, release string
	modules              string // moduleWords
}

// crowd is the one that a machine is in; false when it is enrolled no more.
func (m *member) crowd() (crowd, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return crowd{m.group, m.tier, m.release, m.modules}, !m.gone
}

// each visits every machine, in the order of their ids: most lie in memory like
// that, and a walk from one to the next is twice as fast as one here and there.
func (f *fleet) each(visit func(*member)) {
	for _, m := range f.byOrder() {
		visit(m)
	}
}
