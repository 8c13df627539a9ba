// SPDX-License-Identifier: Apache-2.0

package series

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
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
	var x index
	byID := make(map[string]*Fix)
	var ids []string
	files := make(map[string]string) // by id
	headers := make(map[string]bool) // sidecars that have a diff
	for _, name := range names {
		ext := path.Ext(name)
		if ext != ".diff" && ext != ".patch" || strings.HasPrefix(name, ".") {
			continue
		}
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, err
		}
		beside := strings.TrimSuffix(name, ext) + ".yaml"
		sidecar, err := fs.ReadFile(fsys, beside)
		if errors.Is(err, fs.ErrNotExist) || beside == Index {
			sidecar = nil
		} else if err != nil {
			return nil, err
		} else if sidecar == nil {
			sidecar = []byte{}
		}
		headers[beside] = true
		f, err := ParseFix(name, text, sidecar)
		if err != nil {
			return nil, err
		}
		if byID[f.ID] != nil {
			return nil, code.New("TS1203", f.ID, files[f.ID]+" and "+name)
		}
		byID[f.ID], files[f.ID] = f, name
		ids = append(ids, f.ID)
	}
	for _, name := range names {
		if path.Ext(name) == ".yaml" && name != Index && !headers[name] {
			return nil, code.New("TS1204", name, "there is no diff of that name")
		}
	}
	text, err := fs.ReadFile(fsys, Index)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		if err := decode(Index, text, 0, &x); err != nil {
			return nil, err
		}
	}
	order := ids
	if x.Order != nil {
		order = x.Order
		for _, id := range ids {
			if !slices.Contains(order, id) {
				return nil, code.New("TS1204", Index, fmt.Sprintf("%s is not in its order", files[id]))
			}
		}
	}
	s := x.Series
	seen := make(map[string]bool)
	for _, id := range order {
		f := byID[id]
		if f == nil || seen[id] {
			return nil, code.New("TS1204", Index, fmt.Sprintf("%q is there %s", id, map[bool]string{true: "twice", false: "without a diff"}[seen[id]]))
		}
		seen[id] = true
		s.Fixes = append(s.Fixes, f)
	}
	return &s, s.checkRequires()
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
