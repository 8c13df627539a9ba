// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/courier"
	"github.com/tsugi-project/tsugi/internal/notify"
	"github.com/tsugi-project/tsugi/internal/store"
)

// NotifyOptions are what people are told with.
type NotifyOptions struct {
	Webhooks courier.Sender // nil: none are sent
	Mail     courier.Sender // nil: none is sent
	From     string         // of mail, to show
	Plain    bool           // webhooks may go to http://
	// Key seals the secrets of webhooks in the store: 32 bytes that every
	// replica has. nil: no webhook can be set up.
	Key []byte
}

// Times of notifications.
const (
	// tellInterval is how often is looked what other servers wrote into the
	// audit log; what this one writes is told at once.
	tellInterval  = 5 * time.Second
	watchInterval = time.Minute
	// deliveriesFor is how long is kept what was sent.
	deliveriesFor = 30 * 24 * time.Hour
	auditBatch    = 200
)

// What is remembered under which names.
const (
	watchConditions = "conditions"
	watchAudit      = "audit"
)

// teller tells people what happens. Whoever of some replicas finds it first
// writes it into the outbox, once; whoever is free delivers it.
type teller struct {
	store   *store.Store
	log     *slog.Logger
	now     func() time.Time
	options NotifyOptions
	base    string // URL of the console
	seal    cipher.AEAD
	courier *courier.Worker
	soon    chan struct{}
	read    atomic.Int64 // of the audit log, as far as this server knows
	started atomic.Bool  // read is known
	outcome func(stage notify.Stage)
}

func newTeller(o Options, outcome func(notify.Stage)) (*teller, error) {
	t := &teller{store: o.Store, log: o.Log, now: o.Now, options: o.Notify, base: o.URL, soon: make(chan struct{}, 1), outcome: outcome}
	if o.Notify.Key != nil {
		block, err := aes.NewCipher(o.Notify.Key)
		if err != nil {
			return nil, fmt.Errorf("key of notifications: %w", err)
		}
		if t.seal, err = cipher.NewGCMWithRandomNonce(block); err != nil {
			return nil, err
		}
	}
	senders := map[notify.Type]courier.Sender{}
	if o.Notify.Webhooks != nil {
		senders[notify.Webhook] = o.Notify.Webhooks
	}
	if o.Notify.Mail != nil {
		senders[notify.Email] = o.Notify.Mail
	}
	t.courier = courier.NewWorker(courier.WorkerOptions{Outbox: t, Senders: senders, Now: o.Now, Log: o.Log})
	return t, nil
}

// kick has the audit log read soon.
func (t *teller) kick() { poke(t.soon) }

// channelRow is a channel as the store has it, taken apart.
type channelRow struct {
	store.Channel
	settings api.ChannelSettings
	channel  notify.Channel
	state    notify.State
}

// open takes a channel apart. sealed is what keeps its secrets from being
// opened, if anything does: all else is right then.
func (t *teller) open(row store.Channel) (out channelRow, sealed, err error) {
	out = channelRow{Channel: row}
	if err := json.Unmarshal([]byte(row.Body), &out.settings); err != nil {
		return out, nil, fmt.Errorf("channel %s: %w", row.Name, err)
	}
	out.channel = channelOf(row.ID, out.settings)
	if row.State != "" && json.Unmarshal([]byte(row.State), &out.state) != nil {
		out.state = notify.State{} // of a newer program: something may be told twice
	}
	out.channel.Secrets, sealed = t.unsealed(row)
	return out, sealed, nil
}

var errSealed = errors.New("the secrets of the channel were sealed with another key than this server has")

func (t *teller) unsealed(row store.Channel) ([]notify.Secret, error) {
	if len(row.Secrets) == 0 {
		return nil, nil
	}
	if t.seal == nil {
		return nil, errSealed
	}
	b, err := t.seal.Open(nil, nil, row.Secrets, []byte("channel "+row.ID))
	if err != nil {
		return nil, errSealed
	}
	var out []notify.Secret
	return out, json.Unmarshal(b, &out)
}

// sealed keeps the secrets of a channel from who reads the database.
func (t *teller) sealed(id string, secrets []notify.Secret) ([]byte, error) {
	if len(secrets) == 0 {
		return nil, nil
	}
	if t.seal == nil {
		return nil, code.New("TS8312", "webhook", "this server has no key to keep secrets with")
	}
	b, err := json.Marshal(secrets)
	if err != nil {
		return nil, err
	}
	return t.seal.Seal(nil, nil, b, []byte("channel "+id)), nil
}

// zoneOf is the time zone of a digest; it was checked when it was set.
func zoneOf(c notify.Channel) *time.Location {
	zone, err := time.LoadLocation(c.Digest.Zone)
	if err != nil {
		return time.UTC
	}
	return zone
}

