// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/policy"
)

// ApplyBundle takes metadata, live patches and keys out of an offline bundle,
// verified as if they came from the server, and does what follows from them.
// It returns the live patch that is applied then, or nil.
func (a *Agent) ApplyBundle(ctx context.Context, file []byte) (*api.Patch, error) {
	var machine *Machine
	a.see(func(m *moment) { machine = m.machine })
	if machine == nil {
		return nil, code.New("TS9416", "", "a bundle is verified against the root that an enrolment pins")
	}
	secret, err := a.secret()
	if err != nil {
		return nil, err
	}
	recipient, err := a.opts.Crypt.Recipient(secret)
	if err != nil {
		return nil, err
	}
	source, info, err := a.opts.Link.Bundle(ctx, file, recipient)
	if err != nil {
		return nil, err
	}
	host, err := a.host(ctx)
	if err != nil {
		return nil, err
	}
	if err := source.Refresh(ctx); err != nil {
		return nil, err
	}
	x, err := source.Index(ctx, info.Tier, host.Kernel.BuildID, info.Policy)
	if err != nil {
		return nil, err
	}
	if x == nil {
		return nil, code.New("TS9429", "", "it holds nothing for kernel "+host.Kernel.Release+" in tier "+info.Tier+ofPolicy(info.Policy))
	}
	if err := a.keepIndex(x); err != nil {
		return nil, err
	}
	a.see(func(m *moment) {
		m.index, m.indexed = x, time.Now()
		if m.handed == nil {
			m.handed = map[string]bool{}
		}
		for id := range info.Keys {
			m.handed[id] = true
		}
	})
	if err := a.applyFrom(ctx, source, info); err != nil {
		return nil, err
	}
	s, _ := a.journal.view()
	if a.current(s, host) == 0 {
		return nil, nil
	}
	return &s.Current.Patch, nil
}

func ofPolicy(policy string) string {
	if policy == "" {
		return ""
	}
	return " and policy " + policy
}

// applyFrom brings the live patch that policy chooses from the bundle into the
// cache, and acts.
func (a *Agent) applyFrom(ctx context.Context, source Source, info *BundleInfo) error {
	turn, end, err := a.begin(ctx)
	if err != nil {
		return err
	}
	host, err := a.host(turn)
	if err == nil {
		if d := a.decide(host, time.Now()); d.Action == policy.Apply {
			var c *Card
			if c, err = a.bring(turn, host, nil, source, info.Tier, info.Keys[d.Offer.ID], *d.Offer); err == nil {
				err = a.note(host, c.ref(), api.Verified)
			}
		}
	}
	end()
	if err != nil {
		return err
	}
	if err := a.act(ctx); err != nil {
		return err
	}
	var p *code.Problem
	a.see(func(m *moment) { p = m.problem })
	if p != nil {
		return p
	}
	return nil
}
