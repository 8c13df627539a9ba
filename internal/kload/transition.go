// SPDX-License-Identifier: Apache-2.0

package kload

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Direction is where a transition leads.
type Direction string

// The directions.
const (
	Patched   Direction = "patched"
	Unpatched Direction = "unpatched" // and then the kernel drops the live patch
)

// state is what patch_state shows of a task that has switched.
func (d Direction) state() string {
	if d == Patched {
		return "1"
	}
	return "0"
}

// Limits of a watch.
const (
	DefaultLimit = time.Minute
	// DefaultSlow is when a transition has missed the kernel's first looks at
	// tasks that sleep, which come each second (kernel/livepatch/transition.c).
	DefaultSlow = 4 * time.Second
	// tick is how often a slow transition is looked at: the list of all tasks
	// is long on a large machine.
	tick = 5 * time.Second
)

// WatchOptions say how long to watch and who wants to know meanwhile.
type WatchOptions struct {
	Limit time.Duration // 0: DefaultLimit
	Slow  time.Duration // 0: DefaultSlow
	// OnTick is called when the transition has become slow and each five
	// seconds from then on, with what is known so far.
	OnTick func(Transition)
}

// Transition is how one transition went, or goes.
type Transition struct {
	Duration time.Duration // of the watch
	Done     bool
	// Slow are the tasks that had not switched when the transition became
	// slow, Holders those that hold it now. No more than MaxTasks are listed;
	// Waiting counts all.
	Slow    []Task
	Holders []Task
	Waiting int
}

// Hidden says that a transition waits and no task is seen to hold it: then it
// is the idle task of a processor that never idles, which /proc does not show.
func (t *Transition) Hidden() bool { return !t.Done && t.Waiting == 0 }

// Watch waits until the live patch has come to where want leads. A transition
// that has not ended at the limit is the problem TS9309 and goes on; one that
// somebody turned round is TS9311.
func (l *Loader) Watch(ctx context.Context, name string, want Direction, o WatchOptions) (Transition, error) {
	start := time.Now()
	limit, slow := cmp.Or(o.Limit, DefaultLimit), cmp.Or(o.Slow, DefaultSlow)
	var t Transition
	next := slow
	for {
		done, err := l.arrived(name, want)
		t.Duration = time.Since(start)
		if err != nil {
			return t, err
		}
		if done {
			t.Done, t.Holders, t.Waiting = true, nil, 0
			return t, nil
		}
		if t.Duration >= limit {
			t.Holders, t.Waiting = l.holders(name, want)
			return t, l.stalled(name, want, &t)
		}
		if t.Duration >= next {
			t.Holders, t.Waiting = l.holders(name, want)
			if t.Slow == nil {
				t.Slow = t.Holders
			}
			if o.OnTick != nil {
				o.OnTick(t)
			}
			next = t.Duration + tick
		}
		if !sleep(ctx, min(pause(t.Duration), limit-t.Duration)) {
			return t, ctx.Err()
		}
	}
}

// pause is short while most transitions end and grows with those that do not.
func pause(elapsed time.Duration) time.Duration {
	switch {
	case elapsed < time.Second:
		return time.Millisecond
	case elapsed < 10*time.Second:
		return 10 * time.Millisecond
	}
	return 100 * time.Millisecond
}

// arrived looks once. The kernel removes the directory of a live patch when
// its transition to unpatched is over, or when another one has replaced it.
func (l *Loader) arrived(name string, want Direction) (bool, error) {
	dir := l.dir(name)
	transition, enabled := value(filepath.Join(dir, "transition")), value(filepath.Join(dir, "enabled"))
	if transition == "" || enabled == "" {
		switch {
		case !gone(dir):
			return false, nil // on its way in or out
		case want == Unpatched:
			return true, nil
		}
		return false, code.New("TS9311", name, "it is gone")
	}
	if transition == "0" && want == Patched && enabled == "1" {
		return true, nil
	}
	if turned := enabled == "1" && want == Unpatched || enabled == "0" && want == Patched; turned && transition == "1" {
		return false, code.New("TS9311", name, "its transition leads the other way now")
	}
	return false, nil
}

