// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/series"
)

// Own is the series that fixes go to when no other is named.
const Own = "own"

// Catalogue is an open catalogue. It holds no files open; what it reads is
// what is on disk at that moment. Writers lock each other out.
type Catalogue struct{ dir string }

// Open opens the catalogue in a directory. It need not exist: the first write
// makes it.
func Open(dir string) (*Catalogue, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	return &Catalogue{dir}, nil
}

// Dir is the catalogue's directory, absolute.
func (c *Catalogue) Dir() string { return c.dir }

// lock keeps other processes from writing. The lock file is named so that git
// leaves it alone where .gitignore says so, which the first lock writes.
func (c *Catalogue) lock(ctx context.Context) (unlock func(), err error) {
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return nil, kernel.DiskError(c.dir, err)
	}
	ignore := filepath.Join(c.dir, ".gitignore")
	if _, err := os.Stat(ignore); errors.Is(err, fs.ErrNotExist) {
		if err := writeFile(ignore, []byte("/.lock\n")); err != nil {
			return nil, err
		}
	}
	return kernel.Lock(ctx, filepath.Join(c.dir, ".lock"), "catalogue", true)
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~-]{0,99}$`)

func (c *Catalogue) seriesDir(name string) (string, error) {
	if !nameForm.MatchString(name) {
		return "", code.New("TS1206", name, "a series' name is made of letters, digits, . _ + ~ and -")
	}
	return filepath.Join(c.dir, "series", name), nil
}

// Names lists the series, ordered.
func (c *Catalogue) Names() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(c.dir, "series"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() && nameForm.MatchString(e.Name()) {
			out = append(out, e.Name())
		}
	}
	return out, err
}

// Series reads a series, with what feeds told of its CVEs filled in. Errors:
// TS1206 when there is none of that name, those of series.ReadDir.
func (c *Catalogue) Series(name string) (*series.Series, error) {
	s, err := c.plain(name)
	if err != nil {
		return nil, err
	}
	return s, c.annotate(s)
}

// plain reads a series as it is on disk.
func (c *Catalogue) plain(name string) (*series.Series, error) {
	dir, err := c.seriesDir(name)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		have, _ := c.Names()
		p := code.New("TS1206", name, "")
		if len(have) > 0 {
			p.Why = "there is " + strings.Join(have, ", ")
		}
		return nil, p
	}
	s, err := series.ReadDir(os.DirFS(dir))
	if err != nil {
		return nil, err
	}
	if s.Name == "" {
		s.Name = name
	}
	return s, nil
}

// Change reads a series, lets change alter it and writes what became of it;
// when change returns an error nothing is written. A series that is not there
// is made.
func (c *Catalogue) Change(ctx context.Context, name string, change func(*series.Series) error) error {
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	s, err := c.plain(name)
	if code.Of(err) == "TS1206" && nameForm.MatchString(name) {
		s, err = &series.Series{Name: name}, nil
	}
	if err != nil {
		return err
	}
	if err := change(s); err != nil {
		return err
	}
	return c.write(name, s)
}

// Put adds a fix to a series, or replaces the one with its id.
func (c *Catalogue) Put(ctx context.Context, name string, f *series.Fix) error {
	return c.Change(ctx, name, func(s *series.Series) error {
		if i := slices.IndexFunc(s.Fixes, func(o *series.Fix) bool { return o.ID == f.ID }); i >= 0 {
			s.Fixes[i] = f
		} else {
			s.Fixes = append(s.Fixes, f)
		}
		return nil
	})
}

// Remove takes fixes out of a series. Errors: TS1205 for an id that is not
// there, TS1204 when another fix requires one.
func (c *Catalogue) Remove(ctx context.Context, name string, ids []string) error {
	return c.Change(ctx, name, func(s *series.Series) error {
		for _, id := range ids {
			if s.Fix(id) == nil {
				return code.New("TS1205", id, "series "+name)
			}
			s.Fixes = slices.DeleteFunc(s.Fixes, func(f *series.Fix) bool { return f.ID == id })
		}
		for _, f := range s.Fixes {
			for _, r := range f.Requires {
				if slices.Contains(ids, r) {
					return code.New("TS1204", f.ID+" requires "+r, "it would be left without").WithFix("remove both, or edit what it requires")
				}
			}
		}
		return nil
	})
}

// write makes a series' directory what the series is: files of fixes that are
// no more in it are removed, others are left alone. Each file is written
// whole; the order is written before what it no longer names goes.
func (c *Catalogue) write(name string, s *series.Series) error {
	dir, err := c.seriesDir(name)
	if err != nil {
		return err
	}
	files, err := s.Files()
	if err != nil {
		return err
	}
	// What is written must be readable: a mistake shows now, not later.
	if _, err := series.FromFiles(files); err != nil {
		return err
	}
	for _, f := range s.Fixes {
		path, b := filepath.Join(dir, f.ID+".diff"), files[f.ID+".diff"]
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, b) {
			continue
		}
		if err := writeFile(path, b); err != nil {
			return err
		}
	}
	if err := writeFile(filepath.Join(dir, series.Index), files[series.Index]); err != nil {
		return err
	}
	have, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range have {
		ext := filepath.Ext(e.Name())
		hidden := strings.HasPrefix(e.Name(), ".")
		gone := ext == ".diff" && files[e.Name()] == nil || !hidden && (ext == ".patch" || ext == ".yaml" && e.Name() != series.Index)
		if gone {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
