// SPDX-License-Identifier: Apache-2.0

package courier

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/notify"
)

// box is an outbox in memory, with leases as a database would keep them.
type box struct {
	mu     sync.Mutex
	all    map[string]Job
	leased map[string]time.Time
	broken bool // it can't be written
}

func newBox(channels ...notify.Channel) *box {
	b := &box{all: map[string]Job{}, leased: map[string]time.Time{}}
	for _, c := range channels {
		e := notify.Event{ID: "e", Kind: notify.BuildFailed, Subject: "job/1", Title: "failed", Time: time.Now()}
		for _, d := range notify.Deliveries(c, notify.Of(c, e, 0, ""), time.Now()) {
			b.all[d.ID] = Job{Channel: c, Delivery: d}
		}
	}
	return b
}

func (b *box) Take(_ context.Context, now time.Time, lease time.Duration, most int) ([]Job, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []Job
	for id, j := range b.all {
		if len(out) < most && j.Delivery.Stage == notify.Waiting && !j.Delivery.Next.After(now) && !b.leased[id].After(now) {
			b.leased[id] = now.Add(lease)
			out = append(out, j)
		}
	}
	return out, nil
}

func (b *box) Put(_ context.Context, d notify.Delivery) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.broken {
		return errors.New("disk full")
	}
	b.all[d.ID] = Job{Channel: b.all[d.ID].Channel, Delivery: d}
	delete(b.leased, d.ID)
	return nil
}

func (b *box) stages() map[notify.Stage]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := map[notify.Stage]int{}
	for _, j := range b.all {
		out[j.Delivery.Stage]++
	}
	return out
}

// script sends as its function says.
type script func(notify.Delivery) notify.Outcome

func (s script) Send(_ context.Context, _ notify.Channel, d notify.Delivery) notify.Outcome {
	return s(d)
}

func away() notify.Outcome { return notify.Outcome{Problem: code.New("TS8311", "", "503")} }

func run(t *testing.T, b *box, send Sender) (w *Worker, log *bytes.Buffer, stop func()) {
	t.Helper()
	log = &bytes.Buffer{}
	ctx, cancel := context.WithCancel(t.Context())
	w = NewWorker(WorkerOptions{
		Outbox: b, Senders: map[notify.Type]Sender{notify.Email: send}, Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	var wg sync.WaitGroup
	wg.Go(func() { w.Run(ctx) })
	return w, log, func() {
		cancel()
		wg.Wait()
	}
}

func channel(n int) notify.Channel {
	c := notify.Channel{ID: "c", Name: "ops", Type: notify.Email}
	for i := range n {
		c.To = append(c.To, fmt.Sprintf("p%d@example.org", i))
	}
	return c
}

func TestADeliveryIsTriedUntilItIsTaken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var at []time.Time
		b := newBox(channel(1))
		_, log, stop := run(t, b, script(func(notify.Delivery) notify.Outcome {
			if at = append(at, time.Now()); len(at) < 5 {
				return away()
			}
			return notify.Outcome{}
		}))
		time.Sleep(time.Hour)
		stop()
		qt.Check(t, qt.DeepEquals(b.stages(), map[notify.Stage]int{notify.Delivered: 1}))
		qt.Assert(t, qt.HasLen(at, 5))
		for i := 2; i < len(at); i++ {
			qt.Check(t, qt.IsTrue(at[i].Sub(at[i-1]) > at[i-1].Sub(at[i-2])), qt.Commentf("%v", at))
		}
		qt.Check(t, qt.Equals(strings.Count(log.String(), "waits for another attempt"), 4))
	})
}

func TestADeliveryIsGivenUpAfterADay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := 0
		b := newBox(channel(1))
		_, log, stop := run(t, b, script(func(notify.Delivery) notify.Outcome { n++; return away() }))
		time.Sleep(25 * time.Hour)
		stop()
		qt.Check(t, qt.DeepEquals(b.stages(), map[notify.Stage]int{notify.Dead: 1}))
		qt.Check(t, qt.IsTrue(n > 8 && n < 20), qt.Commentf("%d attempts", n))
		qt.Check(t, qt.Equals(strings.Count(log.String(), "notification given up"), 1))
	})
}

func TestOneThatIsRefusedKeepsNothingFromTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBox(channel(20), notify.Channel{ID: "w", Name: "chat", Type: notify.Webhook, To: []string{"https://x.example.org"}})
		var mu sync.Mutex
		sent := map[string]int{}
		w, _, stop := run(t, b, script(func(d notify.Delivery) notify.Outcome {
			mu.Lock()
			defer mu.Unlock()
			sent[d.To]++
			if d.To == "p7@example.org" {
				return notify.Outcome{Problem: code.New("TS8311", "", "550"), Final: true}
			}
			return notify.Outcome{}
		}))
		w.Kick()
		time.Sleep(time.Second)
		stop()
		qt.Check(t, qt.DeepEquals(b.stages(), map[notify.Stage]int{notify.Delivered: 19, notify.Dead: 1, notify.Waiting: 1}),
			qt.Commentf("the webhook waits for a server that can send it"))
		for to, n := range sent {
			qt.Check(t, qt.Equals(n, 1), qt.Commentf("%s", to))
		}
	})
}

// TestNothingIsLostWhenAServerStops: two servers work on one outbox, and are
// stopped and started again all the time.
func TestNothingIsLostWhenAServerStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBox(channel(20))
		var mu sync.Mutex
		under := map[string]bool{}
		sent := map[string]int{}
		send := script(func(d notify.Delivery) notify.Outcome {
			mu.Lock()
			if under[d.ID] {
				t.Errorf("%s is under way twice", d.To)
			}
			under[d.ID] = true
			mu.Unlock()
			time.Sleep(700 * time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			under[d.ID] = false
			if d.Attempt < 2 {
				return away()
			}
			sent[d.ID]++
			return notify.Outcome{}
		})
		for range 40 {
			_, _, stop := run(t, b, send)
			_, _, stop2 := run(t, b, send)
			time.Sleep(9 * time.Second)
			stop()
			stop2()
		}
		qt.Check(t, qt.DeepEquals(b.stages(), map[notify.Stage]int{notify.Delivered: 20}))
		for _, n := range sent {
			qt.Check(t, qt.Equals(n, 1))
		}
	})
}

func TestWhatCannotBeWrittenDownComesAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBox(channel(1))
		b.broken = true
		var mu sync.Mutex
		var all []string
		ids := func() []string {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(all)
		}
		_, log, stop := run(t, b, script(func(d notify.Delivery) notify.Outcome {
			mu.Lock()
			defer mu.Unlock()
			all = append(all, d.Message.ID)
			return notify.Outcome{}
		}))
		time.Sleep(time.Minute)
		qt.Check(t, qt.HasLen(ids(), 1), qt.Commentf("it is leased"))
		time.Sleep(2 * time.Minute)
		b.mu.Lock()
		b.broken = false
		b.mu.Unlock()
		time.Sleep(3 * time.Minute)
		stop()
		qt.Check(t, qt.DeepEquals(b.stages(), map[notify.Stage]int{notify.Delivered: 1}))
		qt.Check(t, qt.IsTrue(len(ids()) > 1))
		qt.Check(t, qt.HasLen(slices.Compact(ids()), 1), qt.Commentf("receivers know it for the same"))
		qt.Check(t, qt.StringContains(log.String(), "disk full"))
	})
}
