// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Only one at a time changes processes: who has the lock of the directory. A pass
// over thousands of processes has it for long, and so does one that waits for
// busy ones. Who wants something else says so by a lock on one of these files,
// which it holds until it has its turn: then a pass ends, between processes. What
// it has not come to is left to the next.
const (
	wishName   = "wish"     // to change what is kept
	revertName = "wish-out" // to take something out; an Apply gives way to it, too
)

const (
	// patience is how long a change waits for another one.
	patience = 30 * time.Second
	// revertPatience is how long a revert waits for another revert: nothing else
	// holds it up.
	revertPatience = 5 * time.Minute
	turnPace       = 20 * time.Millisecond
)

// errYielded is why a pass ended that gave way.
var errYielded = errors.New("another change of processes came first")

// flock takes the lock of an open file.
func flock(ctx context.Context, f *os.File, patience time.Duration) error {
	for end := time.Now().Add(patience); ; {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EWOULDBLOCK):
			return code.New("TS9661", f.Name(), "").With(err)
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case time.Now().After(end):
			return code.New("TS9662", f.Name(), "")
		}
		rest(ctx, turnPace)
	}
}

// rest waits, unless ctx ends before.
func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// turn takes the lock for a change that others give way to by wish.
func (k *Keeper) turn(ctx context.Context, wish string) (unlock func(), err error) {
	long := patience
	if wish == revertName {
		long = revertPatience
	}
	if err := os.MkdirAll(k.side(), 0o700); err != nil {
		return nil, code.New("TS9661", k.side(), "").With(err)
	}
	f, err := os.OpenFile(filepath.Join(k.side(), wish), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, code.New("TS9661", k.side(), "").With(err)
	}
	defer f.Close()
	if err := flock(ctx, f, long); err != nil {
		return nil, err
	}
	return k.dir.lock(ctx, long)
}

// wished reports whether somebody waits for a turn by one of some wishes.
func (k *Keeper) wished(wishes ...string) bool {
	for _, w := range wishes {
		f, err := os.Open(filepath.Join(k.side(), w))
		if err != nil {
			continue // nobody ever wished
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return true
		}
	}
	return false
}

// yielding is ctx for work that gives way to some wishes: it ends with errYielded
// when there is one.
func (k *Keeper) yielding(ctx context.Context, wishes ...string) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if k.wished(wishes...) {
				cancel(errYielded)
			}
			rest(ctx, turnPace)
		}
	}()
	return ctx, func() {
		cancel(nil)
		<-done
	}
}

// idle takes the lock for work that gives way to everything.
func (k *Keeper) idle(ctx context.Context) (_ context.Context, unlock func(), err error) {
	for end := time.Now().Add(patience); k.wished(wishName, revertName) && ctx.Err() == nil && time.Now().Before(end); {
		rest(ctx, turnPace)
	}
	free, err := k.dir.lock(ctx, patience)
	if err != nil {
		return nil, nil, err
	}
	ctx, stop := k.yielding(ctx, wishName, revertName)
	return ctx, func() { stop(); free() }, nil
}