// tell decides what becomes of events, inside a transaction that has the lock,
// and puts messages into the outbox. Without events it only gathers what is
// due.
func (t *teller) tell(ctx context.Context, tx *store.Tx, events []notify.Event) error {
	rows, err := tx.Channels(ctx)
	if err != nil {
		return err
	}
	for _, row := range rows {
		c, _, err := t.open(row)
		if err != nil {
			t.log.Error("channel can't be read", "channel", row.Name, "err", err) // it must not keep the others from anything
			continue
		}
		now, zone := t.now(), zoneOf(c.channel)
		var messages []notify.Message
		for _, e := range events {
			if d, held := c.state.Decide(c.channel, e, now, zone); d.How == notify.Now {
				messages = append(messages, notify.Of(c.channel, e, held, t.base))
			}
		}
		if kept, more, ok := c.state.Gather(c.channel, now); ok {
			messages = append(messages, notify.Gathered(c.channel, kept, more, t.base, now))
		}
		for _, m := range messages {
			if err := t.post(ctx, tx, c.channel, m); err != nil {
				return err
			}
		}
		state, err := json.Marshal(c.state)
		if err != nil {
			return err
		}
		if string(state) != row.State {
			if err := tx.SetChannelState(ctx, row.ID, string(state)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Tell tells people of events that no entry of the audit log stands for. Events
// have ids of their own, so that telling one twice is telling it once.
func (t *teller) Tell(ctx context.Context, events ...notify.Event) error {
	err := t.store.Update(ctx, func(tx *store.Tx) error {
		if err := tx.LockNotify(ctx); err != nil {
			return err
		}
		return t.tell(ctx, tx, events)
	})
	if err == nil {
		t.courier.Kick()
	}
	return err
}

// readAudit tells what the audit log has got since it was last read.
func (t *teller) readAudit(ctx context.Context) error {
	for {
		last, err := t.store.LastAudit(ctx)
		if err != nil || t.started.Load() && last == t.read.Load() {
			return err
		}
		more := false
		err = t.store.Update(ctx, func(tx *store.Tx) error {
			more = false
			if err := tx.LockNotify(ctx); err != nil {
				return err
			}
			word, _, err := tx.Watch(ctx, watchAudit)
			if err != nil {
				return err
			}
			if word == "" { // nobody is told of what was before there were notifications
				t.read.Store(last)
				return tx.SaveWatch(ctx, watchAudit, fmt.Sprint(last))
			}
			var read int64
			if _, err := fmt.Sscan(word, &read); err != nil {
				return fmt.Errorf("watch %s: %w", watchAudit, err)
			}
			entries, err := tx.AuditAfter(ctx, read, auditBatch)
			if err != nil {
				return err
			}
			if len(entries) == 0 {
				t.read.Store(max(read, last)) // entries may be missing; who checks the chain sees that
				return nil
			}
			var events []notify.Event
			for _, e := range entries {
				if event, ok := eventOf(e); ok {
					events = append(events, event)
				}
			}
			if len(events) > 0 {
				if err := t.tell(ctx, tx, events); err != nil {
					return err
				}
			}
			read = entries[len(entries)-1].Seq
			t.read.Store(read)
			more = len(entries) == auditBatch
			return tx.SaveWatch(ctx, watchAudit, fmt.Sprint(read))
		})
		if err != nil {
			t.started.Store(false)
			return err
		}
		t.started.Store(true)
		t.courier.Kick()
		if !more {
			return nil
		}
	}
}

// watch compares how things stand with what is remembered. Of several servers
// one does so in a minute.
func (t *teller) watch(ctx context.Context, facts func(context.Context) notify.Facts) error {
	fresh := func(changed int64) bool { return t.now().Sub(time.UnixMilli(changed)) < watchInterval*9/10 }
	if _, changed, err := t.store.Watch(ctx, watchConditions); err != nil || fresh(changed) {
		return err
	}
	f := facts(ctx)
	return t.store.Update(ctx, func(tx *store.Tx) error {
		if err := tx.LockNotify(ctx); err != nil {
			return err
		}
		body, changed, err := tx.Watch(ctx, watchConditions)
		if err != nil || fresh(changed) {
			return err
		}
		var memory notify.Memory
		if body != "" && json.Unmarshal([]byte(body), &memory) != nil {
			memory = nil // of a newer program: something may be told twice
		}
		events, next := notify.Watch(f, memory, t.now())
		if err := t.tell(ctx, tx, events); err != nil {
			return err
		}
		b, err := json.Marshal(next)
		if err != nil {
			return err
		}
		return tx.SaveWatch(ctx, watchConditions, string(b))
	})
}

// keepTelling tells people what happens and how things stand, until the
// context ends.
func (s *Server) keepTelling(ctx context.Context) error {
	tick, minute := time.NewTicker(tellInterval), time.NewTicker(watchInterval)
	defer tick.Stop()
	defer minute.Stop()
	failing := false
	for {
		err := s.teller.readAudit(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !failing {
			s.log.Error("notifications could not be made", "err", err)
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-s.teller.soon:
		case <-minute.C:
			s.watchOnce(ctx)
		}
	}
}

// watchOnce is a minute's look at how things stand.
func (s *Server) watchOnce(ctx context.Context) {
	if err := s.teller.watch(ctx, s.notifyFacts); err != nil && ctx.Err() == nil {
		s.log.Error("how things stand could not be told", "err", err)
	}
	s.teller.courier.Kick()
	if _, err := s.store.PruneDeliveries(ctx, s.now().Add(-deliveriesFor).UnixMilli()); err != nil && ctx.Err() == nil {
		s.log.Warn("old notifications could not be forgotten", "err", err)
	}
}

// randomID is an id of an event that nothing else stands for.
func randomID() string { return rand.Text() }
