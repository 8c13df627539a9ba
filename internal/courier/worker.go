// SPDX-License-Identifier: Apache-2.0

package courier

import (
	"context"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/notify"
)

// Job is a delivery with the channel that it goes by.
type Job struct {
	Channel  notify.Channel
	Delivery notify.Delivery
}

// Outbox keeps deliveries where a restart does not lose them.
type Outbox interface {
	// Take gives some that are due, and gives them to nobody else for a time:
	// who takes them and dies has them taken again.
	Take(ctx context.Context, now time.Time, lease time.Duration, most int) ([]Job, error)
	// Put keeps what became of one.
	Put(ctx context.Context, d notify.Delivery) error
}

// Sender makes one attempt; Webhooks and Mail are two.
type Sender interface {
	Send(ctx context.Context, c notify.Channel, d notify.Delivery) notify.Outcome
}

// WorkerOptions are what a worker works with.
type WorkerOptions struct {
	Outbox  Outbox
	Senders map[notify.Type]Sender
	Now     func() time.Time
	Log     *slog.Logger
	// Poll is how often the outbox is looked into when nobody kicks; 0 is 5 s.
	Poll time.Duration
}

// Worker delivers what waits. What it took and could not put back is taken
// again, so that a message may come twice, under the same id, and is not lost.
type Worker struct {
	o    WorkerOptions
	kick chan struct{}
}

const (
	atOnce = 8
	// lease is longer than any attempt takes.
	lease = 2 * time.Minute
)

// NewWorker makes one.
func NewWorker(o WorkerOptions) *Worker {
	if o.Poll <= 0 {
		o.Poll = 5 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Worker{o: o, kick: make(chan struct{}, 1)}
}

// Kick says that something is due.
func (w *Worker) Kick() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// Run delivers until the context ends.
func (w *Worker) Run(ctx context.Context) {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-w.kick:
		}
		for ctx.Err() == nil && w.some(ctx) == atOnce { // there may be more
		}
		t.Reset(w.o.Poll)
	}
}

// some takes what is due, a few at a time, and returns how many these were.
func (w *Worker) some(ctx context.Context) int {
	jobs, err := w.o.Outbox.Take(ctx, w.o.Now(), lease, atOnce)
	if err != nil {
		if ctx.Err() == nil {
			w.o.Log.Warn("notifications could not be read", "err", err)
		}
		return 0
	}
	var g errgroup.Group
	for _, j := range jobs {
		g.Go(func() error {
			w.one(ctx, j)
			return nil
		})
	}
	_ = g.Wait()
	return len(jobs)
}

func (w *Worker) one(ctx context.Context, j Job) {
	var o notify.Outcome
	if s, ok := w.o.Senders[j.Channel.Type]; ok {
		o = s.Send(ctx, j.Channel, j.Delivery)
	} else {
		o.Problem = code.New("TS8311", string(j.Channel.Type), "this server is not set up to send by it")
	}
	if ctx.Err() != nil && o.Problem != nil {
		return // nobody's fault: it is taken again when its lease is over
	}
	d := j.Delivery.After(o, w.o.Now())
	log := w.o.Log.With("channel", j.Channel.Name, "id", d.Message.ID, "attempt", d.Attempt)
	switch d.Stage {
	case notify.Delivered:
		log.Debug("notification delivered")
	case notify.Dead:
		log.Warn("notification given up", "err", o.Problem)
	case notify.Waiting:
		log.Info("notification waits for another attempt", "err", o.Problem, "next", d.Next)
	}
	// What was sent is written down also when the server stops in this moment.
	put, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := w.o.Outbox.Put(put, d); err != nil {
		log.Warn("what became of a notification could not be kept", "err", err)
	}
}
