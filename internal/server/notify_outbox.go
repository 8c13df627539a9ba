// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/tsugi-project/tsugi/internal/courier"
	"github.com/tsugi-project/tsugi/internal/notify"
	"github.com/tsugi-project/tsugi/internal/store"
)

// post puts a message into the outbox, once for each address.
func (t *teller) post(ctx context.Context, tx *store.Tx, c notify.Channel, m notify.Message) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	for _, d := range notify.Deliveries(c, m, t.now()) {
		if _, err := tx.AddDelivery(ctx, store.Delivery{
			ID: d.ID, Channel: c.ID, To: d.To, Subject: m.Subject, Message: string(b), Made: d.Made.UnixMilli(), Next: d.Next.UnixMilli(),
		}); err != nil {
			return err
		}
	}
	return nil
}

// Take is the outbox of the courier. What can't be read is left where it is, and
// keeps nothing else from being delivered.
func (t *teller) Take(ctx context.Context, now time.Time, lease time.Duration, most int) ([]courier.Job, error) {
	rows, err := t.store.TakeDeliveries(ctx, now.UnixMilli(), now.Add(lease).UnixMilli(), most)
	if err != nil {
		return nil, err
	}
	var out []courier.Job
	channels := map[string]*notify.Channel{} // nil: none that a delivery can go by
	for _, row := range rows {
		c, known := channels[row.Channel]
		if !known {
			if c, err = t.channelFor(ctx, row.Channel); err != nil {
				return nil, err
			}
			channels[row.Channel] = c
		}
		if c == nil {
			continue
		}
		d := notify.Delivery{
			ID: row.ID, Channel: row.Channel, To: row.To, Stage: notify.Stage(row.Stage), Attempt: row.Attempt,
			Made: time.UnixMilli(row.Made), Next: time.UnixMilli(row.Next),
		}
		if err := json.Unmarshal([]byte(row.Message), &d.Message); err != nil {
			t.log.Error("notification can't be read", "delivery", row.ID, "err", err)
			continue
		}
		out = append(out, courier.Job{Channel: *c, Delivery: d})
	}
	return out, nil
}

// channelFor is a channel that messages go by; nil: it is gone, and its
// deliveries with it, or it can't be read.
func (t *teller) channelFor(ctx context.Context, id string) (*notify.Channel, error) {
	found, err := t.store.Channel(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	opened, sealed, err := t.open(found)
	if err != nil {
		t.log.Error("channel can't be read", "channel", found.Name, "err", err)
		return nil, nil
	}
	if sealed != nil {
		t.log.Error("webhook can't be signed", "channel", found.Name, "err", sealed)
	}
	return &opened.channel, nil
}

// Put is the outbox of the courier.
func (t *teller) Put(ctx context.Context, d notify.Delivery) error {
	row := store.Delivery{ID: d.ID, Channel: d.Channel, Stage: string(d.Stage), Attempt: d.Attempt}
	switch d.Stage {
	case notify.Waiting:
		row.Next = d.Next.UnixMilli()
	case notify.Delivered, notify.Dead:
		row.Ended = d.Ended.UnixMilli()
	}
	if d.Problem != nil {
		b, err := json.Marshal(problemOf(d.Problem))
		if err != nil {
			return err
		}
		row.Problem = string(b)
	}
	t.outcome(d.Stage)
	return t.store.PutDelivery(ctx, row)
}
