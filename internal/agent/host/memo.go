// SPDX-License-Identifier: Apache-2.0

package host

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/agent"
)

// Memo remembers what files held, for as long as the file system says that
// they are the same: each check-in looks at all fixed modules and at those
// whose place they take, and hardly ever one of them has changed.
type Memo struct {
	mu    sync.Mutex
	files map[string]remembered
	reads int // for tests
}

type remembered struct {
	stamp  unix.Stat_t
	module agent.ShippedModule
	ours   []string // of modules.dep
}

// same file, same contents: ctime changes with each write, and nobody sets it.
func same(a, b *unix.Stat_t) bool {
	return a.Dev == b.Dev && a.Ino == b.Ino && a.Size == b.Size && a.Mtim == b.Mtim && a.Ctim == b.Ctim
}

// look reads a file unless it is remembered. What read says is kept without
// an error only.
func (m *Memo) look(name string, read func(b []byte) (remembered, error)) (remembered, error) {
	f, err := os.Open(name)
	if err != nil {
		return remembered{}, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return remembered{}, err
	}
	if m != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		if old, ok := m.files[name]; ok && same(&old.stamp, &st) {
			return old, nil
		}
		m.reads++
	}
	b, err := io.ReadAll(io.LimitReader(f, maxShipped+1))
	if err == nil && int64(len(b)) > maxShipped {
		err = fmt.Errorf("%s: more than %d bytes", name, maxShipped)
	}
	if err != nil {
		return remembered{}, err
	}
	out, err := read(b)
	if err == nil && m != nil {
		if m.files == nil {
			m.files = map[string]remembered{}
		}
		out.stamp = st
		m.files[name] = out
	}
	return out, err
}

// module is the digest of a module's file, and what id reads out of it.
func (m *Memo) module(name string, id func(b []byte) (string, error)) (agent.ShippedModule, error) {
	got, err := m.look(name, func(b []byte) (remembered, error) {
		sum := sha256.Sum256(b)
		out := remembered{module: agent.ShippedModule{Digest: hex.EncodeToString(sum[:])}}
		var err error
		if id != nil {
			out.module.BuildID, err = id(b)
		}
		return out, err
	})
	return got.module, err
}

// preferred lists our files that a modules.dep leads to.
func (m *Memo) preferred(name string) ([]string, error) {
	got, err := m.look(name, func(b []byte) (remembered, error) {
		var out remembered
		for line := range strings.Lines(string(b)) {
			file, _, ok := strings.Cut(line, ":")
			if ok && path.Dir(file) == updates {
				out.ours = append(out.ours, path.Base(file))
			}
		}
		return out, nil
	})
	return got.ours, err
}
