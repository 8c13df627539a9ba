// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/publish"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// situation is all that a machine's open vulnerabilities depend on.
type situation struct {
	kernelSituation
	packages *packageSituations // nil: none
}

// kernelSituation is all that is open in a kernel depends on. Many machines share
// one.
type kernelSituation struct {
	release, policy string // the policy's word
	runs, should    string // ids of live patches; "": none
	modules         string // moduleWords
}

// exposures answers for situations, and remembers until something changes.
type exposures struct {
	mu     sync.Mutex
	covers map[string]*cover                            // by id of a live patch: it never changes
	pushed map[string]map[string]map[string]api.OpenCVE // by policy, release or package, and CVE

	kernels  map[kernelSituation]*openPart
	packages map[packageSituation]*openPart
}

// How much of it is kept.
const (
	maxCovers     = 500
	maxSituations = 20_000
)

// forget forgets what may have changed.
func (s *Server) forget() {
	s.shelves.clear()
	s.exposures.clear()
	s.matrices.mu.Lock()
	defer s.matrices.mu.Unlock()
	s.matrices.of = nil
}

// clear forgets what may have changed.
func (e *exposures) clear() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pushed, e.kernels, e.packages = nil, nil, nil
}

// moduleWords is where the fixed modules of a machine stand, in one string
// that many machines share.
func moduleWords(all []api.Replacement) string {
	words := make([]string, 0, len(all))
	for _, r := range all {
		words = append(words, r.Module+"="+string(r.State))
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}

func readModuleWords(s string) map[string]api.ReplacementState {
	out := map[string]api.ReplacementState{}
	for w := range strings.FieldsSeq(s) {
		name, state, _ := strings.Cut(w, "=")
		out[name] = api.ReplacementState(state)
	}
	return out
}

// exposed is what is open in a situation.
func (s *Server) exposed(ctx context.Context, at situation) (exposure, error) {
	e := &s.exposures
	e.mu.Lock()
	defer e.mu.Unlock()
	packages := at.packages.each()
	out := make(exposure, 0, 1+len(packages))
	p, err := known(ctx, &e.kernels, at.kernelSituation, s.exposedKernel)
	if err != nil {
		return nil, err
	}
	out = append(out, p)
	for _, k := range packages {
		if p, err = known(ctx, &e.packages, k, s.exposedPackage); err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// exposedIn is what is open in the processes of a package.
func (s *Server) exposedIn(ctx context.Context, p packageSituation) (*openPart, error) {
	s.exposures.mu.Lock()
	defer s.exposures.mu.Unlock()
	return known(ctx, &s.exposures.packages, p, s.exposedPackage)
}

// known looks up what is remembered, or finds it out. The caller holds the lock.
func known[K comparable](ctx context.Context, in *map[K]*openPart, at K, find func(context.Context, K) ([]api.OpenCVE, error)) (*openPart, error) {
	if got := (*in)[at]; got != nil {
		return got, nil
	}
	all, err := find(ctx, at)
	if err != nil {
		return nil, err
	}
	if *in == nil || len(*in) >= maxSituations {
		*in = map[K]*openPart{}
	}
	(*in)[at] = newOpenPart(all)
	return (*in)[at], nil
}

// exposedPackage lists what is open in the processes of a package. The caller
// holds the lock.
func (s *Server) exposedPackage(ctx context.Context, p packageSituation) ([]api.OpenCVE, error) {
	runs, err := s.cover(ctx, p.runs)
	if err != nil {
		return nil, err
	}
	should, err := s.cover(ctx, p.should)
	if err != nil {
		return nil, err
	}
	pushed, err := s.pushedFor(ctx, p.policy)
	if err != nil {
		return nil, err
	}
	got := exposed(runs, should, pushed[p.target], nil)
	if p.partly && runs != nil {
		got = append(got, runs.unreached(got)...)
	}
	for i := range got {
		got[i].Package = p.target
		if got[i].Need == api.NeedReboot { // of a package: processes that start anew with the fixed one
			got[i].Need = api.NeedRestart
		}
	}
	sortOpen(got)
	return got, nil
}

// exposedKernel lists what is open in a situation's kernel. The caller holds the
// lock.
func (s *Server) exposedKernel(ctx context.Context, at kernelSituation) ([]api.OpenCVE, error) {
	runs, err := s.cover(ctx, at.runs)
	if err != nil {
		return nil, err
	}
	should, err := s.cover(ctx, at.should)
	if err != nil {
		return nil, err
	}
	pushed, err := s.pushedFor(ctx, at.policy)
	if err != nil {
		return nil, err
	}
	return exposed(runs, should, pushed[at.release], readModuleWords(at.modules)), nil
}

// cover is that of a live patch; nil for none, and for one that this server
// does not have: a machine may run what somebody loaded by hand. The caller
// holds the lock.
func (s *Server) cover(ctx context.Context, id string) (*cover, error) {
	if id == "" {
		return nil, nil
	}
	e := &s.exposures
	if c := e.covers[id]; c != nil {
		return c, nil
	}
	row, err := s.store.LivePatch(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	m, err := livepatch.ParseManifest(row.Manifest)
	if err != nil {
		return nil, fmt.Errorf("manifest of %s: %w", id, err)
	}
	if e.covers == nil || len(e.covers) >= maxCovers {
		e.covers = map[string]*cover{}
	}
	e.covers[id] = newCover(id, m)
	return e.covers[id], nil
}

// coverOf is cover for those who do not hold the lock.
func (s *Server) coverOf(ctx context.Context, id string) (*cover, error) {
	s.exposures.mu.Lock()
	defer s.exposures.mu.Unlock()
	return s.cover(ctx, id)
}

// pushedFor is what a policy chooses of what is pushed, by kernel release and by
// the name of a package. The caller holds the lock.
func (s *Server) pushedFor(ctx context.Context, word string) (map[string]map[string]api.OpenCVE, error) {
	e := &s.exposures
	if got, ok := e.pushed[word]; ok {
		return got, nil
	}
	policies, err := publish.Policies(ctx, s.store.Reader)
	if err != nil {
		return nil, err
	}
	p, ok := policies[cmp.Or(word, trust.DefaultPolicy)]
	got := map[string]map[string]api.OpenCVE{}
	if ok {
		selected, err := s.publish.Select(ctx, p, s.now())
		if err != nil {
			return nil, err
		}
		for _, sel := range selected {
			if sel.Err == nil { // what can't be chosen is told by Choose
				got[cmp.Or(releaseOf(sel.Target), sel.Target)] = chosen(sel.Selection)
			}
		}
	}
	if e.pushed == nil {
		e.pushed = map[string]map[string]map[string]api.OpenCVE{}
	}
	e.pushed[word] = got
	return got, nil
}

// releaseOf is the kernel release that a target is named after.
func releaseOf(target string) string {
	release := shortOf(target)
	if strings.Contains(release, "=") { // a package
		return ""
	}
	return release
}

// shortOf is a target without its distribution: a kernel's release, or a package
// with its version.
func shortOf(target string) string {
	_, short, _ := strings.Cut(target, ":")
	return short
}

// runsNow is the live patch whose fixes a machine has in this state.
func runsNow(patch string, state api.State) string {
	if state == api.Applied || state == api.Healthy {
		return patch
	}
	return ""
}

// shouldHave is the live patch whose fixes a machine lacks: the one that it should
// have, and if there is none, the one that it had and lost, or refuses.
func shouldHave(should, patch string, state api.State) string {
	if should == "" && (state == api.Quarantined || state == api.Blocked || state == api.Reverted) {
		return patch
	}
	return should
}

// needsOf counts what is open by need.
func needsOf(open []api.OpenCVE) map[api.Need]int {
	if len(open) == 0 {
		return nil
	}
	out := map[api.Need]int{}
	for _, o := range open {
		out[o.Need]++
	}
	return out
}

// alsoOpen says what is open on a machine that has what it should have.
func alsoOpen(needs map[api.Need]int) string {
	n := 0
	needs = maps.Clone(needs)
	maps.DeleteFunc(needs, func(k api.Need, _ int) bool { return !k.Counts() })
	for _, k := range needs {
		n += k
	}
	if n == 0 {
		return ""
	}
	var words []string
	for _, need := range api.Needs() {
		if needs[need] > 0 {
			words = append(words, fmt.Sprintf("%d %s", needs[need], need))
		}
	}
	return fmt.Sprintf("; open: %d (%s)", n, strings.Join(words, ", "))
}

// severityWord names the class that a vulnerability is counted in.
func severityWord(o api.OpenCVE) string {
	if o.Exploited {
		return "exploited"
	}
	return cmp.Or(o.Severity, "unknown")
}
