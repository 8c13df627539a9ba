// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
)

// census is the fleet counted by how machines stand. Nobody changes one.
type census struct {
	herds       map[herd]int
	packages    map[packageHerd]int
	protections map[api.Protection]int
	stale       int    // machines whose processes run what their disk has no more
	tally       *tally // nil: what is open can't be told now
	choices     *choiceCount
	at          time.Time

	once sync.Once
	open map[openKey]int // of the whole fleet, made when it is first wanted
	work map[string]int
	err  error
}

// herd is what machines have in common that are counted together.
type herd struct {
	group, tier string
	word        api.Protection
	stale       bool // processes run what the disk has no more
	at          situation
}

// packageHerd is what machines have in common that are counted together for a
// package.
type packageHerd struct {
	group, tier, target string
	word                api.Protection
	stale               bool
}

// openKey counts machines with a kernel, or a package, on which a vulnerability is
// open.
type openKey struct {
	cve, release string // shortOf the target
	need         api.Need
}

// alike is all of a machine that stands asks for, but for the words.
type alike struct {
	shelf             *shelf
	buildID, patch    string
	state             api.State
	version           int
	able, hold, moved bool
	partly            bool
	names             digest // of what it may have of the shelf
}

// verdict is what stands said of it.
type verdict struct {
	word   api.Protection
	target string
}

// judge says how machines stand. It asks stands once for those that are alike.
type judge struct {
	server   *Server
	book     *book
	now      time.Time
	patience time.Duration
	known    map[alike]verdict
	outfits  map[outfit]*packagesAt
	alike    map[string]*packageSituations // by their words
	packages map[packageHerd]int           // of the machines so far; nil: they are not counted
}

func (s *Server) judge() *judge {
	return &judge{server: s, book: s.book.Load(), now: s.now(), patience: patience(s.interval.Load()), known: map[alike]verdict{}, outfits: map[outfit]*packagesAt{}, alike: map[string]*packageSituations{}}
}

// of counts a machine to its herd; false when it is enrolled no more.
func (j *judge) of(ctx context.Context, m *member) (herd, bool, error) {
	st, tier, at := m.look(j.book)
	if st.gone {
		return herd{}, false, nil
	}
	shelf, err := j.server.shelves.get(ctx, tier, st.buildID, at.policy)
	if err != nil {
		return herd{}, false, err
	}
	var names digest
	_, names, st.waiting = shelf.admitted(m.id)
	key := alike{names: names, shelf: shelf, buildID: st.buildID, patch: st.patch, state: st.state, version: st.version, able: st.able, hold: st.hold, moved: st.moved}
	v := j.stands(key, st, shelf)
	at.should = shouldHave(v.target, st.patch, st.state)
	h := herd{group: st.group, tier: tier, word: v.word, stale: st.stale, at: at}
	if st.packages != nil {
		packages, err := j.ofPackages(ctx, m.id, &st, tier, at.policy)
		if err != nil {
			return herd{}, false, err
		}
		h.at.packages = packages.at
		h.word = h.word.Worse(packages.worst)
	}
	if j.now.Sub(time.UnixMilli(st.seen)) > j.patience {
		h.word = api.Silent
	}
	return h, true, nil
}

// stands asks once for those that are alike.
func (j *judge) stands(key alike, st standing, shelf *shelf) verdict {
	v, ok := j.known[key]
	if !ok {
		v.word, v.target, _ = stands(st, shelf.index)
		j.known[key] = v
	}
	return v
}

// herds visits every machine, in memory, and counts those that stand alike. With
// an error those are missing that could not be judged.
func (s *Server) herds(ctx context.Context) (herds map[herd]int, packages map[packageHerd]int, failed error) {
	herds = map[herd]int{}
	j := s.judge()
	j.packages = map[packageHerd]int{}
	s.fleet.each(func(m *member) {
		h, here, err := j.of(ctx, m)
		switch {
		case err != nil:
			failed = err
		case here:
			herds[h]++
		}
	})
	return herds, j.packages, failed
}

