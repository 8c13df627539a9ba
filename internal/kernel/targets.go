// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Targets is a directory of targets: of each, NAME/target.json, which is written
// last. What it says is the caller's, but for its name and its format.
type Targets string

// Dir is the directory of a target.
func (d Targets) Dir(name string) string { return filepath.Join(string(d), FileName(name)) }

func (d Targets) file(name string) string { return filepath.Join(d.Dir(name), "target.json") }

// Read reads a target into t. It is TS2302 when there is none of that name, and
// TS2315 when it is not in this format.
func (d Targets) Read(name string, format int, t any) error {
	path := d.file(name)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		p := code.New("TS2302", name, "")
		if have := d.Names(); len(have) > 0 {
			p.Why = "there is " + strings.Join(have, ", ")
		}
		return p
	}
	if err != nil {
		return err
	}
	var head struct {
		Format int
		Name   string
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return code.New("TS2315", path, "").With(err)
	}
	if head.Format != format || head.Name != name {
		return code.New("TS2315", path, fmt.Sprintf("format %d of target %q", head.Format, head.Name))
	}
	if err := json.Unmarshal(b, t); err != nil {
		return code.New("TS2315", path, "").With(err)
	}
	return nil
}

// Names are those of the targets that are whole, ordered.
func (d Targets) Names() []string {
	files, _ := filepath.Glob(filepath.Join(string(d), "*", "target.json"))
	var names []string
	for _, f := range files {
		var t struct{ Name string }
		if b, err := os.ReadFile(f); err == nil && json.Unmarshal(b, &t) == nil {
			names = append(names, t.Name)
		}
	}
	slices.Sort(names)
	return names
}

// Write makes a target whole.
func (d Targets) Write(name string, t any) error {
	b, err := json.MarshalIndent(t, "", "\t")
	if err != nil {
		return err
	}
	return DiskError(d.file(name), renameio.WriteFile(d.file(name), append(b, '\n'), 0o644))
}

// ReadAll opens targets in turn.
func ReadAll[T any](names []string, get func(string) (T, error)) ([]T, error) {
	var all []T
	for _, name := range names {
		t, err := get(name)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, nil
}
