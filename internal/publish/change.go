// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/trust/repo"
)

// job is one change of the repository.
type job struct {
	s    *Service
	tx   *store.Tx
	repo *repo.Repo

	blocks map[string][]store.LivePatch // those that are blocked, by build-id: see blocked
}

// maxTries bounds how often a change is done again because another server
// signed in between.
const maxTries = 10

// change opens the repository, lets f change it and the store, signs what
// follows and serves it.
func (s *Service) change(ctx context.Context, f func(*job) error) error {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	var err error
	reloaded := false
	for try := range maxTries {
		err = s.store.Update(ctx, func(tx *store.Tx) error { return s.changeOnce(ctx, tx, f) })
		if code.Of(err) == "TS7130" && !reloaded {
			if reloaded = s.reload(); reloaded {
				continue
			}
		}
		if !errors.Is(err, errSigned) {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(try+1) * 20 * time.Millisecond):
		}
	}
	if errors.Is(err, errSigned) {
		return code.New("TS7708", "", fmt.Sprintf("%d times", maxTries))
	}
	if err != nil {
		return err
	}
	return s.Sync(ctx)
}

// reload reads the keys anew, and says whether there are any to go on with.
func (s *Service) reload() bool {
	if s.load == nil {
		return false
	}
	keys, err := s.load()
	if err != nil {
		s.log.Error("keys not read again", "err", err)
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = keys
	return true
}

// errSigned is a change that another server's came before.
var errSigned = errors.New("another server signed meanwhile")

func (s *Service) changeOnce(ctx context.Context, tx *store.Tx, f func(*job) error) error {
	// Whoever does not wait here does it all again, and under load for ever.
	if err := tx.LockTUF(ctx); err != nil {
		return err
	}
	files, generation, err := tx.TUFFiles(ctx)
	if err != nil {
		return err
	}
	if generation == 0 {
		return code.New("TS7709", "", "")
	}
	ring, err := s.ring(ctx, tx.Reader)
	if err != nil {
		return err
	}
	r, err := repo.Open(byRole(files), ring, s.life)
	if err != nil {
		return err
	}
	before := r.Versions()
	if err := f(&job{s: s, tx: tx, repo: r}); err != nil {
		return err
	}
	// f may have brought keys.
	if ring, err = s.ring(ctx, tx.Reader); err != nil {
		return err
	}
	r.UseKeys(ring)
	if _, err := r.Sign(s.now()); err != nil {
		return err
	}
	changed := rows(r, before)
	if len(changed) == 0 {
		return nil
	}
	if _, err := tx.SaveTUF(ctx, changed, generation); errors.Is(err, store.ErrConflict) {
		return errSigned
	} else if err != nil {
		return err
	}
	return nil
}

// byRole picks the newest file of each role.
func byRole(files []store.TUFFile) map[string][]byte {
	newest, out := map[string]int64{}, map[string][]byte{}
	for _, f := range files {
		if f.Version >= newest[f.Role] {
			newest[f.Role], out[f.Role] = f.Version, f.Body
		}
	}
	return out
}

// rows are the files of the repository that differ from the versions before.
func rows(r *repo.Repo, before map[string]int64) []store.TUFFile {
	var out []store.TUFFile
	now, bodies := r.Versions(), r.ByRole()
	for role, v := range now {
		if before[role] != v {
			out = append(out, store.TUFFile{Role: role, Version: v, Name: repo.FileName(role, v), Body: bodies[role]})
		}
	}
	slices.SortFunc(out, func(a, b store.TUFFile) int { return strings.Compare(a.Role, b.Role) })
	return out
}

func (j *job) audit(ctx context.Context, actor, action, object, detail string) error {
	return j.tx.Audit(ctx, store.AuditEntry{Actor: actor, Action: action, Object: object, Detail: detail})
}