// count counts the fleet.
func (s *Server) count(ctx context.Context) *census {
	c := &census{at: s.now(), protections: map[api.Protection]int{
		api.Protected: 0, api.Outdated: 0, api.Partly: 0, api.Unprotected: 0, api.NotCovered: 0, api.Failing: 0, api.Silent: 0,
	}}
	var failed error
	c.herds, c.packages, failed = s.herds(ctx)
	for h, n := range c.herds {
		c.add(h, n)
	}
	if failed == nil {
		c.tally, failed = s.tally(ctx, c.herds)
	}
	if failed != nil {
		c.tally = nil // half a count is worse than none
		s.log.Warn("open vulnerabilities could not be counted", "err", failed)
	}
	var err error
	if c.choices, err = s.countChoices(ctx); err != nil {
		c.choices = nil
		s.log.Warn("choices of policies could not be counted", "err", err)
	}
	return c
}

// add counts n machines of a herd.
func (c *census) add(h herd, n int) {
	c.protections[h.word] += n
	if h.stale {
		c.stale += n
	}
}

// tally counts machines by what is open on them.
type tally struct {
	policies map[string]*api.Exposure // by the policy's word
	machines map[[2]string]int        // by need and the highest severity of what has it
	worst    map[string]int           // by the highest severity of what somebody should do something about
}

func (s *Server) tally(ctx context.Context, herds map[herd]int) (*tally, error) {
	t, graves := newTally(), s.graves()
	for h, n := range herds {
		g, err := graves.of(ctx, h.at)
		if err != nil {
			return nil, err
		}
		t.add(h.at.policy, g, n)
	}
	return t, nil
}

func newTally() *tally {
	return &tally{policies: map[string]*api.Exposure{}, machines: map[[2]string]int{}, worst: map[string]int{}}
}

// policyCount counts what is open on the machines of a policy as they are now.
type policyCount struct {
	word   string // the policy's
	judge  *judge
	counts map[situation]int
	failed error
}

func (s *Server) policyCount(word string) *policyCount {
	return &policyCount{word: word, judge: s.judge(), counts: map[situation]int{}}
}

// take counts a machine of a group, if it has the policy.
func (c *policyCount) take(ctx context.Context, m *member, group string) {
	if c.judge.book.of(group).word != c.word {
		return
	}
	h, here, err := c.judge.of(ctx, m)
	switch {
	case err != nil:
		c.failed = err
	case here && h.at.policy == c.word:
		c.counts[h.at]++
	}
}

// result is nil when no machine has the policy.
func (c *policyCount) result(ctx context.Context) (*api.Exposure, error) {
	t, graves := newTally(), c.judge.server.graves()
	for at, n := range c.counts {
		g, err := graves.of(ctx, at)
		if err != nil {
			return nil, err
		}
		t.add(c.word, g, n)
	}
	return t.policies[c.word], c.failed
}

// situations counts machines by situation: of the groups that sees is true for,
// and of all if it is nil.
func situations(herds map[herd]int, sees func(group string) bool) map[situation]int {
	out := map[situation]int{}
	for h, n := range herds {
		if sees == nil || sees(h.group) {
			out[h.at] += n
		}
	}
	return out
}

// add counts n machines.
func (t *tally) add(policy string, at grave, n int) {
	first := severityWords[at[len(at)-1]]
	x := t.policies[policy]
	if x == nil {
		x = &api.Exposure{Needs: map[api.Need]int{}, Worst: map[string]int{}}
		t.policies[policy] = x
	}
	for i, need := range api.Needs() {
		if word := severityWords[at[i]]; word != "" {
			x.Needs[need] += n
			t.machines[[2]string{string(need), word}] += n
		}
	}
	if first != "" {
		x.Machines += n
		x.Worst[first] += n
		t.worst[first] += n
	}
}

