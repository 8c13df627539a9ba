// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"context"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"sync"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// packageState is how far a machine has come with the live patches of a package.
type packageState struct {
	id, target string
	patch      string
	policy     string // from whose index it is; "" is the default one
	state      api.State
	version    int32
	partly     bool // some processes run the old code
	stale      bool // some run files that are not on the disk any more
}

// packageSet are the packages of a machine, by target and id. Many machines
// share one; nobody changes one.
type packageSet struct {
	all    []packageState
	unkept bool // what keeps live patches in processes does not run there
}

// notKept is what a machine says is wrong with what keeps live patches in its
// processes; nil: nothing.
func notKept(problems []api.Problem) *api.Problem {
	for i := range problems {
		if problems[i].Code == "TS9440" {
			return &problems[i]
		}
	}
	return nil
}

// each is the packages of a set, which may be nil.
func (p *packageSet) each() []packageState {
	if p == nil {
		return nil
	}
	return p.all
}

// of is the package with an id, or nil.
func (p *packageSet) of(id string) *packageState {
	for i, k := range p.each() {
		if k.id == id {
			return &p.all[i]
		}
	}
	return nil
}

// on is how a machine stands with the live patches of a target, by its id: of its
// kernel, or of one of its packages. false: it has nothing to do with it. The
// caller holds the member's lock.
func (m *member) on(id string) (packageState, bool) {
	if id == m.buildID {
		return packageState{id: id, patch: m.patch, policy: m.policy, state: m.state, version: m.version}, true
	}
	if p := m.packages.of(id); p != nil {
		return *p, true
	}
	return packageState{}, false
}

// patches visits the live patches that a machine speaks of. The caller holds the
// member's lock.
func (m *member) patches(visit func(id string, state api.State)) {
	if m.patch != "" {
		visit(m.patch, m.state)
	}
	for _, p := range m.packages.each() {
		if p.patch != "" {
			visit(p.patch, p.state)
		}
	}
}

func packageStateOf(k api.Package) packageState {
	return packageState{
		id: k.ID, target: k.Target, patch: k.Patch.ID, policy: k.Patch.Policy, state: k.Patch.State, version: int32(k.Patch.Version),
		partly: k.Processes.Pending+k.Processes.Unprotected > 0, stale: k.Stale > 0,
	}
}

// packageSets keeps one copy of each set.
type packageSets struct {
	mu sync.Mutex
	m  map[string]*packageSet
}

// maxPackageSets bounds what machines can make the server remember.
const maxPackageSets = 20_000

// intern is the set of what a machine says; nil: it has named none.
func (p *packageSets) intern(words *words, f facts) *packageSet {
	if len(f.Packages) == 0 {
		return nil
	}
	all, unkept := make([]packageState, len(f.Packages)), notKept(f.Problems) != nil
	var key strings.Builder
	fmt.Fprintf(&key, "%t\n", unkept)
	for i, k := range f.Packages {
		all[i] = packageStateOf(k)
		fmt.Fprintf(&key, "%+v\n", all[i])
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if got := p.m[key.String()]; got != nil {
		return got
	}
	if p.m == nil || len(p.m) >= maxPackageSets {
		p.m = map[string]*packageSet{}
	}
	for i := range all {
		k := &all[i]
		k.id, k.target, k.patch, k.policy = words.intern(k.id), words.intern(k.target), words.intern(k.patch), words.intern(k.policy)
		k.state = api.State(words.intern(string(k.state)))
	}
	set := &packageSet{all, unkept}
	p.m[key.String()] = set
	return set
}

// comparePackages is the order in which packages are kept.
func comparePackages(a, b api.Package) int {
	return cmp.Or(cmp.Compare(a.Target, b.Target), cmp.Compare(a.ID, b.ID))
}

// coarse is what of the packages has to be written down: all but how many
// processes there are exactly, and which of them. These change all the time.
func coarse(said []api.Package) []api.Package {
	out := slices.Clone(said)
	for i := range out {
		n := &out[i].Processes
		*n = api.Processes{Protected: min(n.Protected, 1), Pending: min(n.Pending, 1), Unprotected: min(n.Unprotected, 1)}
		reasons := make([]api.ProcessReason, 0, len(out[i].Reasons))
		for _, r := range out[i].Reasons {
			reasons = append(reasons, api.ProcessReason{Problem: api.Problem{Code: r.Problem.Code}, Processes: bits.Len(uint(r.Processes))})
		}
		slices.SortFunc(reasons, func(a, b api.ProcessReason) int {
			return cmp.Or(cmp.Compare(a.Problem.Code, b.Problem.Code), cmp.Compare(a.Processes, b.Processes))
		})
		out[i].Reasons = reasons
		out[i].Stale = min(out[i].Stale, 1)
	}
	return out
}

// countsOf are the processes of packages, in their order.
func countsOf(said []api.Package, into []api.Processes) []api.Processes {
	into = into[:0]
	for _, k := range said {
		into = append(into, k.Processes)
	}
	return into
}

// packagesNow puts the processes that a machine told last into what the store
// has of its packages.
func (m *member) packagesNow(saved []api.Package) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.counts) != len(saved) || len(m.packages.each()) != len(saved) {
		return // of another time
	}
	for i := range saved {
		if m.packages.all[i].id != saved[i].ID {
			return
		}
	}
	for i := range saved {
		saved[i].Processes = m.counts[i]
		if m.stale != nil && len(m.stale.packages) == len(saved) {
			saved[i].Stale = m.stale.packages[i]
		}
	}
}

