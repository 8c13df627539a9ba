// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/series"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/store/blob"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// Summary is what lists show of what was pushed.
type Summary struct {
	Title  string `json:"title,omitempty"`
	From   string `json:"from,omitempty"`
	To     string `json:"to,omitempty"`
	Fixes  int    `json:"fixes"`
	CVEs   int    `json:"cves"`
	Known  int    `json:"known"` // fixes with a verdict
	Live   int    `json:"live"`
	Reboot int    `json:"reboot"`
}

// PushUpdate takes the fixes for a target in, in the place of what was there
// under the name.
func (s *Service) PushUpdate(ctx context.Context, name string, extra bool, b []byte, actor string) (store.Update, error) {
	if !trust.PolicyName(name) {
		return store.Update{}, code.New("TS7901", name, "not a name of a series: 1 to 63 of a-z, 0-9, dot, dash and underscore")
	}
	p, own, facts, err := selection.ReadPushed(b)
	if err != nil {
		return store.Update{}, err
	}
	// As every server would write it: equal fixes have equal digests.
	if b, err = p.Bytes(); err != nil {
		return store.Update{}, err
	}
	sum := Summary{Title: p.Name, From: p.From, To: p.To, Fixes: len(p.Fixes), CVEs: len(own.CVEs()), Known: len(facts)}
	for _, f := range facts {
		switch f.Verdict {
		case selection.IsLive:
			sum.Live++
		case selection.NeedsReboot:
			sum.Reboot++
		}
	}
	u := store.Update{Target: p.Target, Name: name, Extra: extra, Digest: digest(b), Size: int64(len(b)), CreatedBy: actor}
	if u.Summary, err = json.Marshal(sum); err != nil {
		return u, err
	}
	if err := s.put(ctx, pushedName(u.Digest), b); err != nil {
		return u, err
	}
	for range maxTries {
		checked, err := s.joins(ctx, u, own)
		if err != nil {
			return u, err
		}
		err = s.store.Update(ctx, func(tx *store.Tx) error {
			if err := tx.LockPolicies(ctx); err != nil {
				return err
			}
			now, err := tx.Updates(ctx, p.Target)
			if err != nil {
				return err
			}
			if slices.ContainsFunc(now, func(o store.Update) bool { return o.Name != name && !checked[o.Digest] }) {
				return errMoved
			}
			if err := tx.SaveUpdate(ctx, u); err != nil {
				return err
			}
			detail := fmt.Sprintf("%s: %d fixes, %d CVEs, %.12s", name, sum.Fixes, sum.CVEs, u.Digest)
			return tx.Audit(ctx, store.AuditEntry{Actor: actor, Action: "update.push", Object: p.Target, Detail: detail})
		})
		if !errors.Is(err, errMoved) {
			return u, err
		}
	}
	return u, moved()
}

// joins refuses what has a fix of another series of the target, and says by
// digest with which it goes.
func (s *Service) joins(ctx context.Context, u store.Update, own *series.Series) (map[string]bool, error) {
	others, err := s.store.Updates(ctx, u.Target)
	if err != nil {
		return nil, err
	}
	checked := map[string]bool{}
	for _, o := range others {
		if o.Name == u.Name {
			continue
		}
		checked[o.Digest] = true
		theirs, err := s.pushed(ctx, o.Digest)
		if err != nil { // no reason to take nothing in any more; Choose tells of it
			s.log.Error("update can't be read", "target", o.Target, "name", o.Name, "err", err)
			continue
		}
		if _, err := selection.Join(own, theirs.Series); err != nil {
			return nil, err
		}
	}
	return checked, nil
}

// DeleteUpdate takes back what was pushed. Live patches that were built from
// it stay.
func (s *Service) DeleteUpdate(ctx context.Context, target, name, actor string) error {
	err := s.store.Update(ctx, func(tx *store.Tx) error {
		if err := tx.LockPolicies(ctx); err != nil {
			return err
		}
		if err := tx.DeleteUpdate(ctx, target, name); err != nil {
			return err
		}
		return tx.Audit(ctx, store.AuditEntry{Actor: actor, Action: "update.delete", Object: target, Detail: name})
	})
	if errors.Is(err, store.ErrNotFound) {
		return code.New("TS7904", target, name)
	}
	return err
}

// damaged is why something pushed can't be read, now and later.
type damaged struct{ error }

func (d damaged) Unwrap() error { return d.error }

// keepPushed is how many of them are kept in memory.
const keepPushed = 16

// pushed reads what was pushed. Nobody changes what it returns.
func (s *Service) pushed(ctx context.Context, digest string) (*selection.Source, error) {
	s.mu.Lock()
	got := s.read[digest]
	s.mu.Unlock()
	if got != nil {
		return got, nil
	}
	b, err := s.Pushed(ctx, digest)
	if code.Of(err) == "TS7713" {
		err = damaged{err}
	}
	if err != nil {
		return nil, err
	}
	_, all, facts, err := selection.ReadPushed(b)
	if err != nil {
		return nil, damaged{err}
	}
	got = &selection.Source{Series: all, Facts: facts}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.read == nil || len(s.read) >= keepPushed {
		s.read = map[string]*selection.Source{}
	}
	s.read[digest] = got
	return got, nil
}

// Pushed is what was pushed, as it came.
func (s *Service) Pushed(ctx context.Context, name string) ([]byte, error) {
	b, err := s.get(ctx, pushedName(name), selection.MaxPushed)
	if errors.Is(err, blob.ErrNotFound) {
		return nil, code.New("TS7713", pushedName(name), "it is not there").WithFix("push the update again: tsugictl update push")
	}
	if err == nil && digest(b) != name {
		err = code.New("TS7713", pushedName(name), "")
	}
	return b, err
}

func pushedName(digest string) string { return updateDir + digest + ".json" }

// attributed are a policy's exclusions of CVEs by the fixes that updates
// attribute these to. What is damaged is left out: Choose tells of it.
func (s *Service) attributed(ctx context.Context, updates []store.Update, p selection.Policy) ([]selection.Exclusion, error) {
	var out []selection.Exclusion
	if len(p.Exclusions) == 0 {
		return nil, nil
	}
	for _, u := range updates {
		got, err := s.pushed(ctx, u.Digest)
		if _, is := errors.AsType[damaged](err); is {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("update %s of %s: %w", u.Name, u.Target, err)
		}
		for _, f := range got.Series.Fixes {
			for _, x := range p.Exclusions {
				if slices.Contains(f.CVEs, x.CVE) {
					x.Fix = f.ID
					out = append(out, x)
				}
			}
		}
	}
	return out, nil
}
