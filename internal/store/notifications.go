// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"

	"github.com/tsugi-project/tsugi/internal/store/query"
)

// Channel is a way to reach people, as package notify has it.
type Channel struct {
	ID        string
	Name      string
	Body      string // JSON: the channel
	Secrets   []byte // sealed
	State     string // JSON: what was told through it; "": nothing yet
	Created   int64
	Changed   int64
	ChangedBy string
}

// The stages of deliveries.
const (
	DeliveryWaiting   = "waiting"
	DeliveryDelivered = "delivered"
	DeliveryDead      = "dead"
)

// Delivery is a message on its way to one address of a channel.
type Delivery struct {
	ID      string
	Channel string // id
	To      string
	Subject string
	Message string // JSON
	Stage   string
	Attempt int
	Made    int64
	Next    int64 // when it is tried, of one that waits
	Ended   int64
	Problem string // JSON, of the last attempt
}

// DeliveryFilter chooses deliveries; zero fields choose all. The newest come
// first.
type DeliveryFilter struct {
	Channel string
	Stage   string
	Before  string // id: the older ones
	Limit   int    // 0: 1,000
}

// Channels lists channels by name.
func (r Reader) Channels(ctx context.Context) ([]Channel, error) {
	found, err := r.q.Channels(ctx)
	all := make([]Channel, len(found))
	for i, row := range found {
		all[i] = channel(row)
	}
	return all, r.s.translate(err)
}

// Channel returns a channel.
func (r Reader) Channel(ctx context.Context, id string) (Channel, error) {
	row, err := r.q.Channel(ctx, id)
	return channel(row), named(r.s.translate(err), "channel %s", id)
}

func channel(row query.Channel) Channel {
	row.Secrets = bytesOrNil(row.Secrets)
	return Channel(row)
}

// NewID makes an id of a channel, which what is sealed in it is bound to.
func NewID() (string, error) { return id() }

// CreateChannel stores a channel under its id. ErrConflict if there is one of
// the name.
func (tx *Tx) CreateChannel(ctx context.Context, c Channel) error {
	tx.changed(KindChannel, c.ID)
	return named(tx.s.translate(tx.q.InsertChannel(ctx, query.InsertChannelParams{
		ID: c.ID, Name: text(c.Name), Body: text(c.Body), Secrets: filled(c.Secrets), Created: tx.now, ChangedBy: text(c.ChangedBy),
	})), "channel %s", c.Name)
}

// ChangeChannel stores a channel's name, body and secrets.
func (tx *Tx) ChangeChannel(ctx context.Context, c Channel) error {
	tx.changed(KindChannel, c.ID)
	n, err := tx.q.ChangeChannel(ctx, query.ChangeChannelParams{
		ID: c.ID, Name: text(c.Name), Body: text(c.Body), Secrets: filled(c.Secrets), Changed: tx.now, ChangedBy: text(c.ChangedBy),
	})
	return named(changedOne(n, tx.s.translate(err)), "channel %s", c.ID)
}

// SetChannelState stores what was told through a channel.
func (tx *Tx) SetChannelState(ctx context.Context, id, state string) error {
	return named(tx.q.SetChannelState(ctx, query.SetChannelStateParams{ID: id, State: text(state)}), "channel %s", id)
}

// DeleteChannel removes a channel with what waits and what was sent.
func (tx *Tx) DeleteChannel(ctx context.Context, id string) error {
	tx.changed(KindChannel, id)
	if err := tx.q.DeleteChannelDeliveries(ctx, id); err != nil {
		return err
	}
	return named(changedOne(tx.q.DeleteChannel(ctx, id)), "channel %s", id)
}

// AddDelivery stores a message that is to be delivered, and says whether it is
// a new one.
func (tx *Tx) AddDelivery(ctx context.Context, d Delivery) (bool, error) {
	n, err := tx.q.InsertDelivery(ctx, query.InsertDeliveryParams{
		ID: d.ID, Channel: d.Channel, Recipient: text(d.To), Subject: text(d.Subject), Message: text(d.Message), Made: d.Made, Next: d.Next,
	})
	if n > 0 {
		tx.changed(KindChannel, d.Channel)
	}
	return n > 0, named(tx.s.translate(err), "delivery %s", d.ID)
}

// Delivery returns a delivery.
func (r Reader) Delivery(ctx context.Context, id string) (Delivery, error) {
	row, err := r.q.Delivery(ctx, id)
	return delivery(row), named(r.s.translate(err), "delivery %s", id)
}

func delivery(row query.Outbox) Delivery {
	return Delivery{
		ID: row.ID, Channel: row.Channel, To: row.Recipient, Subject: row.Subject, Message: row.Message, Stage: row.Stage, Attempt: int(row.Attempt),
		Made: row.Made, Next: row.Next, Ended: row.Ended, Problem: row.Problem,
	}
}

