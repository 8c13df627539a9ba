// SPDX-License-Identifier: Apache-2.0

// Package guest is the part of a proof that runs inside the virtual machine:
// the verbs that load a live patch, watch its transition, read what the
// kernel shows of it and take it out again. Package kload does all of that, as
// it does on the machines that the live patch is for. For live patches of
// packages there are verbs that start programs and bring the processes to it;
// that is the work of packages process and agent/keeper, as it is there.
package guest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/kload"
	vmguest "github.com/tsugi-project/tsugi/internal/vm/guest"
	"github.com/tsugi-project/tsugi/internal/vm/wire"
)

// Main turns this process into the guest of a proof when it was started as
// one, and then does not return. Programs call it before anything else.
func Main() {
	if _, err := os.Lstat(wire.PlanPath); err == nil && os.Args[0] == engineName {
		os.Exit(engineMain(os.Args[1:]))
	}
	all := verbs()
	maps.Copy(all, (&stage{}).verbs())
	vmguest.Main(all)
}

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

// Patch is the argument of all verbs.
type Patch struct {
	Name string `json:"name"` // of the directory in /sys/kernel/livepatch; of a package's, its id
	Path string `json:"path"` // of the .ko file; of a package's, the .tsugi file
	// Limit bounds each transition; 0 means one minute. A transition that is
	// still running then is reversed.
	LimitMS int64 `json:"limit_ms"`
	Count   int   `json:"count,omitempty"` // of cycles
	// Load is a script that runs over and over while cycles are made, so that
	// the functions are in use while they are switched.
	Load string `json:"load,omitempty"`
}

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
	Stays      bool     `json:"stays,omitempty"`   // its module is one that the kernel never unloads
	Taint      string   `json:"taint"`             // /proc/sys/kernel/tainted
}

// Object is one object of a live patch.
type Object struct {
	Name      string   `json:"name"`
	Patched   string   `json:"patched,omitempty"` // from 6.1 on: "1" when it is loaded and patched
	Functions []string `json:"functions"`         // "name,sympos", where sympos counts from 1
}

func state(_ context.Context, p Patch) (*State, error) {
	s := &State{Taint: vmguest.ReadLine("/proc/sys/kernel/tainted")}
	l := kload.New(kload.Options{})
	s.Stays = l.Stays(p.Name)
	lp, loaded, err := l.Get(p.Name)
	if err != nil {
		return s, err
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
	if s.Loaded = loaded; !loaded {
		return s, nil
	}
	s.Enabled, s.Transition, s.Replace = digit(&lp.Enabled), digit(&lp.Transition), digit(lp.Replace)
	for _, o := range lp.Objects {
		out := Object{Name: o.Name, Patched: digit(o.Patched)}
		for _, f := range o.Functions {
			out.Functions = append(out.Functions, fmt.Sprintf("%s,%d", f.Name, f.SymPos))
		}
		s.Objects = append(s.Objects, out)
	}
	return s, nil
}

// digit is what sysfs shows for a flag, "" for one that it does not show.
func digit(b *bool) string {
	switch {
	case b == nil:
		return ""
	case *b:
		return "1"
	}
	return "0"
}
