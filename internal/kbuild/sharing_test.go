// SPDX-License-Identifier: Apache-2.0

package kbuild_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/kbuild"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/testenv"
)

// memory is a shared cache.
type memory struct {
	mu      sync.Mutex
	entries map[string][]byte
	err     error
}

func (m *memory) Get(_ context.Context, key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.entries[key], m.err
}

func (m *memory) Put(_ context.Context, key string, entry []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil {
		m.entries[key] = entry
	}
	return m.err
}

// stages is a reporter that keeps which stages there were.
type stages struct {
	progress.Reporter
	mu    sync.Mutex
	names []string
}

func (s *stages) Start(name string, total int64, unit progress.Unit) progress.Task {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names = append(s.names, name)
	return s.Reporter.Start(name, total, unit)
}

// TestHostsShareObjects stands for two hosts by taking away what the first
// has compiled.
func TestHostsShareObjects(t *testing.T) {
	target := testenv.Kernel(t, testenv.Demo)
	const path = "fs/nls/nls_ascii.c"
	f := edit(t, target, map[string]func(string) string{path: replace("return -ENAMETOOLONG", "return -E2BIG")})
	objs := []kbuild.Object{{Path: "fs/nls/nls_ascii.o", Source: path, Module: "nls_ascii"}}
	shared := &memory{entries: map[string][]byte{}}
	host := func() (pair kbuild.Pair, compiled []string) {
		t.Helper()
		s := &stages{Reporter: progress.Discard}
		pairs, err := kbuild.Compile(t.Context(), target, f, objs, kbuild.Options{Shared: shared}, s)
		qt.Assert(t, qt.IsNil(err))
		return pairs[0], s.names
	}
	read := func(p kbuild.Pair) (all [][]byte) {
		for _, file := range []string{p.Plain, p.Orig, p.Patched} {
			b, err := os.ReadFile(file)
			qt.Assert(t, qt.IsNil(err))
			all = append(all, b)
		}
		return all
	}
	pair, _ := host()
	forget := func() { qt.Assert(t, qt.IsNil(os.RemoveAll(filepath.Dir(pair.Plain)))) }
	forget()
	clear(shared.entries)
	_, compiled := host()
	both := []string{"compile originals", "compile pairs"}
	qt.Check(t, qt.DeepEquals(compiled, both))
	qt.Check(t, qt.HasLen(shared.entries, 5)) // the command and what was read as well
	first := read(pair)

	forget()
	_, compiled = host()
	qt.Check(t, qt.HasLen(compiled, 0))
	for i, b := range read(pair) {
		qt.Check(t, qt.IsTrue(string(b) == string(first[i])))
	}

	// Damaged entries are compiled again and replaced; a cache that is away is
	// no error.
	for _, key := range slices.Collect(maps.Keys(shared.entries)) {
		shared.entries[key] = append([]byte("x"), shared.entries[key]...)
	}
	forget()
	_, compiled = host()
	qt.Check(t, qt.DeepEquals(compiled, both))
	forget()
	_, compiled = host()
	qt.Check(t, qt.HasLen(compiled, 0))
	shared.err = errors.New("away")
	forget()
	_, compiled = host()
	qt.Check(t, qt.DeepEquals(compiled, both))

	// A survey may hold the build directory for minutes: who has everything
	// does not wait for it.
	key, _, _ := strings.Cut(strings.TrimPrefix(pair.Plain, filepath.Join(target.Home(), "objects")+"/"), "/")
	unlock, err := kernel.Lock(t.Context(), filepath.Join(target.Home(), "locks", "build-"+key), "build directory", true)
	qt.Assert(t, qt.IsNil(err))
	defer unlock()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err = kbuild.Compile(ctx, target, f, objs, kbuild.Options{}, progress.Discard)
	qt.Check(t, qt.IsNil(err))
}

// TestHeadersAreThoseThatTheCompilerRead, wherever they lie; of an object that
// nobody compiled none are known.
func TestHeadersAreThoseThatTheCompilerRead(t *testing.T) {
	target := testenv.Kernel(t, testenv.Demo)
	objs := []kbuild.Object{{Path: "fs/nls/nls_ascii.o", Source: "fs/nls/nls_ascii.c", Module: "nls_ascii"}}
	qt.Assert(t, qt.IsNil(kbuild.Originals(t.Context(), target, objs, kbuild.Options{}, progress.Discard)))
	headers, known, err := kbuild.Headers(target, objs)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(known))
	qt.Check(t, qt.SliceContains(headers, "include/linux/nls.h"))
	_, known, err = kbuild.Headers(target, append(objs, kbuild.Object{Path: "fs/nls/none.o", Source: "fs/nls/none.c"}))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsFalse(known))
}
