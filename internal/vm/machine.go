// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tsugi-project/tsugi/internal/vm/wire"
)

// ErrEnded says that a machine was gone before it had done a step.
var ErrEnded = errors.New("the machine has ended")

// Machine is a machine that runs. Its resources are released when it ends,
// whether or not somebody waits for it.
type Machine struct {
	cfg     *Config
	ctx     context.Context // the caller's, for Wait to tell its end from the time limit
	limit   context.Context
	process *process
	control *os.File
	cut     atomic.Bool
	ready   chan struct{}
	done    chan struct{}
	out     *Outcome
	err     error

	turn    sync.Mutex // steps go one after the other
	mu      sync.Mutex
	waiting map[string]chan wire.Event // by step
	readied sync.Once
}

// Start boots a machine, has it execute a plan, and then lets the caller drive
// it step by step. Its time limit, Config.Timeout, holds all the same.
func Start(ctx context.Context, cfg Config, plan *wire.Plan) (*Machine, error) {
	serving := *plan
	serving.Serve = true
	c, full, err := finish(ctx, cfg, &serving)
	if err != nil {
		return nil, err
	}
	return launch(ctx, c, full)
}

// launch starts QEMU and all that watches it.
func launch(ctx context.Context, cfg *Config, plan *wire.Plan) (*Machine, error) {
	s, err := prepare(ctx, cfg, plan)
	if err != nil {
		return nil, err
	}
	limit, cancel := context.WithTimeout(ctx, cfg.Timeout)
	start := time.Now()
	p, err := startProcess(limit, s.bin, s.args, s.extra)
	if err != nil {
		cancel()
		s.Close()
		return nil, problem("TS6001", s.bin, "").With(err)
	}
	for _, f := range s.extra {
		if f != s.output && !s.isKept(f) {
			f.Close() // so that the pipes end with QEMU
		}
	}
	m := &Machine{
		cfg: cfg, ctx: ctx, limit: limit, process: p, control: s.control,
		ready: make(chan struct{}), done: make(chan struct{}), waiting: map[string]chan wire.Event{},
	}
	c := &collector{cfg: cfg, start: start, out: &Outcome{Accel: cfg.Accel, Dumps: map[string][]byte{}}}
	c.bye = func() { time.AfterFunc(byeGrace, cancel) }
	c.heard = m.heard
	go func() {
		defer close(m.done)
		defer s.Close()
		defer cancel()
		m.out, m.err = m.end(s, c)
	}()
	return m, nil
}

// end waits for QEMU and says how it ended.
func (m *Machine) end(s *setup, c *collector) (*Outcome, error) {
	var readers sync.WaitGroup
	readers.Go(func() { c.readConsole(s.console) })
	readers.Go(func() { c.readEvents(s.events) })
	stderr, exit := m.process.wait()
	readers.Wait()
	out := c.out
	out.Elapsed = time.Since(c.start)
	out.Crash = FindCrash(out.Console)
	if err := s.store(m.cut.Load()); err != nil {
		return nil, err
	}

	switch {
	case c.ended:
		out.End = Finished
	case m.cut.Load():
		out.End = Cut
	case m.ctx.Err() != nil:
		return nil, m.ctx.Err()
	case out.Crash != nil && out.Crash.Fatal:
		out.End = Panicked
	case m.limit.Err() != nil:
		out.End = TimedOut
	case out.Greeting == nil && len(out.Console) == 0:
		return nil, problem("TS6007", s.bin, strings.TrimSpace(lastLines(stderr, 3))).With(exit)
	default:
		out.End = Died
	}
	if s.output != nil {
		if err := readTar(s.output, out.Dumps); err != nil {
			return out, fmt.Errorf("output disk: %w", err)
		}
	}
	return out, nil
}

// heard gets every event; it hands the ends of steps to those who wait.
func (m *Machine) heard(e wire.Event) {
	if m.cfg.CutAt != nil && m.cfg.CutAt(e) {
		m.Cut()
	}
	switch e.Kind {
	case wire.Note:
		if string(e.Data) == `"`+wire.ReadyForSteps+`"` {
			m.readied.Do(func() { close(m.ready) })
		}
	case wire.Done:
		m.mu.Lock()
		defer m.mu.Unlock()
		if c := m.waiting[e.Step]; c != nil {
			c <- e
			delete(m.waiting, e.Step)
		}
	}
}

// Do has the guest execute one step and returns its end, once the steps of the
// plan and of earlier calls are through. A step that failed is no error here.
// ErrEnded means that the machine ended first; Wait tells how.
func (m *Machine) Do(ctx context.Context, s wire.Step) (wire.Event, error) {
	line, err := wire.StepLine(s)
	if err != nil {
		return wire.Event{}, err
	}
	m.turn.Lock()
	defer m.turn.Unlock()
	select {
	case <-m.ready:
	case <-m.done:
		return wire.Event{}, ErrEnded
	case <-ctx.Done():
		return wire.Event{}, ctx.Err()
	}
	end := make(chan wire.Event, 1)
	m.mu.Lock()
	m.waiting[s.ID] = end
	m.mu.Unlock()
	if _, err := m.control.Write(line); err != nil {
		return wire.Event{}, errors.Join(ErrEnded, err)
	}
	select {
	case e := <-end:
		return e, nil
	case <-m.done:
		select {
		case e := <-end:
			return e, nil
		default:
			return wire.Event{}, ErrEnded
		}
	case <-ctx.Done():
		return wire.Event{}, ctx.Err()
	}
}

// Shutdown tells the guest that there are no more steps, and waits for its end.
func (m *Machine) Shutdown(ctx context.Context) (*Outcome, error) {
	m.turn.Lock()
	defer m.turn.Unlock()
	select {
	case <-m.ready:
		line, err := wire.StepLine(wire.Step{ID: wire.EndVerb, Do: wire.EndVerb})
		if err != nil {
			return nil, err
		}
		_, _ = m.control.Write(line) // a machine that is gone needs no telling
	case <-m.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return m.Wait()
}

// Cut takes the machine's power away: nothing in it is told, and its disks
// keep what power loss leaves (Disk.File).
func (m *Machine) Cut() {
	m.cut.Store(true)
	m.process.kill()
}

// Done is closed when the machine has ended.
func (m *Machine) Done() <-chan struct{} { return m.done }

// Wait waits for the machine's end. An error means that there is no outcome.
func (m *Machine) Wait() (*Outcome, error) {
	<-m.done
	return m.out, m.err
}
