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
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

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

// Transition is how one transition went. Times are in nanoseconds.
type Transition struct {
	Insert     int64 `json:"insert_ns"`     // in finit_module, which links the module and starts the transition
	Transition int64 `json:"transition_ns"` // from there until the kernel says that it is over
	Remove     int64 `json:"remove_ns,omitempty"`
	Complete   bool  `json:"complete"`
	// Slow are the tasks that had not switched after slowAfter, Holders those
	// that had not when the limit was reached.
	Slow     []Holder `json:"slow,omitempty"`
	Holders  []Holder `json:"holders,omitempty"`
	Reversed bool     `json:"reversed,omitempty"`
}

// Holder is a task that keeps a transition from ending.
type Holder struct {
	PID   int    `json:"pid"`
	Comm  string `json:"comm"`
	Stack string `json:"stack"`
}

// slowAfter is when a transition has missed the kernel's first looks at tasks
// that sleep, which come each second (kernel/livepatch/transition.c).
const slowAfter = 4 * time.Second

// await waits for the end of a transition towards a patch state and remembers
// who makes it slow.
func (t *Transition) await(ctx context.Context, limit time.Duration, state string, done func() bool) bool {
	if wait(ctx, min(limit, slowAfter), done) {
		return true
	}
	if limit <= slowAfter {
		return false
	}
	t.Slow = holders(state)
	return wait(ctx, limit-slowAfter, done)
}

var errStalled = errors.New("the transition did not end in time")

func load(ctx context.Context, p Patch) (*Transition, error) {
	t := &Transition{}
	start := time.Now()
	err := vmguest.InsertModule(p.Path, "")
	t.Insert = time.Since(start).Nanoseconds()
	if err != nil {
		return t, err
	}
	start = time.Now()
	t.Complete = t.await(ctx, p.limit(), "1", func() bool { return value(p.dir(), "transition") == "0" })
	t.Transition = time.Since(start).Nanoseconds()
	if t.Complete {
		return t, nil
	}
	t.Holders = holders("1")
	t.Reversed = vmguest.WriteString(filepath.Join(p.dir(), "enabled"), "0") == nil &&
		wait(ctx, p.limit(), func() bool { return gone(p.dir()) })
	return t, errStalled
}

// revert disables the patch, waits until the kernel has dropped it, and
// unloads the module, whose last reference a worker of the kernel drops.
func revert(ctx context.Context, p Patch) (*Transition, error) {
	t := &Transition{}
	start := time.Now()
	if err := vmguest.WriteString(filepath.Join(p.dir(), "enabled"), "0"); err != nil {
		return t, err
	}
	t.Complete = t.await(ctx, p.limit(), "0", func() bool { return gone(p.dir()) })
	t.Transition = time.Since(start).Nanoseconds()
	if !t.Complete {
		t.Holders = holders("0")
		return t, errStalled
	}
	start = time.Now()
	var err error
	wait(ctx, 10*time.Second, func() bool {
		err = vmguest.RemoveModule(moduleName(p.Name))
		return !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EBUSY)
	})
	t.Remove = time.Since(start).Nanoseconds()
	return t, err
}

// moduleName: the kernel turns dashes of a file's name into underscores.
func moduleName(s string) string { return strings.ReplaceAll(s, "-", "_") }

// Cycles is the result of loading and reverting again and again.
type Cycles struct {
	Count   int          `json:"count"` // complete cycles
	Loads   []Transition `json:"loads"`
	Reverts []Transition `json:"reverts"`
	// Runs counts how often the load ran to its end meanwhile, Failed how often
	// it failed, Output what it said the first time that it did.
	Runs   int    `json:"runs,omitempty"`
	Failed int    `json:"failed,omitempty"`
	Output string `json:"output,omitempty"`
}

func cycle(ctx context.Context, env *vmguest.Env, p Patch) (*Cycles, error) {
	c := &Cycles{}
	stop := c.underLoad(ctx, env, p.Load)
	defer stop()
	for i := range p.Count {
		t, err := load(ctx, p)
		c.Loads = append(c.Loads, *t)
		if err != nil {
			return c, fmt.Errorf("cycle %d: %w", i+1, err)
		}
		t, err = revert(ctx, p)
		c.Reverts = append(c.Reverts, *t)
		if err != nil {
			return c, fmt.Errorf("cycle %d: %w", i+1, err)
		}
		c.Count++
	}
	return c, nil
}

// underLoad runs a script over and over until stop is called, which lets the
// last run come to its end.
func (c *Cycles) underLoad(ctx context.Context, env *vmguest.Env, text string) (stop func()) {
	if text == "" {
		return func() {}
	}
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			// A processor that never idles keeps its idle task, which /proc does
			// not show, from switching: seen as transitions of 20 s in 6.12.
			select {
			case <-quit:
				return
			case <-time.After(50 * time.Millisecond):
			}
			r, err := vmguest.RunScript(ctx, env, vmguest.Script{Text: text})
			c.Runs++
			if err == nil && r.Exit == 0 {
				continue
			}
			if c.Failed++; c.Failed == 1 && err == nil {
				c.Output = r.Output
			}
			if ctx.Err() != nil {
				return
			}
		}
	})
	return func() { close(quit); wg.Wait() }
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

// holders lists the tasks whose /proc/PID/task/TID/patch_state is not want.
func holders(want string) []Holder {
	files, _ := filepath.Glob("/proc/[0-9]*/task/[0-9]*/patch_state")
	var out []Holder
	for _, f := range files {
		got := vmguest.ReadLine(f)
		if got == "" || got == "-1" || got == want || len(out) == 32 {
			continue
		}
		dir := filepath.Dir(f)
		h := Holder{Comm: value(dir, "comm"), Stack: value(dir, "stack")}
		_, _ = fmt.Sscan(filepath.Base(dir), &h.PID)
		out = append(out, h)
	}
	return out
}