func (l *Loader) stalled(name string, want Direction, t *Transition) error {
	why := fmt.Sprintf("after %v", t.Duration.Round(time.Millisecond))
	switch {
	case t.Hidden():
		why += ": no task that /proc shows holds it; a processor that never idles keeps its idle task from switching"
	default:
		why += fmt.Sprintf(": %d tasks have not switched", t.Waiting)
		for _, h := range t.Holders[:min(3, len(t.Holders))] {
			why += "; " + h.String()
		}
	}
	return code.New("TS9309", name, why)
}

// Reverse turns a transition round. It does not wait: Watch does, in the other
// direction.
func (l *Loader) Reverse(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	dir := l.dir(name)
	if gone(dir) {
		return code.New("TS9310", name, "")
	}
	if value(filepath.Join(dir, "transition")) != "1" {
		return code.New("TS9312", name, "it is not in transition")
	}
	to := "0"
	if value(filepath.Join(dir, "enabled")) == "0" {
		to = "1"
	}
	return l.enable(name, to)
}

// Disable starts the transition that takes a live patch out, or turns round
// the one that brings it in. One that is leaving already is left alone.
func (l *Loader) Disable(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	dir := l.dir(name)
	if gone(dir) {
		return code.New("TS9310", name, "")
	}
	if value(filepath.Join(dir, "enabled")) == "0" {
		return nil
	}
	return l.enable(name, "0")
}

// enable writes the enabled file. EBUSY means that another live patch is in
// transition; EINVAL that there is nothing to change.
func (l *Loader) enable(name, to string) error {
	err := set(filepath.Join(l.dir(name), "enabled"), to)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV):
		return code.New("TS9310", name, "").With(err)
	case errors.Is(err, unix.EBUSY):
		return code.New("TS9304", name, "").With(err)
	case errors.Is(err, fs.ErrPermission):
		return code.New("TS9307", name, "").With(err)
	}
	return code.New("TS9312", name, "").With(err)
}

// Revert takes a live patch out: it disables it, waits for the transition and
// unloads the module. One whose transition does not end stays on its way out
// (TS9309), and calling Revert again goes on waiting. A live patch that is not
// there but whose module is, is only unloaded.
func (l *Loader) Revert(ctx context.Context, name string, o WatchOptions) (Transition, error) {
	err := l.Disable(ctx, name)
	switch {
	case code.Of(err) == "TS9310":
		if gone(filepath.Join(l.root, "sys/module", ModuleName(name))) {
			return Transition{}, err
		}
	case err != nil:
		return Transition{}, err
	}
	t, err := l.Watch(ctx, name, Unpatched, o)
	if err != nil {
		return t, err
	}
	return t, l.Remove(ctx, name)
}

// Stays reports whether the module of a live patch is loaded and has no exit
// function: the kernel never unloads it, because others may keep pointers into
// it (package klp, stays.go). Until the next boot no module of its name can be
// loaded again.
func (l *Loader) Stays(name string) bool {
	list, err := os.ReadFile(filepath.Join(l.root, "proc/modules"))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(list)) {
		f := strings.Fields(line)
		if len(f) > 3 && f[0] == ModuleName(name) {
			return slices.Contains(strings.Split(f[3], ","), "[permanent]")
		}
	}
	return false
}

// removeLimit bounds how long the kernel may take to let go of a module whose
// live patch has left: a worker of its drops the last reference.
const removeLimit = 10 * time.Second

// Remove unloads the module of a live patch that has left or was replaced. A
// module that is not there is no error, and neither is one that was made to
// stay in memory (see Stays): it does nothing any more.
func (l *Loader) Remove(ctx context.Context, name string) error {
	for start := time.Now(); ; {
		err := l.sys.Remove(ModuleName(name))
		switch {
		case err == nil || errors.Is(err, unix.ENOENT):
			return nil
		case errors.Is(err, unix.EPERM):
			return code.New("TS9307", name, "").With(err)
		case errors.Is(err, unix.EBUSY) && l.Stays(name):
			return nil
		case !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EBUSY):
			return code.New("TS9313", name, "").With(err)
		case time.Since(start) >= removeLimit:
			return code.New("TS9313", name, "").With(err)
		}
		if !sleep(ctx, time.Millisecond) {
			return ctx.Err()
		}
	}
}
