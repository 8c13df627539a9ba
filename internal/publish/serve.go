// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/store/blob"
	"github.com/tsugi-project/tsugi/internal/trust/repo"
)

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
