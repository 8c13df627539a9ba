// SPDX-License-Identifier: Apache-2.0

package series

import (
	"path"
	"strings"

	"github.com/tsugi-project/tsugi/internal/fix"
)

// SubsystemOf names the part of the kernel that a diff is about: the
// directory, at most three deep, of the source file with most changed lines,
// before headers, before what is no code.
func SubsystemOf(d *fix.Fix) string {
	best, bestRank, bestSize := "", 3, -1
	for _, f := range d.Files {
		rank := 2
		switch path.Ext(f.Path) {
		case ".c":
			rank = 0
		case ".h", ".S":
			rank = 1
		}
		size := 0
		for _, h := range f.Hunks {
			for _, l := range h.Lines {
				if l.Op != ' ' {
					size++
				}
			}
		}
		if rank < bestRank || rank == bestRank && size > bestSize {
			best, bestRank, bestSize = f.Path, rank, size
		}
	}
	return Subsystem(best)
}

// Subsystem is the directory of a file, at most three deep.
func Subsystem(file string) string {
	parts := strings.Split(path.Dir(file), "/")
	return strings.Join(parts[:min(3, len(parts))], "/")
}
