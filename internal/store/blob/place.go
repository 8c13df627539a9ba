// SPDX-License-Identifier: Apache-2.0

package blob

import (
	"fmt"
	"syscall"
)

// Described is a store that says what it is.
type Described interface {
	// Describe gives the kind, "folder" or "s3", and where it is, for people.
	Describe() (kind, where string)
}

// OnDisk is a store on a disk of this host.
type OnDisk interface {
	// Space is how many bytes of the disk this process may still use, and how
	// many there are.
	Space() (free, total int64, err error)
}

// Describe says what the store is: see Described.
func (f *Folder) Describe() (kind, where string) { return "folder", f.root.Name() }

// Describe says what the store is: see Described.
func (s *S3) Describe() (kind, where string) { return "s3", s.bucket }

// Space is that of the folder's disk: see OnDisk.
func (f *Folder) Space() (free, total int64, err error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(f.root.Name(), &st); err != nil {
		return 0, 0, fmt.Errorf("free space of %s: %w", f.root.Name(), err)
	}
	return int64(st.Bavail) * st.Bsize, int64(st.Blocks) * st.Bsize, nil //nolint:gosec // no disk is that large
}
