// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/publish"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// notice is how long before its end an exclusion is announced.
const notice = 14 * 24 * time.Hour

// book says what a check-in needs to know of policies. It is read anew when
// one changes, and every minute for what time changes; a check-in only looks.
type book struct {
	groups map[string]*page
	other  *page // the default policy's
}

// page is a policy in the book.
type page struct {
	word    string // trust.PolicyWord
	ending  []api.Ending
	endings digest // of ending
}

// of is the page of a group's policy.
func (b *book) of(group string) *page {
	if p := b.groups[group]; p != nil {
		return p
	}
	return b.other
}

// has says whether any group has a policy, by its word.
func (b *book) has(word string) bool {
	if b.other.word == word {
		return true
	}
	for _, p := range b.groups {
		if p.word == word {
			return true
		}
	}
	return false
}

// readBook takes over what the store says of policies.
func (s *Server) readBook(ctx context.Context) error {
	s.bookMu.Lock() // what was read first does not come last
	defer s.bookMu.Unlock()
	policies, err := publish.Policies(ctx, s.store.Reader)
	if err != nil {
		return err
	}
	groups, err := s.store.PolicyGroups(ctx)
	if err != nil {
		return err
	}
	pages := map[string]*page{}
	for name, p := range policies {
		pages[name] = newPage(p, s.now())
	}
	b := &book{groups: map[string]*page{}, other: pages[trust.DefaultPolicy]}
	for group, policy := range groups {
		p := pages[policy]
		if p == nil {
			// It must not keep all other machines from hearing of anything. There
			// is nothing for the policy, so its machines keep what they have.
			s.log.Error("group has a policy that is not there", "group", group, "policy", policy)
			p = newPage(selection.Policy{Name: policy}, s.now())
		}
		b.groups[group] = p
	}
	s.book.Store(b)
	return nil
}

func newPage(p selection.Policy, now time.Time) *page {
	out := &page{word: trust.PolicyWord(p.Name), ending: endingOf(p, now)}
	if len(out.ending) > 0 {
		b, err := json.Marshal(out.ending)
		if err != nil {
			panic(err) // strings and numbers
		}
		out.endings = digestOf(b)
	}
	return out
}

// endingOf are the exclusions of a policy that end soon.
func endingOf(p selection.Policy, now time.Time) []api.Ending {
	var out []api.Ending
	for _, x := range p.Ending(now, notice) {
		out = append(out, api.Ending{Name: x.Name(), Reason: x.Reason, Ends: x.Expires.UnixMilli()})
	}
	return out
}
