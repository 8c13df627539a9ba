// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"sync"
	"time"
)

// maxGroup bounds the writes of one transaction, so that none waits long for
// those that came with it.
const maxGroup = 256

// groupTime bounds a transaction of a group, which nobody's context does.
const groupTime = 30 * time.Second

// committer brings writes that come at the same time into one transaction. A
// commit costs a sync of the disk whatever it holds: under load each
// transaction takes along all that came while the one before it was synced.
type committer struct {
	store   *Store
	mu      sync.Mutex
	waiting []*member
	leading bool
	closed  bool
	idle    sync.WaitGroup
}

// member is one write and who waits for it.
type member struct {
	write func(context.Context, *Tx) error
	done  chan error
	lead  chan struct{}
}

// do runs write in a transaction with others. It may be run more than once,
// and runs to its end even if ctx ends before: what it writes must be
// harmless when the caller asks for it again.
func (c *committer) do(ctx context.Context, write func(context.Context, *Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m := &member{write: write, done: make(chan error, 1), lead: make(chan struct{}, 1)}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return errClosed
	}
	c.waiting = append(c.waiting, m)
	if !c.leading {
		c.leading = true
		m.lead <- struct{}{}
	}
	c.idle.Add(1)
	c.mu.Unlock()
	defer c.idle.Done()

	select {
	case <-m.lead:
		c.lead(context.WithoutCancel(ctx))
		return <-m.done
	case err := <-m.done:
		return err
	case <-ctx.Done():
	}
	// Gone, and perhaps just chosen to lead.
	c.idle.Add(1)
	go func() {
		defer c.idle.Done()
		select {
		case <-m.lead:
			c.lead(context.WithoutCancel(ctx))
		case <-m.done:
		}
	}()
	return ctx.Err()
}

// lead runs the transaction of a group, of which the leader is the first, and
// hands the lead to the first of those that came meanwhile.
func (c *committer) lead(ctx context.Context) {
	c.mu.Lock()
	n := min(len(c.waiting), maxGroup)
	group := c.waiting[:n:n]
	c.waiting = c.waiting[n:]
	c.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, groupTime)
	c.run(ctx, group)
	cancel()

	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) > 0 {
		c.waiting[0].lead <- struct{}{}
	} else {
		c.waiting, c.leading = nil, false
	}
}

func (c *committer) run(ctx context.Context, group []*member) {
	err := c.store.Update(ctx, func(tx *Tx) error {
		for _, m := range group {
			if err := m.write(ctx, tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil || len(group) == 1 {
		for _, m := range group {
			m.done <- err
		}
		return
	}
	// One of them spoilt it for all: each on its own.
	for _, m := range group {
		m.done <- c.store.Update(ctx, func(tx *Tx) error { return m.write(ctx, tx) })
	}
}

// close lets no more writes in and waits for those that are.
func (c *committer) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.idle.Wait()
}
