// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
)

func newChannel(t testing.TB, s *Store, id string) {
	t.Helper()
	qt.Assert(t, qt.IsNil(s.Update(t.Context(), func(tx *Tx) error {
		return tx.CreateChannel(t.Context(), Channel{ID: id, Name: "name of " + id, Body: "{}"})
	})))
}

func newDelivery(t testing.TB, s *Store, d Delivery) (isNew bool) {
	t.Helper()
	qt.Assert(t, qt.IsNil(s.Update(t.Context(), func(tx *Tx) (err error) {
		isNew, err = tx.AddDelivery(t.Context(), d)
		return err
	})))
	return isNew
}

func TestChannels(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, c *clock) {
		ctx := t.Context()
		change := func(f func(tx *Tx) error) error { return s.Update(ctx, f) }
		first := Channel{ID: "a", Name: "on call", Body: `{"a":1}`, Secrets: []byte{0, 255, 1}, ChangedBy: "alice"}
		qt.Assert(t, qt.IsNil(change(func(tx *Tx) error { return tx.CreateChannel(ctx, first) })))
		first.Created, first.Changed = c.ms(), c.ms()
		got, err := s.Channel(ctx, "a")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(got, first))
		qt.Check(t, qt.ErrorIs(change(func(tx *Tx) error {
			return tx.CreateChannel(ctx, Channel{ID: "b", Name: "on call", Body: "{}"})
		}), ErrConflict))
		_, err = s.Channel(ctx, "b")
		qt.Check(t, qt.ErrorIs(err, ErrNotFound))
		qt.Assert(t, qt.IsNil(change(func(tx *Tx) error {
			return tx.CreateChannel(ctx, Channel{ID: "b", Name: "a list", Body: "{}", ChangedBy: "bob"})
		})))

		c.pass(time.Minute)
		first.Name, first.Body, first.Secrets, first.ChangedBy, first.Changed = "nights", "{}", nil, "bob", c.ms()
		qt.Assert(t, qt.IsNil(change(func(tx *Tx) error { return tx.ChangeChannel(ctx, first) })))
		qt.Assert(t, qt.IsNil(change(func(tx *Tx) error { return tx.SetChannelState(ctx, "a", `{"told":true}`) })))
		first.State = `{"told":true}` // which is no change that somebody made
		all, err := s.Channels(ctx)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.HasLen(all, 2))
		qt.Check(t, qt.Equals(all[0].Name, "a list")) // by name
		qt.Check(t, qt.DeepEquals(all[1], first))
		second := all[0]
		second.Name = "nights"
		qt.Check(t, qt.ErrorIs(change(func(tx *Tx) error { return tx.ChangeChannel(ctx, second) }), ErrConflict))
		qt.Check(t, qt.ErrorIs(change(func(tx *Tx) error { return tx.ChangeChannel(ctx, Channel{ID: "none"}) }), ErrNotFound))
		qt.Check(t, qt.ErrorIs(change(func(tx *Tx) error { return tx.DeleteChannel(ctx, "none") }), ErrNotFound))

		// A channel goes with what was and is to be sent through it, and nothing
		// comes to one that is gone.
		newDelivery(t, s, Delivery{ID: "d", Channel: "a", Made: 1, Next: 1})
		newDelivery(t, s, Delivery{ID: "e", Channel: "b", Made: 1, Next: 1})
		qt.Assert(t, qt.IsNil(change(func(tx *Tx) error { return tx.DeleteChannel(ctx, "a") })))
		_, err = s.Delivery(ctx, "d")
		qt.Check(t, qt.ErrorIs(err, ErrNotFound))
		_, err = s.Delivery(ctx, "e")
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.ErrorIs(change(func(tx *Tx) error {
			_, err := tx.AddDelivery(ctx, Delivery{ID: "f", Channel: "a"})
			return err
		}), ErrNotFound))
		qt.Check(t, qt.IsNil(s.PutDelivery(ctx, Delivery{ID: "d", Channel: "a", Stage: DeliveryDelivered})))
	})
}

