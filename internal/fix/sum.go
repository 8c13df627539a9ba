// SPDX-License-Identifier: Apache-2.0

package fix

import (
	"io/fs"
)

// A Sum is what fixes, one after the other, make of a source tree: two of them
// may touch one file, even one function.
type Sum struct {
	read    func(path string) ([]byte, error)
	changes map[string]Change // by path, against the tree
}

// NewSum begins with the tree that read tells of, as Apply wants it.
func NewSum(read func(path string) ([]byte, error)) *Sum {
	return &Sum{read: read, changes: map[string]Change{}}
}

// Add applies one more fix and returns what its hunks needed beyond their exact
// places. After an error the sum is what it was before.
func (s *Sum) Add(f *Fix) (notes []string, err error) {
	changes, err := f.Apply(s.now)
	if err != nil {
		return nil, err
	}
	for _, c := range changes {
		notes = append(notes, c.Notes...)
		c.Notes = nil
		if before, ok := s.changes[c.Path]; ok {
			c.Old, c.Created = before.Old, before.Old == nil
		}
		s.changes[c.Path] = c
	}
	return notes, nil
}

// Changes are all files that some fix has touched, by their paths; of one that
// fixes gave back what others took, Old and New are the same.
func (s *Sum) Changes() map[string]Change { return s.changes }

// now reads a file as the fixes so far have it.
func (s *Sum) now(path string) ([]byte, error) {
	c, ok := s.changes[path]
	switch {
	case !ok:
		return s.read(path)
	case c.Deleted:
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return c.New, nil
}
