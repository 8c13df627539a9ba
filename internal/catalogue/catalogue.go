// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"path/filepath"
)

// Catalogue is an open catalogue. It holds no files open; what it reads is
// what is on disk at that moment.
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