// opened counts machines by the vulnerabilities that are open on them, and by
// those of them that somebody should do something about.
func (s *Server) opened(ctx context.Context, c *census, sees func(group string) bool) (map[openKey]int, map[string]int, error) {
	if sees == nil {
		c.once.Do(func() { c.open, c.work, c.err = s.countOpen(context.WithoutCancel(ctx), c, nil) })
		return c.open, c.work, c.err
	}
	return s.countOpen(ctx, c, sees)
}

func (s *Server) countOpen(ctx context.Context, c *census, sees func(group string) bool) (map[openKey]int, map[string]int, error) {
	if c.tally == nil {
		return nil, nil, errUncounted
	}
	at := situations(c.herds, sees)
	kernels, packages := map[kernelSituation]int{}, map[packageSituation]int{}
	for x, n := range at {
		kernels[x.kernelSituation] += n
		for _, p := range x.packages.each() {
			packages[p] += n
		}
	}
	open, work := map[openKey]int{}, map[string]int{}
	in, shared := map[string]string{}, map[string]bool{} // what a CVE is first found in, and those that are in more
	add := func(release string, p *openPart, n int) {
		for _, o := range p.all {
			open[openKey{o.CVE, release, o.Need}] += n
			if !o.Need.Counts() {
				continue
			}
			work[o.CVE] += n
			if where, there := in[o.CVE]; !there {
				in[o.CVE] = o.Package
			} else if where != o.Package {
				shared[o.CVE] = true
			}
		}
	}
	for k, n := range kernels {
		x, err := s.exposed(ctx, situation{kernelSituation: k})
		if err != nil {
			return nil, nil, err
		}
		add(k.release, x[0], n)
	}
	for p, n := range packages {
		x, err := s.exposedIn(ctx, p)
		if err != nil {
			return nil, nil, err
		}
		add(shortOf(p.target), x, n)
	}
	if len(shared) == 0 {
		return open, work, nil
	}
	of := map[*openPart][]string{}
	for x, n := range at {
		if x.packages == nil {
			continue
		}
		parts, err := s.exposed(ctx, x)
		if err != nil {
			return nil, nil, err
		}
		parts.again(shared, of, func(cve string, times int) { work[cve] -= n * (times - 1) })
	}
	return open, work, nil
}

// errUncounted is why nothing can be said of the machines; the log says more.
var errUncounted = errors.New("what is open on the machines can't be counted now")

// fleetCollector computes what is not counted but is.
type fleetCollector struct {
	server *Server

	mu   sync.Mutex
	last *census
	when time.Time
	due  chan struct{} // somebody asked for what is older than fleetCountsFor
}

// A count of a large fleet visits every machine: not more often than the first.
// What is asked for meanwhile is the last one, and a newer one is made for those
// who ask next, or when the second has almost passed: nobody gets one that is
// older than that, and nobody waits for one but who asks a server that has just
// been started.
const (
	fleetCountsFor = 15 * time.Second
	fleetCountsTop = 2 * time.Minute
)

// counts is the fleet, counted not long ago.
func (c *fleetCollector) counts(ctx context.Context) *census {
	c.mu.Lock()
	defer c.mu.Unlock()
	age := time.Since(c.when)
	if c.last != nil && age <= fleetCountsTop {
		if age > fleetCountsFor {
			poke(c.due)
		}
		return c.last
	}
	c.last, c.when = c.server.count(context.WithoutCancel(ctx)), time.Now() // it is for all, whoever goes away
	return c.last
}

// keep counts in the background until ctx ends.
func (c *fleetCollector) keep(ctx context.Context) {
	late := time.NewTicker(fleetCountsTop - 2*fleetCountsFor)
	defer late.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.due:
		case <-late.C:
		}
		n := c.server.count(ctx) // without the lock: others get the last one
		if ctx.Err() != nil {
			return
		}
		_, _, _ = c.server.opened(ctx, n, nil) // who asks has it at once; its error is told again
		c.mu.Lock()
		c.last, c.when = n, time.Now()
		c.mu.Unlock()
	}
}
