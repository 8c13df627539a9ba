// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"sync"

	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// maxWrapped bounds the cache of wrapped keys: about 2.5 kB each.
const maxWrapped = 16384

// wrapCache keeps keys that were wrapped, and content keys that were opened,
// so that a fleet that asks again and again costs no public-key arithmetic.
type wrapCache struct {
	mu      sync.Mutex
	wrapped map[wrapName]string
	order   []wrapName // the oldest first
	content map[string]contentKey
}

type wrapName struct {
	recipient [sha256.Size]byte
	patch     string
}

type contentKey struct {
	digest string // of the live patch that it opens
	key    trust.ContentKey
}

// Keys wraps the content keys of live patches for a machine. Those that are
// unknown or blocked are left out.
func (s *Service) Keys(ctx context.Context, recipient string, ids []string) (map[string]string, error) {
	out := map[string]string{}
	for _, id := range ids {
		p, err := s.store.LivePatch(ctx, id)
		if errors.Is(err, store.ErrNotFound) || err == nil && p.Blocked != 0 {
			continue
		}
		if err != nil {
			return nil, err
		}
		w, err := s.wrap(p, recipient)
		if err != nil {
			return nil, err
		}
		out[id] = w
	}
	return out, nil
}

func (s *Service) wrap(p store.LivePatch, recipient string) (string, error) {
	c := &s.wrapped
	name := wrapName{sha256.Sum256([]byte(recipient)), p.ID + " " + p.Digest}
	c.mu.Lock()
	w, ok := c.wrapped[name]
	content, opened := c.content[p.ID]
	c.mu.Unlock()
	if ok {
		return w, nil
	}
	if !opened || content.digest != p.CipherDigest {
		k, err := trust.Unwrap(string(p.SealedKey), s.id)
		if err != nil {
			return "", err
		}
		content = contentKey{p.CipherDigest, k}
	}
	w, err := trust.Wrap(content.key, recipient)
	if err != nil {
		return "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wrapped == nil {
		c.wrapped, c.content = map[wrapName]string{}, map[string]contentKey{}
	}
	if len(c.content) > 1024 {
		clear(c.content)
	}
	c.content[p.ID] = content
	if have, ok := c.wrapped[name]; ok {
		return have, nil // two asked at once: both get the same
	}
	if len(c.order) >= maxWrapped {
		delete(c.wrapped, c.order[0])
		c.order = slices.Delete(c.order, 0, 1)
	}
	c.wrapped[name] = w
	c.order = append(c.order, name)
	return w, nil
}