func TestTheLifeOfADelivery(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, c *clock) {
		ctx := t.Context()
		newChannel(t, s, "ch")
		d := Delivery{ID: "d", Channel: "ch", To: "a@b.example", Subject: "a crash", Message: "{}", Stage: DeliveryWaiting, Made: c.ms(), Next: c.ms()}
		qt.Check(t, qt.IsTrue(newDelivery(t, s, d)))
		again := d
		again.Subject = "the same, made by another server"
		qt.Check(t, qt.IsFalse(newDelivery(t, s, again)))
		newDelivery(t, s, Delivery{ID: "later", Channel: "ch", Made: c.ms(), Next: c.in(time.Hour)})
		stands := func(want Delivery) {
			t.Helper()
			got, err := s.Delivery(ctx, want.ID)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.DeepEquals(got, want))
		}
		take := func(want ...string) {
			t.Helper()
			got, err := s.TakeDeliveries(ctx, c.ms(), c.in(time.Minute), 10)
			qt.Assert(t, qt.IsNil(err))
			var ids []string
			for _, d := range got {
				ids = append(ids, d.ID)
			}
			qt.Check(t, qt.DeepEquals(ids, want))
		}
		stands(d)
		take("d")
		take() // somebody has it
		c.pass(2 * time.Minute)
		take("d") // who had it died with it

		// It failed, and is tried again when it is due.
		d.Attempt, d.Next, d.Problem = 1, c.in(10*time.Minute), `{"code":"TS8301"}`
		qt.Assert(t, qt.IsNil(s.PutDelivery(ctx, d)))
		stands(d)
		c.pass(9 * time.Minute)
		take()
		c.pass(time.Minute)
		take("d")
		d.Stage, d.Attempt, d.Next, d.Ended, d.Problem = DeliveryDelivered, 2, 0, c.ms(), ""
		qt.Assert(t, qt.IsNil(s.PutDelivery(ctx, d)))
		stands(d)
		// Who lost it before knows nothing better.
		late := d
		late.Stage, late.Attempt, late.Next, late.Ended, late.Problem = DeliveryWaiting, 1, c.ms(), 0, "{}"
		qt.Assert(t, qt.IsNil(s.PutDelivery(ctx, late)))
		stands(d)
		take()
		retry := func(d Delivery) error {
			return s.Update(ctx, func(tx *Tx) error { return tx.RetryDelivery(ctx, d) })
		}
		qt.Check(t, qt.ErrorIs(retry(d), ErrNotFound)) // it came to its end

		dead := Delivery{ID: "later", Channel: "ch", Stage: DeliveryDead, Attempt: 9, Ended: c.ms(), Problem: "{}"}
		qt.Assert(t, qt.IsNil(s.PutDelivery(ctx, dead)))
		n, err := s.CountDeliveries(ctx)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(n, map[string]int64{DeliveryDelivered: 1, DeliveryDead: 1}))
		c.pass(time.Hour)
		take()
		qt.Assert(t, qt.IsNil(retry(dead)))
		take("later")

		// What waits is never forgotten, however old.
		c.pass(1000 * time.Hour)
		gone, err := s.PruneDeliveries(ctx, c.ms())
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(gone, 1))
		take("later")
	})
}

