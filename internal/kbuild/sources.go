// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"context"
	"path"
	"slices"

	"github.com/tsugi-project/tsugi/internal/progress"
)

// Sources finds the objects that .c files of the target's source are compiled
// to, each once, in the order of the files. Files that the configuration does
// not build, and such as are not code of the running kernel, have none.
func (tree *Tree) Sources(ctx context.Context, files []string, rep progress.Reporter) ([]Object, error) {
	var out []Object
	seen := map[string]bool{}
	for _, f := range files {
		if path.Ext(f) != ".c" || notRunning(f) != "" || seen[f] {
			continue
		}
		seen[f] = true
		objs, err := tree.m.objectsOf(ctx, f, rep)
		if err != nil {
			return nil, err
		}
		out = append(out, objs...)
	}
	return slices.Clip(out), nil
}
