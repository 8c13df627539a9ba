// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/store/blob"
)

// Lists of modules are long and the same on many machines: a list is kept once,
// by its digest, and a machine sends it only when the server does not have it.

// knownModules are digests of lists that are in the blobs.
type knownModules struct {
	mu sync.RWMutex
	m  map[string]bool
}

// maxKnownModules bounds what machines can make the server remember.
const maxKnownModules = 50_000

func (k *knownModules) has(digest string) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.m[digest]
}

func (k *knownModules) add(digest string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.m == nil || len(k.m) >= maxKnownModules {
		k.m = map[string]bool{}
	}
	k.m[digest] = true
}

func modulesName(digest string) string { return "modules/" + digest + ".json" }

// wantsModules reports whether the list that a check-in speaks of is missing.
func (s *Server) wantsModules(ctx context.Context, in *api.CheckIn) (bool, error) {
	if in.ModulesDigest == "" || s.modules.has(in.ModulesDigest) {
		return false, nil
	}
	if len(in.Modules) > 0 {
		return false, s.keepModules(ctx, in)
	}
	_, err := s.blobs.Stat(ctx, modulesName(in.ModulesDigest))
	switch {
	case errors.Is(err, blob.ErrNotFound):
		return true, nil
	case err != nil:
		return false, err
	}
	s.modules.add(in.ModulesDigest)
	return false, nil
}

// keepModules stores a list whose digest was verified.
func (s *Server) keepModules(ctx context.Context, in *api.CheckIn) error {
	if s.modules.has(in.ModulesDigest) {
		return nil
	}
	b, err := json.Marshal(in.Modules)
	if err != nil {
		return err
	}
	if err := s.blobs.Put(ctx, modulesName(in.ModulesDigest), bytes.NewReader(b), int64(len(b))); err != nil {
		return err
	}
	s.modules.add(in.ModulesDigest)
	return nil
}

// machineModules is the list that a machine spoke of last.
func (s *Server) machineModules(ctx context.Context, id string) (api.List[api.Module], error) {
	row, err := s.store.Machine(ctx, id)
	if err != nil {
		return api.List[api.Module]{}, missing(err, "machine", id)
	}
	digest := readFacts(row.JSON).ModulesDigest
	if digest == "" {
		return api.List[api.Module]{}, refuse("TS7605", "", "this machine has not told its modules")
	}
	f, info, err := s.blobs.Open(ctx, modulesName(digest))
	if errors.Is(err, blob.ErrNotFound) {
		return api.List[api.Module]{}, refuse("TS7605", "", "this machine has not told its modules yet")
	} else if err != nil {
		return api.List[api.Module]{}, err
	}
	defer f.Close()
	var list []api.Module
	if err := json.NewDecoder(io.LimitReader(f, info.Size)).Decode(&list); err != nil {
		return api.List[api.Module]{}, err
	}
	return listOf(list, 0, nil), nil
}