func TestDeliveriesAreListedInPages(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, c *clock) {
		ctx := t.Context()
		newChannel(t, s, "x")
		newChannel(t, s, "y")
		for i := range 7 {
			newDelivery(t, s, Delivery{ID: strconv.Itoa(i), Channel: []string{"x", "y"}[i%2], Made: int64(100 + i/2), Next: 1})
		}
		qt.Assert(t, qt.IsNil(s.PutDelivery(ctx, Delivery{ID: "4", Channel: "x", Stage: DeliveryDead, Ended: 1})))
		list := func(f DeliveryFilter) string {
			t.Helper()
			got, err := s.Deliveries(ctx, f)
			qt.Assert(t, qt.IsNil(err))
			ids := ""
			for _, d := range got {
				ids += d.ID
			}
			return ids
		}
		qt.Check(t, qt.Equals(list(DeliveryFilter{}), "6543210"))
		qt.Check(t, qt.Equals(list(DeliveryFilter{Limit: 3}), "654"))
		qt.Check(t, qt.Equals(list(DeliveryFilter{Limit: 3, Before: "4"}), "321"))
		qt.Check(t, qt.Equals(list(DeliveryFilter{Before: "3"}), "210")) // 2 was made in the same moment
		qt.Check(t, qt.Equals(list(DeliveryFilter{Channel: "y"}), "531"))
		qt.Check(t, qt.Equals(list(DeliveryFilter{Channel: "x", Stage: DeliveryWaiting}), "620"))
		qt.Check(t, qt.Equals(list(DeliveryFilter{Stage: DeliveryDead}), "4"))
		_, err := s.Deliveries(ctx, DeliveryFilter{Before: "none"})
		qt.Check(t, qt.ErrorIs(err, ErrNotFound))
	})
}

// TestNoDeliveryIsTakenTwice: servers that share a store share the work.
func TestNoDeliveryIsTakenTwice(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, c *clock) {
		const deliveries = 120
		newChannel(t, s, "ch")
		for i := range deliveries {
			newDelivery(t, s, Delivery{ID: fmt.Sprint(i), Channel: "ch", Made: c.ms(), Next: c.ms()})
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		taken := map[string]int{}
		for range 6 {
			wg.Go(func() {
				for {
					got, err := s.TakeDeliveries(t.Context(), c.ms(), c.in(time.Hour), 7)
					if err != nil {
						t.Errorf("take: %v", err)
						return
					}
					mu.Lock()
					for _, d := range got {
						taken[d.ID]++
					}
					done := len(taken) == deliveries
					mu.Unlock()
					if done {
						return
					}
				}
			})
		}
		wg.Wait()
		for id, n := range taken {
			qt.Check(t, qt.Equals(n, 1), qt.Commentf("%s", id))
		}
	})
}

// TestWhatIsRememberedIsChangedInTurn: two servers that decide what is told
// read what the other one remembered.
func TestWhatIsRememberedIsChangedInTurn(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, c *clock) {
		ctx := t.Context()
		body, changed, err := s.Watch(ctx, "w")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(body, ""))
		qt.Check(t, qt.Equals(changed, 0))
		const servers, each = 6, 8
		var wg sync.WaitGroup
		for range servers {
			wg.Go(func() {
				for range each {
					if err := s.Update(ctx, func(tx *Tx) error { return countUp(ctx, tx, "w") }); err != nil {
						t.Errorf("update: %v", err)
					}
				}
			})
		}
		wg.Wait()
		body, changed, err = s.Watch(ctx, "w")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(body, strconv.Itoa(servers*each)))
		qt.Check(t, qt.Equals(changed, c.ms()))

		// The audit log is read on from where the last one came to.
		for i := range 5 {
			qt.Assert(t, qt.IsNil(s.Audit(ctx, AuditEntry{Actor: "a", Action: "x", Object: strconv.Itoa(i)})))
		}
		last, err := s.LastAudit(ctx)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(last, 5))
		got, err := s.AuditAfter(ctx, 2, 2)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.HasLen(got, 2))
		qt.Check(t, qt.DeepEquals([]string{got[0].Object, got[1].Object}, []string{"2", "3"}))
	})
}

func countUp(ctx context.Context, tx *Tx, name string) error {
	if err := tx.LockNotify(ctx); err != nil {
		return err
	}
	body, _, err := tx.Watch(ctx, name)
	if err != nil {
		return err
	}
	n := 0
	if body != "" {
		if n, err = strconv.Atoi(body); err != nil {
			return err
		}
	}
	return tx.SaveWatch(ctx, name, strconv.Itoa(n+1))
}
