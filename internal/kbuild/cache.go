// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/kernel"
)

// Usage is what the cache of a target's objects holds, in bytes.
type Usage struct {
	Objects   int   `json:"objects"`   // originals
	Originals int64 `json:"originals"` // of each object, plain and with one section per symbol
	Patched   int64 `json:"patched"`   // objects of selections, with what is known of their texts
	Index     int64 `json:"index"`     // of makefiles, includes and words
}

// Total is all of it.
func (u Usage) Total() int64 { return u.Originals + u.Patched + u.Index }

// Cached measures the cache of a target's objects.
func Cached(ctx context.Context, t *kernel.Target) (Usage, error) {
	var u Usage
	err := eachCached(ctx, t, func(path string, st fs.FileInfo) error {
		switch name := filepath.Base(path); {
		case strings.Contains(path, "/.kbuild/"):
			u.Index += st.Size()
		case ofSelection(name):
			u.Patched += st.Size()
		default:
			u.Originals += st.Size()
			if name == "orig.o" {
				u.Objects++
			}
		}
		return nil
	})
	return u, err
}

// Clean removes from the cache of a target what no build has used for a time:
// objects of selections, and preprocessed texts. Originals stay; they cost the
// most to make. What was used within two days always stays: a build that is
// running may need it.
func Clean(ctx context.Context, t *kernel.Target, unused time.Duration) (files int, bytes int64, err error) {
	limit := time.Now().Add(-max(unused, 48*time.Hour))
	err = eachCached(ctx, t, func(path string, st fs.FileInfo) error {
		if !ofSelection(filepath.Base(path)) || st.ModTime().After(limit) {
			return nil
		}
		if err := os.Remove(path); err != nil {
			return err
		}
		files++
		bytes += st.Size()
		return nil
	})
	return files, bytes, err
}

// ofSelection tells a file that belongs to a selection of fixes, or can be made
// from one that stays.
func ofSelection(name string) bool {
	if name == "orig.i.zst" {
		return true
	}
	for _, p := range []string{"patched-", "same-", "ways-", "iways-"} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

func eachCached(ctx context.Context, t *kernel.Target, do func(path string, st fs.FileInfo) error) error {
	key, err := targetKey(t)
	if err != nil {
		return err
	}
	return filepath.WalkDir(filepath.Join(t.Home(), "objects", key), func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // nothing was built yet, or it was moved away just now
		}
		if err != nil {
			return err
		}
		if err := kernel.Interrupted(ctx); err != nil || !d.Type().IsRegular() {
			return err
		}
		st, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return do(path, st)
	})
}

// used notes that a build needs a file of the cache, for Clean. Once a day is
// enough.
func used(path string) {
	now := time.Now()
	if st, err := os.Stat(path); err == nil && now.Sub(st.ModTime()) > 24*time.Hour {
		_ = os.Chtimes(path, now, now) // at worst it is made again
	}
}
