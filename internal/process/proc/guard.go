// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
)

// guard watches one goroutine that looks into a process again and again.
type guard struct {
	id    ID
	began atomic.Int64 // of the look that is under way, as time since epoch; 0 for none
	over  atomic.Bool  // nobody waits for it any more
}

type guardKey struct{}

func guardOf(ctx context.Context) *guard {
	g, _ := ctx.Value(guardKey{}).(*guard)
	return g
}

// epoch is what times are counted from: only its monotonic part matters.
var epoch = time.Now()

// Guarded runs f in a goroutine of its own and lets it look into the process
// directly, in place of one handing over for each look: with the context that f
// is given, a look that does not come back makes Guarded give up, after Limit
// or soon after ctx has ended. What f gives later is lost; its looks are errors
// then. The error is that, and never f's.
func Guarded[T any](ctx context.Context, p *Process, f func(context.Context) T) (T, error) {
	var none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	if guardOf(ctx) != nil {
		return f(ctx), nil
	}
	if why := silence.refuse(p.id, p.uid); why != "" {
		return none, code.New("TS9604", p.id.String(), why)
	}
	g := &guard{id: p.id}
	done := make(chan T, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		done <- f(context.WithValue(ctx, guardKey{}, g))
	}()
	gone := ctx.Done()
	patience, cause := Limit, error(nil)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	var gaveUp time.Time
	for {
		select {
		case v := <-done:
			return v, nil
		case <-gone:
			gone, cause, gaveUp = nil, ctx.Err(), time.Now()
			patience = Limit / 20
		case <-timer.C:
		}
		asks := time.Duration(0)
		if began := g.began.Load(); began != 0 {
			asks = time.Since(epoch) - time.Duration(began)
		}
		// What does not end with its context hangs, wherever that is.
		if asks >= patience || cause != nil && time.Since(gaveUp) > Limit {
			break
		}
		timer.Reset(patience - asks)
	}
	g.over.Store(true)
	select {
	case v := <-done: // it has just come back
		return v, nil
	default:
	}
	silence.begin(p.id, p.uid)
	go func() { <-ended; silence.end(p.id) }()
	if cause != nil {
		return none, fmt.Errorf("%s: %w", p.id, cause)
	}
	return none, code.New("TS9604", p.id.String(), fmt.Sprintf("no answer within %s", Limit))
}

// Unguarded is ctx for looks that shall each be handed over again: by who must
// not wait for one.
func Unguarded(ctx context.Context) context.Context {
	return context.WithValue(ctx, guardKey{}, (*guard)(nil))
}

// call makes one look.
func call[T any](g *guard, f func() (T, error)) (T, error) {
	if g.began.Load() != 0 { // within another look
		return f()
	}
	g.began.Store(max(int64(time.Since(epoch)), 1))
	v, err := f()
	g.began.Store(0)
	if g.over.Load() {
		return v, code.New("TS9604", g.id.String(), fmt.Sprintf("no answer within %s", Limit))
	}
	return v, err
}
