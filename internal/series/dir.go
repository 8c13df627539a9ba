// SPDX-License-Identifier: Apache-2.0

package series

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Index is the file that gives a directory of fixes its order.
const Index = "series.yaml"

// index is what Index holds.
type index struct {
	Series `yaml:",inline"`
	Order  []string `yaml:"fixes,omitempty"` // ids
}

// ReadDir reads a directory of fixes. Files other than *.diff, *.patch, their
// headers and series.yaml are left alone. Every diff must be in the order that
// series.yaml gives, if it gives one: a fix that is there and not applied
// would be a surprise.
//
// Errors: TS1201 to TS1204 and those of fix.Parse.
func ReadDir(fsys fs.FS) (*Series, error) {
	names, err := fs.Glob(fsys, "*")
	if err != nil {
		return nil, err
	}
	files := make(map[string][]byte)
	for _, name := range names {
		if ext := path.Ext(name); strings.HasPrefix(name, ".") || ext != ".diff" && ext != ".patch" && ext != ".yaml" {
			continue
		}
		if files[name], err = fs.ReadFile(fsys, name); err != nil {
			return nil, err
		}
	}
	return FromFiles(files)
}

// FromFiles is ReadDir of files by name.
func FromFiles(files map[string][]byte) (*Series, error) {
	var x index
	byID := make(map[string]*Fix)
	var ids []string
	from := make(map[string]string) // files by id
	beside := make(map[string]bool) // headers that have a diff
	for _, name := range slices.Sorted(maps.Keys(files)) {
		ext := path.Ext(name)
		if ext != ".diff" && ext != ".patch" {
			continue
		}
		header := strings.TrimSuffix(name, ext) + ".yaml"
		var sidecar []byte
		if b, ok := files[header]; ok && header != Index {
			sidecar, beside[header] = append([]byte{}, b...), true
		}
		f, err := ParseFix(name, files[name], sidecar)
		if err != nil {
			return nil, err
		}
		if byID[f.ID] != nil {
			return nil, code.New("TS1203", f.ID, from[f.ID]+" and "+name)
		}
		byID[f.ID], from[f.ID] = f, name
		ids = append(ids, f.ID)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if path.Ext(name) == ".yaml" && name != Index && !beside[name] {
			return nil, code.New("TS1204", name, "there is no diff of that name")
		}
	}
	if err := decode(Index, files[Index], 0, &x); err != nil {
		return nil, err
	}
	order := ids
	if x.Order != nil {
		order = x.Order
		for _, id := range ids {
			if !slices.Contains(order, id) {
				return nil, code.New("TS1204", Index, fmt.Sprintf("%s is not in its order", from[id]))
			}
		}
	}
	s := x.Series
	seen := make(map[string]bool)
	for _, id := range order {
		switch {
		case byID[id] == nil:
			return nil, code.New("TS1204", Index, fmt.Sprintf("%.60q has no diff", id))
		case seen[id]:
			return nil, code.New("TS1204", Index, fmt.Sprintf("%.60q is there twice", id))
		}
		seen[id] = true
		s.Fixes = append(s.Fixes, byID[id])
	}
	if err := s.checkRequires(); err != nil {
		return nil, err
	}
	return &s, nil
}

// checkRequires: a fix that is required comes before the one that requires it.
func (s *Series) checkRequires() error {
	seen := make(map[string]bool)
	for _, f := range s.Fixes {
		for _, r := range f.Requires {
			if !seen[r] {
				why := "there is no such fix"
				if s.Fix(r) != nil {
					why = "it comes later"
				}
				return code.New("TS1204", f.ID+" requires "+r, why)
			}
		}
		seen[f.ID] = true
	}
	return nil
}

// Files writes a series as the files of a directory, by name.
func (s *Series) Files() (map[string][]byte, error) {
	out := make(map[string][]byte, len(s.Fixes)+1)
	x := index{Series: *s}
	for _, f := range s.Fixes {
		if out[f.ID+".diff"] != nil {
			return nil, code.New("TS1203", f.ID, "")
		}
		b, err := f.Encode()
		if err != nil {
			return nil, err
		}
		out[f.ID+".diff"] = b
		x.Order = append(x.Order, f.ID)
	}
	var b bytes.Buffer
	if err := encode(&b, x); err != nil {
		return nil, err
	}
	out[Index] = b.Bytes()
	return out, nil
}
