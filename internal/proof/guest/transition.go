// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/kload"
	vmguest "github.com/tsugi-project/tsugi/internal/vm/guest"
)

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

func (t *Transition) set(k kload.Transition) {
	t.Transition, t.Complete = k.Duration.Nanoseconds(), k.Done
	t.Slow, t.Holders = holders(k.Slow), holders(k.Holders)
}

func holders(tasks []kload.Task) []Holder {
	var out []Holder
	for _, k := range tasks {
		out = append(out, Holder{PID: k.TID, Comm: k.Comm, Stack: strings.Join(k.Stack, "\n")})
	}
	return out
}

func load(ctx context.Context, p Patch) (*Transition, error) {
	t, l := &Transition{}, kload.New(kload.Options{})
	module, err := os.ReadFile(p.Path)
	if err != nil {
		return t, err
	}
	start := time.Now()
	err = l.Load(ctx, module, p.Name)
	t.Insert = time.Since(start).Nanoseconds()
	if err != nil {
		return t, err
	}
	k, err := l.Watch(ctx, p.Name, kload.Patched, kload.WatchOptions{Limit: p.limit()})
	t.set(k)
	if code.Of(err) == "TS9309" {
		_, back := l.Revert(ctx, p.Name, kload.WatchOptions{Limit: p.limit()})
		t.Reversed = back == nil
	}
	return t, err
}

// revert disables the patch, waits until it has left and unloads the module.
func revert(ctx context.Context, p Patch) (*Transition, error) {
	if err := kload.New(kload.Options{}).Disable(ctx, p.Name); err != nil {
		return &Transition{}, err
	}
	return leave(ctx, p)
}

// leave waits until the kernel has dropped a patch that was disabled or
// replaced, and unloads the module.
func leave(ctx context.Context, p Patch) (*Transition, error) {
	t, l := &Transition{}, kload.New(kload.Options{})
	k, err := l.Watch(ctx, p.Name, kload.Unpatched, kload.WatchOptions{Limit: p.limit()})
	t.set(k)
	if err != nil {
		return t, err
	}
	start := time.Now()
	err = l.Remove(ctx, p.Name)
	t.Remove = time.Since(start).Nanoseconds()
	return t, err
}

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
	// Stays: the module is in memory until the next boot, and no cycle can be.
	Stays bool `json:"stays,omitempty"`
}

func cycle(ctx context.Context, env *vmguest.Env, p Patch) (*Cycles, error) {
	c := &Cycles{Stays: kload.New(kload.Options{}).Stays(p.Name)}
	if c.Stays {
		return c, nil
	}
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
