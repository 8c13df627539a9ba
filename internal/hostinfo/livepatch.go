// SPDX-License-Identifier: Apache-2.0

package hostinfo

import (
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
)

const livepatchDir = "sys/kernel/livepatch"

// Livepatch is a live patch as /sys/kernel/livepatch shows it
// (Documentation/ABI/testing/sysfs-kernel-livepatch).
type Livepatch struct {
	Name       string            `json:"name"`
	Enabled    bool              `json:"enabled"`
	Transition bool              `json:"transition"`
	Replace    *bool             `json:"replace,omitempty"` // shown from 6.11 on
	Objects    []LivepatchObject `json:"objects,omitempty"` // ordered by name
}

// LivepatchObject is one object of a live patch.
type LivepatchObject struct {
	Name      string              `json:"name"`              // "vmlinux" or a module
	Patched   *bool               `json:"patched,omitempty"` // shown from 6.1 on: it is loaded and patched
	Functions []LivepatchFunction `json:"functions,omitempty"`
}

// LivepatchFunction is a function that is replaced.
type LivepatchFunction struct {
	Name   string `json:"name"`
	SymPos int    `json:"sympos"` // counts from 1; a unique name is the first
}

// ParseFunction reads the name of a directory, "function,sympos".
func ParseFunction(dir string) (LivepatchFunction, error) {
	i := strings.LastIndexByte(dir, ',')
	if i <= 0 {
		return LivepatchFunction{}, fmt.Errorf("%.80q is not a function and a position", dir)
	}
	n, err := strconv.Atoi(dir[i+1:])
	if err != nil || n < 0 {
		return LivepatchFunction{}, fmt.Errorf("%.80q has no position", dir)
	}
	return LivepatchFunction{Name: dir[:i], SymPos: n}, nil
}

// Livepatches lists the live patches of the system below root; supported says
// whether its kernel can have any.
func Livepatches(root string) (patches []Livepatch, supported bool, err error) {
	r := &Reader{Root: root}
	supported, patches = r.livepatches()
	if len(r.unread) > 0 {
		err = fmt.Errorf("%s: %s", r.unread[0].Path, r.unread[0].Err)
	}
	return patches, supported, err
}

func (r *Reader) livepatches() (supported bool, out []Livepatch) {
	names, err := r.dirs(livepatchDir)
	if err != nil {
		if !absent(err) {
			r.note(livepatchDir, err)
			return true, nil
		}
		return false, nil
	}
	for _, n := range names {
		if p, ok := r.livepatch(n); ok {
			out = append(out, p)
		}
	}
	return true, out
}

// livepatch reads one; ok is false when it has gone meanwhile.
func (r *Reader) livepatch(name string) (p Livepatch, ok bool) {
	dir := path.Join(livepatchDir, name)
	p.Name = name
	enabled := r.flag(path.Join(dir, "enabled"))
	transition := r.flag(path.Join(dir, "transition"))
	if enabled == nil || transition == nil {
		return p, false
	}
	p.Enabled, p.Transition, p.Replace = *enabled, *transition, r.flag(path.Join(dir, "replace"))
	objects, err := r.dirs(dir)
	if err != nil {
		return p, false
	}
	for _, o := range objects {
		obj := LivepatchObject{Name: o, Patched: r.flag(path.Join(dir, o, "patched"))}
		functions, err := r.dirs(path.Join(dir, o))
		if err != nil {
			return p, false
		}
		for _, f := range functions {
			if fn, err := ParseFunction(f); err == nil {
				obj.Functions = append(obj.Functions, fn)
			} else {
				r.note(path.Join(dir, o, f), err)
			}
		}
		p.Objects = append(p.Objects, obj)
	}
	return p, true
}

// flag reads a file with 0 or 1, N or Y; nil when it cannot be read or holds
// something else.
func (r *Reader) flag(file string) *bool {
	b, err := r.bytes(file, maxSmall)
	if err != nil {
		if !absent(err) && !gone(err) {
			r.note(file, err)
		}
		return nil
	}
	v := false
	switch strings.TrimSpace(string(b)) {
	case "1", "Y":
		v = true
	case "0", "N":
	default:
		return nil
	}
	return &v
}

// dirs lists the directories in a directory, ordered.
func (r *Reader) dirs(dir string) ([]string, error) {
	entries, err := os.ReadDir(r.path(dir))
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() && len(out) < maxItems {
			out = append(out, e.Name())
		}
	}
	return out, nil
}
