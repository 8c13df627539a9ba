// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/order"
	"github.com/tsugi-project/tsugi/internal/process/proc"
	"github.com/tsugi-project/tsugi/internal/splice"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// Patch is a live patch of the directory.
type Patch struct {
	ID      string   `json:"id"`
	Target  string   `json:"target"`
	Version int      `json:"version"`
	Digest  string   `json:"sha256"` // of the file
	Fixes   []string `json:"fixes,omitempty"`
	CVEs    []string `json:"cves,omitempty"`
	Files   []string `json:"files"` // names
	// BuildIDs are those of Files, so that it can be taken out without its file.
	BuildIDs []string `json:"build_ids,omitempty"`
	Applied  int64    `json:"applied"`
	// Only are the processes that it was applied to; none: all, those that start
	// later as well.
	Only []proc.ID `json:"only,omitempty"`
	// Out: it is being taken out of the processes that had it.
	Out bool `json:"out,omitempty"`
	// By is the version that took its place.
	By string `json:"replaced_by,omitempty"`
	// unwritten: By is not in its record yet.
	unwritten bool
	// Given: the agent gave it, by the signed index of this machine.
	Given bool `json:"given,omitempty"`
	// Met: a pass has been through all processes with it. Strangers are those that
	// could not be looked into then, so that none of them got it.
	Met       bool      `json:"met,omitempty"`
	Strangers []proc.ID `json:"strangers,omitempty"`
}

// directory holds, for each live patch, ID.tsugi as it was given and ID.json, a
// Patch. It is for root alone.
type directory struct{ path string }

func (d directory) file(id, kind string) string { return filepath.Join(d.path, id+"."+kind) }

// lock takes the lock of the directory, which is made. It is the directory's
// own: nobody else can open it.
func (d directory) lock(ctx context.Context, patience time.Duration) (unlock func(), err error) {
	if err := os.MkdirAll(d.path, 0o700); err != nil {
		return nil, code.New("TS9661", d.path, "").With(err)
	}
	f, err := os.Open(d.path)
	if err != nil {
		return nil, code.New("TS9661", d.path, "").With(err)
	}
	if err := flock(ctx, f, patience); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// changed is a time that differs after every change.
func (d directory) changed() time.Time {
	s, err := os.Stat(d.path)
	if err != nil {
		return time.Time{}
	}
	return s.ModTime()
}

// list reads the records, ordered by target and version.
func (d directory) list() ([]Patch, error) {
	names, err := os.ReadDir(d.path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, code.New("TS9661", d.path, "").With(err)
	}
	all := []Patch{}
	for _, e := range names {
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || !trust.ValidPatchID(id) {
			continue
		}
		b, err := os.ReadFile(d.file(id, "json"))
		if err != nil {
			return nil, code.New("TS9661", d.file(id, "json"), "").With(err)
		}
		var p Patch
		if err := json.Unmarshal(b, &p); err != nil || p.ID != id {
			return nil, code.New("TS9661", d.file(id, "json"), "it is damaged").With(err)
		}
		all = append(all, p)
	}
	order.Sort(all, func(a, b Patch) int {
		return cmp.Or(cmp.Compare(a.Target, b.Target), cmp.Compare(a.Version, b.Version))
	})
	return settled(all), nil
}

// load reads the records and what follows from them: first what is out, as what
// is taken out may do harm, then what is in. Of a live patch that was replaced only those files are out that no
// other one brings to all processes. The error is about live patches that can't
// be read; the others are there all the same, when the records are.
func (d directory) load() ([]Patch, []Want, error) {
	all, err := d.list()
	if err != nil {
		return nil, nil, err
	}
	var in, out []Want
	var broken []error
	have := map[string]bool{} // build-ids
	gone := func(p Patch) bool { return p.Out || p.By != "" }
	for _, p := range all {
		if gone(p) {
			continue
		}
		_, splices, err := d.read(p)
		if err != nil {
			broken = append(broken, err)
			continue
		}
		w := Want{Patch: p.ID, Files: splices, Only: p.Only}
		for _, later := range all {
			if later.Target == p.Target && later.Version > p.Version && !gone(later) {
				w.Except = append(w.Except, later.Only...)
			}
		}
		in = append(in, w)
		if p.Only != nil {
			continue
		}
		for _, s := range splices {
			have[s.BuildID] = true
		}
	}
	for _, p := range all {
		if !gone(p) {
			continue
		}
		splices, err := d.files(p)
		if err != nil {
			broken = append(broken, err)
			continue
		}
		splices = slices.DeleteFunc(splices, func(s *splice.File) bool { return have[s.BuildID] })
		if len(splices) > 0 {
			out = append(out, Want{Patch: p.ID, Files: splices, Out: true})
		}
	}
	return all, append(out, in...), errors.Join(broken...)
}

// files are what a live patch is for, by what its record says: enough to take it
// out, whatever has become of its file.
func (d directory) files(p Patch) ([]*splice.File, error) {
	if len(p.BuildIDs) == 0 || len(p.BuildIDs) != len(p.Files) {
		_, splices, err := d.read(p)
		return splices, err
	}
	var all []*splice.File
	for i, id := range p.BuildIDs {
		all = append(all, &splice.File{BuildID: id, Name: p.Files[i]})
	}
	return all, nil
}

// read reads and checks the file of a record.
func (d directory) read(p Patch) (*livepatch.Patch, []*splice.File, error) {
	b, err := os.ReadFile(d.file(p.ID, "tsugi"))
	if err != nil {
		return nil, nil, code.New("TS9661", d.file(p.ID, "tsugi"), "").With(err)
	}
	l, splices, err := Open(b)
	if err == nil && digest(b) != p.Digest {
		err = code.New("TS9661", d.file(p.ID, "tsugi"), "it is not the file that was applied")
	}
	return l, splices, err
}

// put keeps a live patch; the record comes last.
func (d directory) put(p Patch, file []byte) error {
	if file != nil {
		if err := renameio.WriteFile(d.file(p.ID, "tsugi"), file, 0o600); err != nil {
			return code.New("TS9661", d.path, "").With(err)
		}
	}
	b, err := json.Marshal(p)
	if err == nil {
		err = renameio.WriteFile(d.file(p.ID, "json"), append(b, '\n'), 0o600)
	}
	if err != nil {
		return code.New("TS9661", d.path, "").With(err)
	}
	return nil
}

// drop forgets a live patch; the record goes first.
func (d directory) drop(id string) error {
	for _, kind := range []string{"json", "tsugi"} {
		if err := os.Remove(d.file(id, kind)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return code.New("TS9661", d.path, "").With(err)
		}
	}
	return nil
}
