// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"net/url"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/notify"
	"github.com/tsugi-project/tsugi/internal/store"
)

type newChannel struct{ Body api.NewChannel }

type setChannel struct {
	ID   string `path:"id" maxLength:"255"`
	Body api.ChannelSettings
}

type deliveriesInput struct {
	Channel string `query:"channel" maxLength:"64" doc:"id of a channel"`
	Stage   string `query:"stage" enum:"waiting,delivered,dead"`
	Page
}

// testWait is how long a test waits for what becomes of its messages.
const testWait = 10 * time.Second

func (s *Server) notifyOperations(o *operations) {
	answer(o, op{id: "get-notifications", method: "GET", path: "/v1/notifications", summary: "What people can be told, and by what", may: look},
		func(ctx context.Context, _ operator, _ *none) (api.Notifications, error) { return s.notifications(ctx) })
	answer(o, op{id: "list-channels", method: "GET", path: "/v1/notifications/channels", summary: "How people are told", may: change},
		func(ctx context.Context, _ operator, _ *none) (api.List[api.Channel], error) { return s.channels(ctx) })
	answer(o, op{id: "create-channel", method: "POST", path: "/v1/notifications/channels", summary: "Make a channel; the secret of a webhook is told once", may: change, status: 201},
		func(ctx context.Context, who operator, in *newChannel) (api.ChannelMade, error) {
			return s.createChannel(ctx, who, in.Body)
		})
	answer(o, op{id: "get-channel", method: "GET", path: "/v1/notifications/channels/{id}", summary: "One channel", may: change},
		func(ctx context.Context, _ operator, in *byID) (api.Channel, error) { return s.channel(ctx, in.ID) })
	answer(o, op{id: "set-channel", method: "PUT", path: "/v1/notifications/channels/{id}", summary: "Give a channel other settings, all of them", may: change},
		func(ctx context.Context, who operator, in *setChannel) (api.Channel, error) {
			return s.setChannel(ctx, who, in.ID, in.Body)
		})
	quiet(o, op{id: "delete-channel", method: "DELETE", path: "/v1/notifications/channels/{id}", summary: "Remove a channel with what waits", may: change},
		func(ctx context.Context, who operator, in *byID) error { return s.deleteChannel(ctx, who, in.ID) })
	answer(o, op{id: "test-channel", method: "POST", path: "/v1/notifications/channels/{id}/test", summary: "Send a message by a channel, and say what becomes of it", may: change, wait: testWait},
		func(ctx context.Context, who operator, in *byID) (api.List[api.Delivery], error) {
			return s.testChannel(ctx, who, in.ID)
		})
	answer(o, op{id: "rotate-channel-secret", method: "POST", path: "/v1/notifications/channels/{id}/secret", summary: "Give a webhook a new secret; the one before signs too until it is retired", may: change},
		func(ctx context.Context, who operator, in *byID) (api.ChannelMade, error) {
			return s.rotateSecret(ctx, who, in.ID)
		})
	answer(o, op{id: "retire-channel-secret", method: "DELETE", path: "/v1/notifications/channels/{id}/secret", summary: "End the older of two secrets", may: change},
		func(ctx context.Context, who operator, in *byID) (api.Channel, error) {
			return s.retireSecret(ctx, who, in.ID)
		})
	answer(o, op{id: "list-deliveries", method: "GET", path: "/v1/notifications/deliveries", summary: "Messages on their way and of the last 30 days, the newest first", may: change},
		func(ctx context.Context, _ operator, in *deliveriesInput) (api.List[api.Delivery], error) {
			return s.deliveries(ctx, in)
		})
	answer(o, op{id: "retry-delivery", method: "POST", path: "/v1/notifications/deliveries/{id}/retry", summary: "Try a message again at once", may: change},
		func(ctx context.Context, who operator, in *byID) (api.Delivery, error) {
			return s.retryDelivery(ctx, who, in.ID)
		})
}

func (s *Server) notifications(ctx context.Context) (api.Notifications, error) {
	out := api.Notifications{Kinds: []api.NotificationKind{}, Email: s.opts.Notify.Mail != nil, From: s.opts.Notify.From}
	for _, k := range notify.Kinds() {
		out.Kinds = append(out.Kinds, api.NotificationKind{Kind: string(k.Kind), Severity: string(k.Severity), Title: k.Title})
	}
	n, err := s.store.CountDeliveries(ctx)
	out.Waiting, out.Dead = int(n[store.DeliveryWaiting]), int(n[store.DeliveryDead])
	return out, err
}