// Deliveries lists deliveries. What Before names and is gone by now begins the
// list anew.
func (r Reader) Deliveries(ctx context.Context, f DeliveryFilter) ([]Delivery, error) {
	p := query.DeliveriesParams{
		Newest: true, AnyChannel: f.Channel == "", Channel: f.Channel, AnyStage: f.Stage == "", Stage: f.Stage, RowLimit: rows(f.Limit),
	}
	if f.Before != "" {
		last, err := r.q.Delivery(ctx, f.Before)
		if err != nil {
			return nil, named(r.s.translate(err), "delivery %s", f.Before)
		}
		p.Newest, p.Made, p.Before = false, last.Made, last.ID
	}
	found, err := r.q.Deliveries(ctx, p)
	all := make([]Delivery, len(found))
	for i, row := range found {
		all[i] = delivery(row)
	}
	return all, r.s.translate(err)
}

// CountDeliveries counts deliveries by stage.
func (r Reader) CountDeliveries(ctx context.Context) (map[string]int64, error) {
	found, err := r.q.CountDeliveries(ctx)
	all := map[string]int64{}
	for _, row := range found {
		all[row.Stage] = row.Deliveries
	}
	return all, r.s.translate(err)
}

// TakeDeliveries gives some that are due at a time, and gives them to nobody
// else until another.
func (s *Store) TakeDeliveries(ctx context.Context, now, until int64, most int) ([]Delivery, error) {
	// Mostly nothing is due: that is found out without a transaction.
	if due, err := s.q.DueDeliveries(ctx, query.DueDeliveriesParams{Now: now, RowLimit: 1}); err != nil || len(due) == 0 {
		return nil, s.translate(err)
	}
	var taken []Delivery
	err := s.Update(ctx, func(tx *Tx) error {
		taken = nil
		due, err := tx.q.DueDeliveries(ctx, query.DueDeliveriesParams{Now: now, RowLimit: rows(most)})
		if err != nil {
			return err
		}
		for _, id := range due {
			row, err := tx.q.TakeDelivery(ctx, query.TakeDeliveryParams{ID: id, Now: now, Until: until})
			if err = tx.s.translate(err); errors.Is(err, ErrNotFound) {
				continue // another server has it
			} else if err != nil {
				return err
			}
			taken = append(taken, delivery(row))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return taken, nil
}

// PutDelivery stores what became of a delivery. One whose channel is gone is
// gone too, which is no error; nor is it one that somebody else, who took it
// after this one took too long, came to an end with: what arrived stays so.
func (s *Store) PutDelivery(ctx context.Context, d Delivery) error {
	return s.Update(ctx, func(tx *Tx) error {
		tx.changed(KindChannel, d.Channel)
		_, err := tx.q.PutDelivery(ctx, query.PutDeliveryParams{
			ID: d.ID, Stage: d.Stage, Attempt: int64(d.Attempt), Next: d.Next, Ended: d.Ended, Problem: text(d.Problem),
			Arrived: d.Stage == DeliveryDelivered,
		})
		return named(err, "delivery %s", d.ID)
	})
}

// RetryDelivery has a delivery tried at once, and for as long as a new one.
// ErrNotFound if there is none that is not delivered.
func (tx *Tx) RetryDelivery(ctx context.Context, d Delivery) error {
	tx.changed(KindChannel, d.Channel)
	return named(changedOne(tx.q.RetryDelivery(ctx, query.RetryDeliveryParams{ID: d.ID, Now: tx.now})), "delivery %s", d.ID)
}

// PruneDeliveries forgets what ended before a time.
func (s *Store) PruneDeliveries(ctx context.Context, before int64) (n int64, err error) {
	err = s.Update(ctx, func(tx *Tx) error {
		n, err = tx.q.PruneDeliveries(ctx, before)
		return err
	})
	return n, err
}

// Watch is what is remembered under a name, and when that was; "" if nothing
// is.
func (r Reader) Watch(ctx context.Context, name string) (body string, changed int64, err error) {
	row, err := r.q.Watch(ctx, name)
	if err = r.s.translate(err); errors.Is(err, ErrNotFound) {
		return "", 0, nil
	}
	return row.Body, row.Changed, err
}

// SaveWatch remembers something under a name.
func (tx *Tx) SaveWatch(ctx context.Context, name, body string) error {
	return named(tx.q.SaveWatch(ctx, query.SaveWatchParams{Name: name, Body: text(body), Changed: tx.now}), "watch %s", name)
}

// AuditAfter are entries of the audit log after a number, in order.
func (r Reader) AuditAfter(ctx context.Context, after int64, most int) ([]AuditEntry, error) {
	found, err := r.q.AuditChain(ctx, query.AuditChainParams{After: after, RowLimit: rows(most)})
	all := make([]AuditEntry, len(found))
	for i, row := range found {
		all[i] = AuditEntry(row)
	}
	return all, r.s.translate(err)
}

// LastAudit is the number of the last entry of the audit log.
func (r Reader) LastAudit(ctx context.Context) (int64, error) {
	n, err := r.q.Counter(ctx, counterAudit)
	return n, r.s.translate(err)
}
