// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"

	"github.com/google/renameio/v2"
	"github.com/klauspost/compress/zstd"

	"github.com/tsugi-project/tsugi/internal/kernel"
)

// Cache is a cache of compiled objects that several hosts share. Keys are
// SHA-256 in hex, of everything that the object depends on, the paths of
// source and build directory among it: hosts that keep their targets in the
// same place share, others do not.
type Cache interface {
	// Get returns an entry, nil when there is none. An error is no reason to
	// stop: the object is compiled then.
	Get(ctx context.Context, key string) ([]byte, error)
	Put(ctx context.Context, key string, entry []byte) error
}

// maxObject bounds an object of the cache when it is unpacked.
const maxObject = 256 << 20

// sharedKey names a file of an object for all hosts. A tree that was built on
// one host is known there alone.
func (c *compilation) sharedKey(o Object, name string) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q", c.dir[len(c.t.Home()):], o.Path, name)
	return hex.EncodeToString(h.Sum(nil))
}

func (c *compilation) sharing() bool { return c.opt.Shared != nil && !c.t.Foreign }

// have reports whether a file of an object is in this host's cache, perhaps
// fetched from the shared one just now.
func (c *compilation) have(ctx context.Context, o Object, name string) (bool, error) {
	path := c.file(o, name)
	if _, err := os.Stat(path); err == nil {
		return true, nil
	}
	if !c.sharing() {
		return false, nil
	}
	key := c.sharedKey(o, name)
	entry, err := c.opt.Shared.Get(ctx, key)
	if err != nil || entry == nil {
		return false, kernel.Interrupted(ctx)
	}
	data, err := unpackEntry(key, entry)
	if err != nil {
		return false, nil //nolint:nilerr // damaged on its way or where it lies: it is compiled, and replaced
	}
	if err := os.MkdirAll(c.file(o, ""), 0o755); err != nil {
		return false, kernel.DiskError(c.dir, err)
	}
	if err := renameio.WriteFile(path, data, 0o644); err != nil {
		return false, kernel.DiskError(c.dir, err)
	}
	return true, nil
}

// sharedPlain fetches plain objects and their commands. It returns what has to
// be compiled.
func (c *compilation) sharedPlain(ctx context.Context, missing []Object) ([]Object, error) {
	if !c.sharing() {
		return missing, nil
	}
	var left []Object
	for _, o := range missing {
		// The command last: an object with it is whole.
		there, err := c.have(ctx, o, "plain.o")
		if err == nil && there {
			there, err = c.have(ctx, o, "cmd")
		}
		if err != nil {
			return nil, err
		}
		if there {
			if _, err := c.recorded(o); err == nil {
				continue
			}
		}
		left = append(left, o)
	}
	return left, nil
}

// share gives files of an object to the other hosts. That it fails is their
// loss of time and no error of this build.
func (c *compilation) share(ctx context.Context, o Object, names ...string) {
	if !c.sharing() {
		return
	}
	for _, name := range names {
		data, err := os.ReadFile(c.file(o, name))
		if err != nil {
			return
		}
		key := c.sharedKey(o, name)
		entry, err := packEntry(key, data)
		if err != nil || c.opt.Shared.Put(ctx, key, entry) != nil {
			return
		}
	}
}

// An entry is a line, the key and the SHA-256 of the file, and the file in a
// zstd frame: what was cut, mixed up or changed by accident is found.
const entryMagic = "tsugi-object-1"

func packEntry(key string, data []byte) ([]byte, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	return enc.EncodeAll(data, fmt.Appendf(nil, "%s %s %x\n", entryMagic, key, sum)), nil
}

func unpackEntry(key string, entry []byte) ([]byte, error) {
	head, frame, ok := bytes.Cut(entry, []byte("\n"))
	if !ok {
		return nil, errors.New("object cache: no header")
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxObject))
	if err != nil {
		return nil, err
	}
	defer dec.Close()
	data, err := dec.DecodeAll(frame, nil)
	if err != nil {
		return nil, fmt.Errorf("object cache: %w", err)
	}
	if want := fmt.Sprintf("%s %s %x", entryMagic, key, sha256.Sum256(data)); string(head) != want {
		return nil, fmt.Errorf("object cache: the entry is not the one of %s", key)
	}
	return data, nil
}
