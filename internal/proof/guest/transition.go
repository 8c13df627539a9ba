// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

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

// revert disables the patch and waits until it has left.
func revert(ctx context.Context, p Patch) (*Transition, error) {
	if err := vmguest.WriteString(filepath.Join(p.dir(), "enabled"), "0"); err != nil {
		return &Transition{}, err
	}
	return leave(ctx, p)
}

// leave waits until the kernel has dropped a patch that was disabled or
// replaced, and unloads the module, whose last reference a worker of the
// kernel drops.
func leave(ctx context.Context, p Patch) (*Transition, error) {
	t := &Transition{}
	start := time.Now()
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