// deliveryOf is a delivery as people see it. The path of a webhook's URL may be
// a secret of the receiver.
func deliveryOf(d store.Delivery, kind string) api.Delivery {
	out := api.Delivery{
		ID: d.ID, Channel: d.Channel, To: d.To, Subject: d.Subject, Stage: d.Stage, Attempts: d.Attempt, Made: d.Made, Ended: d.Ended,
	}
	if d.Stage == store.DeliveryWaiting {
		out.Next = d.Next
	}
	if u, err := url.Parse(d.To); kind != string(notify.Email) && err == nil && u.Host != "" {
		out.To = u.Scheme + "://" + u.Host
	}
	var m notify.Message
	if json.Unmarshal([]byte(d.Message), &m) == nil {
		out.Text = m.Text
	}
	if d.Problem != "" {
		out.Problem = &api.Problem{}
		if json.Unmarshal([]byte(d.Problem), out.Problem) != nil {
			out.Problem = &api.Problem{Code: "TS8311"}
		}
	}
	return out
}

// testChannel sends a message, also by a channel that is paused, and waits a
// moment for what becomes of it.
func (s *Server) testChannel(ctx context.Context, who operator, id string) (api.List[api.Delivery], error) {
	out := api.List[api.Delivery]{Items: []api.Delivery{}}
	row, err := s.store.Channel(ctx, id)
	if err != nil {
		return out, missing(err, "channel", id)
	}
	c, sealed, err := s.teller.open(row)
	if err != nil {
		return out, err
	}
	if sealed != nil {
		return out, refuse("TS8312", row.Name, errSealed.Error()+": give it a new one")
	}
	m := notify.Of(c.channel, notify.Event{
		ID: "test " + randomID(), Kind: notify.Test, Time: s.now(), Subject: "channel/" + id, Title: "This is a test of channel " + row.Name,
		Facts: []notify.Fact{{Name: "by", Value: who.name}}, Path: "/console/notifications",
	}, 0, s.teller.base)
	if err := s.store.Update(ctx, func(tx *store.Tx) error {
		if err := s.teller.post(ctx, tx, c.channel, m); err != nil {
			return err
		}
		return tx.Audit(ctx, store.AuditEntry{Actor: who.name, Action: "channel.test", Object: id, Detail: row.Name})
	}); err != nil {
		return out, err
	}
	s.teller.courier.Kick()
	deadline := time.NewTimer(testWait)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for over := false; ; {
		out.Items = out.Items[:0]
		waiting := false
		for _, d := range notify.Deliveries(c.channel, m, s.now()) {
			row, err := s.store.Delivery(ctx, d.ID)
			if err != nil {
				return out, missing(err, "delivery", d.ID) // the channel is gone meanwhile
			}
			waiting = waiting || row.Stage == store.DeliveryWaiting && row.Attempt == 0
			out.Items = append(out.Items, deliveryOf(row, c.settings.Type))
		}
		if !waiting || over {
			return out, nil
		}
		select {
		case <-ctx.Done():
			return out, ctx.Err()
		case <-s.closing:
			over = true
		case <-deadline.C:
			over = true
		case <-tick.C:
		}
	}
}

func (s *Server) deliveries(ctx context.Context, in *deliveriesInput) (api.List[api.Delivery], error) {
	rows, err := s.store.Deliveries(ctx, store.DeliveryFilter{Channel: in.Channel, Stage: in.Stage, Before: in.After, Limit: in.Limit})
	if err != nil {
		return api.List[api.Delivery]{}, missing(err, "delivery", in.After)
	}
	kinds := map[string]string{}
	channels, err := s.store.Channels(ctx)
	for _, c := range channels {
		var settings api.ChannelSettings
		if json.Unmarshal([]byte(c.Body), &settings) == nil {
			kinds[c.ID] = settings.Type
		}
	}
	items := make([]api.Delivery, len(rows))
	for i, row := range rows {
		items[i] = deliveryOf(row, kinds[row.Channel])
	}
	return listOf(items, in.Limit, func(d api.Delivery) string { return d.ID }), err
}

func (s *Server) retryDelivery(ctx context.Context, who operator, id string) (api.Delivery, error) {
	var out api.Delivery
	err := s.store.Update(ctx, func(tx *store.Tx) error {
		row, err := tx.Delivery(ctx, id)
		if err != nil {
			return missing(err, "delivery", id)
		}
		if err := tx.RetryDelivery(ctx, row); err != nil {
			return missing(err, "delivery that is not delivered", id)
		}
		if err := tx.Audit(ctx, store.AuditEntry{Actor: who.name, Action: "delivery.retry", Object: id, Detail: row.Subject}); err != nil {
			return err
		}
		if row, err = tx.Delivery(ctx, id); err != nil {
			return err
		}
		c, err := tx.Channel(ctx, row.Channel)
		if err != nil {
			return err
		}
		var settings api.ChannelSettings
		_ = json.Unmarshal([]byte(c.Body), &settings) // its type only decides how much of the address is shown
		out = deliveryOf(row, settings.Type)
		return nil
	})
	if err == nil {
		s.teller.courier.Kick()
	}
	return out, err
}
