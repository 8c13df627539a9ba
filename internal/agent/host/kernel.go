// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"time"

	"github.com/tsugi-project/tsugi/internal/agent"
	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/kload"
)

// Kernel is the running kernel.
type Kernel struct{ Loader *kload.Loader }

// Load gives a module to the kernel.
func (k Kernel) Load(ctx context.Context, module []byte, name string) error {
	return k.Loader.Load(ctx, module, name)
}

// Watch follows a transition.
func (k Kernel) Watch(ctx context.Context, name string, limit time.Duration, tick func([]api.Stall)) (agent.Transition, error) {
	t, err := k.Loader.Watch(ctx, name, kload.Patched, options(limit, tick))
	return transition(t), stalled(err)
}

// Revert takes a live patch out. One that is not there is out.
func (k Kernel) Revert(ctx context.Context, name string, limit time.Duration, tick func([]api.Stall)) (agent.Transition, error) {
	t, err := k.Loader.Revert(ctx, name, options(limit, tick))
	if code.Of(err) == "TS9310" {
		return agent.Transition{Done: true}, nil
	}
	return transition(t), stalled(err)
}

// Remove unloads the module of a live patch that was replaced.
func (k Kernel) Remove(ctx context.Context, name string) error { return k.Loader.Remove(ctx, name) }

// Loaded lists the live patches of the kernel; one without live patching has
// none.
func (k Kernel) Loaded(context.Context) ([]agent.Loaded, error) {
	all, err := k.Loader.Loaded()
	if code.Of(err) == "TS9202" {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []agent.Loaded
	for _, p := range all {
		out = append(out, agent.Loaded{Name: p.Name, Enabled: p.Enabled, Transition: p.Transition})
	}
	return out, nil
}

func options(limit time.Duration, tick func([]api.Stall)) kload.WatchOptions {
	return kload.WatchOptions{Limit: limit, OnTick: func(t kload.Transition) { tick(stalls(t.Holders)) }}
}

// stalled: a transition that has not ended is no error to the agent, which
// has its own words for it.
func stalled(err error) error {
	if code.Of(err) == "TS9309" {
		return nil
	}
	return err
}

func transition(t kload.Transition) agent.Transition {
	out := agent.Transition{Done: t.Done, Duration: t.Duration, Stalls: stalls(t.Holders)}
	if t.Done {
		out.Stalls = stalls(t.Slow)
	}
	return out
}

func stalls(tasks []kload.Task) []api.Stall {
	var out []api.Stall
	for _, t := range tasks {
		out = append(out, api.Stall{PID: t.TID, Comm: t.Comm, Function: t.Function})
	}
	return out
}