// catalogue is a tier's list of packages, as it is signed.
type catalogue struct {
	digest string          // SHA-256 in hex; "": there is none
	ids    map[string]bool // of its packages
	names  map[string]bool // targets
}

func newCatalogue(p *trust.Packages, digest string) *catalogue {
	c := &catalogue{digest: digest, ids: map[string]bool{}, names: map[string]bool{}}
	if p != nil {
		for _, k := range p.Packages {
			c.ids[k.ID], c.names[k.Target] = true, true
		}
	}
	return c
}

// catalogue is that of a tier.
func (s *shelves) catalogue(ctx context.Context, tier string) (*catalogue, error) {
	s.mu.RLock()
	got, generation := s.byTier[tier], s.generation
	s.mu.RUnlock()
	if got != nil {
		return got, nil
	}
	p, digest, err := s.packages(ctx, tier)
	if err != nil {
		return nil, fmt.Errorf("packages of %s: %w", tier, err)
	}
	got = newCatalogue(p, digest)
	s.mu.Lock()
	defer s.mu.Unlock()
	if generation != s.generation {
		return got, nil // see get
	}
	if s.byTier == nil {
		s.byTier = map[string]*catalogue{}
	}
	s.byTier[tier] = got
	return got, nil
}

// ofPackage is the shelf of a package. What machines name and the tier's list has
// not is not looked up: the list names all that an index says anything of.
func (s *shelves) ofPackage(ctx context.Context, tier, id, policy string) (*shelf, error) {
	c, err := s.catalogue(ctx, tier)
	if err != nil {
		return nil, err
	}
	if !c.ids[id] {
		return noShelf, nil
	}
	return s.get(ctx, tier, id, policy)
}

var noShelf = &shelf{}

// named is the name of the target that a shelf is for, as it is signed; of an
// empty shelf the one that a machine says.
func (s *shelf) named(said string) string {
	if s.index != nil {
		return s.index.Target.Name
	}
	return said
}

// packageSituation is all that is open in the processes of a package depends on.
type packageSituation struct {
	target, policy, runs, should string // policy: its word
	partly                       bool
}

// packageSituations are those of a machine. What is told of many machines has one
// for all that are alike; nobody changes it.
type packageSituations struct{ all []packageSituation }

// each is the packages of one, which may be nil.
func (p *packageSituations) each() []packageSituation {
	if p == nil {
		return nil
	}
	return p.all
}

// words are it in a line, to find those that are alike.
func (p *packageSituation) words(b *strings.Builder) {
	for _, w := range [...]string{p.target, p.policy, p.runs, p.should} {
		b.WriteString(w)
		b.WriteByte(' ')
	}
	if p.partly {
		b.WriteString("partly")
	}
	b.WriteByte('\n')
}
