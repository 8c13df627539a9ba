// SPDX-License-Identifier: Apache-2.0

// Package guest is the part of a proof that runs inside the virtual machine:
// the verbs that load a live patch, watch its transition, read what the
// kernel shows of it and take it out again. The files it reads are those of
// Documentation/ABI/testing/sysfs-kernel-livepatch.
package guest

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

	vmguest "github.com/tsugi-project/tsugi/internal/vm/guest"
)

// Main turns this process into the guest of a proof when it was started as
// one, and then does not return. Programs call it before anything else.
func Main() { vmguest.Main(verbs()) }

func verbs() map[string]vmguest.Verb {
	t := &tracer{}
	return map[string]vmguest.Verb{
		"livepatch-load":    verb(load),
		"livepatch-revert":  verb(revert),
		"livepatch-leave":   verb(leave),
		"livepatch-state":   verb(state),
		"livepatch-watch":   verb(t.start),
		"livepatch-watched": verb(t.stop),
		"livepatch-cycle": func(ctx context.Context, env *vmguest.Env, args json.RawMessage) (any, error) {
			return verb(func(ctx context.Context, p Patch) (*Cycles, error) { return cycle(ctx, env, p) })(ctx, env, args)
		},
	}
}

// verb makes a step of a function of the patch.
func verb[R any](f func(context.Context, Patch) (R, error)) vmguest.Verb {
	return func(ctx context.Context, _ *vmguest.Env, args json.RawMessage) (any, error) {
		var p Patch
		if err := json.Unmarshal(args, &p); err != nil {
			return nil, err
		}
		return f(ctx, p)
	}
}

const sysfs = "/sys/kernel/livepatch"

// Patch is the argument of all verbs.
type Patch struct {
	Name string `json:"name"` // of the directory in /sys/kernel/livepatch
	Path string `json:"path"` // of the .ko file
	// Limit bounds each transition; 0 means one minute. A transition that is
	// still running then is reversed.
	LimitMS int64 `json:"limit_ms"`
	Count   int   `json:"count,omitempty"` // of cycles
	// Load is a script that runs over and over while cycles are made, so that
	// the functions are in use while they are switched.
	Load string `json:"load,omitempty"`
}

func (p Patch) dir() string { return filepath.Join(sysfs, p.Name) }

func (p Patch) limit() time.Duration {
	return time.Duration(cmp.Or(p.LimitMS, 60_000)) * time.Millisecond
}

// State is what the kernel shows of a live patch.
type State struct {
	Loaded     bool     `json:"loaded"`
	Enabled    string   `json:"enabled,omitempty"`
	Transition string   `json:"transition,omitempty"`
	Replace    string   `json:"replace,omitempty"` // from 6.11 on
	Objects    []Object `json:"objects,omitempty"`
	Modules    []string `json:"modules,omitempty"` // all loaded modules
	Taint      string   `json:"taint"`             // /proc/sys/kernel/tainted
}

// Object is one object of a live patch.
type Object struct {
	Name      string   `json:"name"`
	Patched   string   `json:"patched,omitempty"` // from 6.1 on: "1" when it is loaded and patched
	Functions []string `json:"functions"`         // "name,sympos", where sympos counts from 1
}

func state(_ context.Context, p Patch) (*State, error) {
	s := &State{
		Loaded: !gone(p.dir()), Enabled: value(p.dir(), "enabled"),
		Transition: value(p.dir(), "transition"), Replace: value(p.dir(), "replace"),
		Taint: vmguest.ReadLine("/proc/sys/kernel/tainted"),
	}
	mods, err := os.ReadFile("/proc/modules")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return s, err
	}
	for l := range strings.Lines(string(mods)) {
		name, _, _ := strings.Cut(l, " ")
		s.Modules = append(s.Modules, name)
	}
	slices.Sort(s.Modules)
	for _, dir := range dirs(p.dir()) {
		o := Object{Name: filepath.Base(dir), Patched: value(dir, "patched")}
		for _, f := range dirs(dir) {
			o.Functions = append(o.Functions, filepath.Base(f))
		}
		s.Objects = append(s.Objects, o)
	}
	return s, nil
}

// dirs lists the directories in a directory, ordered.
func dirs(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, filepath.Join(dir, e.Name()))
		}
	}
	return out
}

func value(dir, name string) string { return vmguest.ReadLine(filepath.Join(dir, name)) }

func gone(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, os.ErrNotExist)
}

// wait asks every millisecond.
func wait(ctx context.Context, limit time.Duration, done func() bool) bool {
	end := time.Now().Add(limit)
	for !done() {
		if ctx.Err() != nil || time.Now().After(end) {
			return false
		}
		time.Sleep(time.Millisecond)
	}
	return true
}
