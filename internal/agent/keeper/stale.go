// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"cmp"
	"context"
	"math/bits"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/order"
	"github.com/tsugi-project/tsugi/internal/process/proc"
)

// How often processes are asked which of their files have been replaced, and how
// long one of them may take.
const (
	staleEvery = 2 * time.Minute
	staleEach  = time.Second
)

// Outdated looks at all processes.
func (h Host) Outdated(ctx context.Context) ([]Outdated, error) {
	ids, err := proc.List(ctx)
	if err != nil {
		return nil, err
	}
	var out []Outdated
	for _, id := range ids {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		ctx, cancel := context.WithTimeout(ctx, staleEach)
		if o, ok := outdated(ctx, id); ok {
			out = append(out, o)
		}
		cancel()
	}
	return out, nil
}

// installed reports whether a file lies where packages install to. A server need
// not know what people build and run in their homes.
func installed(path string) bool {
	for _, dir := range []string{"/usr/", "/bin/", "/sbin/", "/lib/", "/lib32/", "/lib64/", "/libx32/", "/opt/"} {
		if strings.HasPrefix(path, dir) {
			return true
		}
	}
	return false
}

// stale sums up what the server is told of processes that run files that have been
// replaced, and counts them by package: of has the packages by build-id.
func stale(list []Outdated, of map[string][]string) (api.Stale, map[string]int) {
	type key struct{ path, build string }
	sum, files, packages := api.Stale{}, map[key]*api.StaleFile{}, map[string]int{}
	for _, o := range list {
		once := map[string]bool{}
		for i, path := range o.Files {
			if !installed(path) {
				continue
			}
			build := o.builds[i]
			for _, id := range append([]string{" "}, of[build]...) {
				if !once[id] {
					once[id] = true
					packages[id]++
				}
			}
			k := key{path, build}
			if once[path+" "+build] {
				continue // mapped twice
			}
			once[path+" "+build] = true
			f := files[k]
			if f == nil {
				f = &api.StaleFile{Path: short(path, api.MaxStalePath), BuildID: build, Program: short(o.Name, 64)}
				files[k] = f
			}
			f.Processes++
			f.Program = min(f.Program, short(o.Name, 64))
		}
	}
	sum.Processes = packages[" "]
	delete(packages, " ")
	for _, f := range files {
		sum.Files = append(sum.Files, *f)
	}
	byPath := func(x, y api.StaleFile) int {
		return cmp.Or(cmp.Compare(x.Path, y.Path), cmp.Compare(x.BuildID, y.BuildID))
	}
	// By the magnitude alone: which files are told shall not change with every
	// process that ends.
	order.Sort(sum.Files, func(x, y api.StaleFile) int {
		return cmp.Or(-cmp.Compare(bits.Len(uint(x.Processes)), bits.Len(uint(y.Processes))), byPath(x, y))
	})
	if n := len(sum.Files); n > api.MaxStaleFiles {
		sum.Files, sum.More = sum.Files[:api.MaxStaleFiles], n-api.MaxStaleFiles
	}
	order.Sort(sum.Files, byPath)
	return sum, packages
}

// short is what the server takes of a text: processes choose the names of files.
func short(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)
	if utf8.RuneCountInString(s) > most {
		s = string([]rune(s)[:most-1]) + "…"
	}
	return s
}

// staleNow is what is told of processes now.
func (k *Keeper) staleNow(ctx context.Context, path string, senses Senses) (*Stale, error) {
	list, err := senses.Outdated(ctx)
	if err != nil {
		return nil, err
	}
	_, of, err := sought(path)
	if err != nil {
		return nil, err
	}
	sum, packages := stale(list, of)
	return &Stale{Stale: sum, Packages: populations(packages)}, nil
}
