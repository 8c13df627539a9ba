// SPDX-License-Identifier: Apache-2.0

package updater_test

import (
	"io/fs"
)

// endless is a file system whose files never end.
type endless struct{}

func (endless) Open(string) (fs.File, error) { return endlessFile{}, nil }

type endlessFile struct{ fs.File }

func (endlessFile) Read(b []byte) (int, error) { return len(b), nil }
func (endlessFile) Close() error               { return nil }
