// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
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

// channelOf is a channel as package notify has it, without its secrets.
func channelOf(id string, c api.ChannelSettings) notify.Channel {
	out := notify.Channel{
		ID: id, Name: c.Name, Type: notify.Type(c.Type), To: c.To, Kinds: c.Kinds, Least: notify.Severity(c.Least), Groups: c.Groups,
		Repeat: time.Duration(c.Repeat) * time.Second, PerHour: c.PerHour, Paused: c.Paused,
	}
	if d := c.Digest; d != nil {
		out.Digest = notify.Digest{Every: notify.Every(d.Every), At: d.At, Weekday: time.Weekday(d.Weekday), Zone: d.Zone}
	}
	return out
}

// checkChannel is what a channel has to hold before it is kept.
func (s *Server) checkChannel(c notify.Channel) error {
	err := c.Check(s.opts.Notify.Plain)
	if _, bad := time.LoadLocation(c.Digest.Zone); bad != nil || c.Digest.Zone == "Local" {
		err = errors.Join(err, code.New("TS8312", c.Name, "digest: there is no time zone "+quoted(c.Digest.Zone)))
	}
	if c.Type == notify.Email && s.opts.Notify.Mail == nil {
		err = errors.Join(err, code.New("TS8312", c.Name, "this server is not set up to send e-mail: mail.host and mail.from of its configuration"))
	}
	var all []string
	list := []error{err}
	if j, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // the very one that was joined here
		list = j.Unwrap()
	}
	for len(list) > 0 {
		e := list[0]
		list = list[1:]
		if j, ok := e.(interface{ Unwrap() []error }); ok { //nolint:errorlint // and those in it
			list = append(j.Unwrap(), list...)
		} else if p, ok := errors.AsType[*code.Problem](e); ok {
			all = append(all, p.Why)
		}
	}
	if len(all) == 0 {
		return err
	}
	return refuse("TS8312", c.Name, strings.Join(all, "; "))
}

func (s *Server) channelWire(ctx context.Context, r store.Reader, row store.Channel) (api.Channel, error) {
	c, _, err := s.teller.open(row)
	if err != nil {
		return api.Channel{}, err
	}
	out := api.Channel{
		ID: row.ID, ChannelSettings: c.settings, Secrets: len(c.channel.Secrets), Created: row.Created, Changed: row.Changed, ChangedBy: row.ChangedBy,
		Kept: len(c.state.Kept),
	}
	for _, n := range c.state.More {
		out.Kept += n
	}
	if out.Kept > 0 {
		out.Due = c.state.Due.UnixMilli()
	}
	last, err := r.Deliveries(ctx, store.DeliveryFilter{Channel: row.ID, Limit: 1})
	if len(last) > 0 {
		d := deliveryOf(last[0], c.settings.Type)
		out.Last = &d
	}
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

func (s *Server) channels(ctx context.Context) (api.List[api.Channel], error) {
	rows, err := s.store.Channels(ctx)
	items := make([]api.Channel, 0, len(rows))
	for _, row := range rows {
		if err != nil {
			break
		}
		var c api.Channel
		if c, err = s.channelWire(ctx, s.store.Reader, row); err == nil {
			items = append(items, c)
		}
	}
	return api.List[api.Channel]{Items: items}, err
}

func (s *Server) channel(ctx context.Context, id string) (api.Channel, error) {
	row, err := s.store.Channel(ctx, id)
	if err != nil {
		return api.Channel{}, missing(err, "channel", id)
	}
	return s.channelWire(ctx, s.store.Reader, row)
}

// maxChannels bounds how many there are: each is looked at for each event.
const maxChannels = 100

func (s *Server) createChannel(ctx context.Context, who operator, in api.NewChannel) (api.ChannelMade, error) {
	id, err := store.NewID()
	if err != nil {
		return api.ChannelMade{}, err
	}
	c := channelOf(id, in.ChannelSettings)
	if c.Type == notify.Webhook {
		c.Secrets = []notify.Secret{notify.Secret(cmp.Or(in.Secret, string(notify.NewSecret())))}
	} else if in.Secret != "" {
		return api.ChannelMade{}, refuse("TS8312", c.Name, "only a webhook has a secret")
	}
	if err := s.checkChannel(c); err != nil {
		return api.ChannelMade{}, err
	}
	sealed, err := s.teller.sealed(id, c.Secrets)
	if err != nil {
		return api.ChannelMade{}, err
	}
	body, err := json.Marshal(in.ChannelSettings)
	if err != nil {
		return api.ChannelMade{}, err
	}
	var made api.ChannelMade
	err = s.store.Update(ctx, func(tx *store.Tx) error {
		if err := tx.LockNotify(ctx); err != nil {
			return err
		}
		there, err := tx.Channels(ctx)
		if err != nil {
			return err
		}
		if len(there) >= maxChannels {
			return refuse("TS8312", c.Name, "there are 100 channels, which is the most")
		}
		if err := tx.CreateChannel(ctx, store.Channel{ID: id, Name: in.Name, Body: string(body), Secrets: sealed, ChangedBy: who.name}); err != nil {
			return nameTaken(err, in.Name)
		}
		if err := tx.Audit(ctx, store.AuditEntry{Actor: who.name, Action: "channel.create", Object: id, Detail: channelWords(c)}); err != nil {
			return err
		}
		row, err := tx.Channel(ctx, id)
		if err != nil {
			return err
		}
		made.Channel, err = s.channelWire(ctx, tx.Reader, row)
		return err
	})
	if len(c.Secrets) > 0 {
		made.Secret = string(c.Secrets[0])
	}
	return made, err
}

func nameTaken(err error, name string) error {
	if errors.Is(err, store.ErrConflict) {
		return refuse("TS7611", "", "there is a channel "+quoted(name))
	}
	return err
}

// channelWords is a channel as the audit log has it.
func channelWords(c notify.Channel) string {
	to := strings.Join(c.To, ", ")
	if u, err := url.Parse(to); c.Type == notify.Webhook && err == nil {
		to = u.Scheme + "://" + u.Host
	}
	return c.Name + ", " + string(c.Type) + " to " + to
}

// changeChannel changes a channel that is there.
func (s *Server) changeChannel(ctx context.Context, who operator, id, action string, f func(*channelRow) error) (api.Channel, error) {
	var out api.Channel
	err := s.store.Update(ctx, func(tx *store.Tx) error {
		if err := tx.LockNotify(ctx); err != nil {
			return err
		}
		row, err := tx.Channel(ctx, id)
		if err != nil {
			return missing(err, "channel", id)
		}
		c, sealed, err := s.teller.open(row)
		if err != nil {
			return err
		}
		if err := f(&c); err != nil {
			return err
		}
		checked := c.channel
		if sealed != nil && len(checked.Secrets) == 0 && checked.Type == notify.Webhook {
			return refuse("TS8312", checked.Name, errSealed.Error()+": give it a new one")
		}
		if err := s.checkChannel(checked); err != nil {
			return err
		}
		row.Name = c.settings.Name
		if row.Secrets, err = s.teller.sealed(id, checked.Secrets); err != nil {
			return err
		}
		b, err := json.Marshal(c.settings)
		if err != nil {
			return err
		}
		row.Body, row.ChangedBy = string(b), who.name
		if err := tx.ChangeChannel(ctx, row); err != nil {
			return nameTaken(err, row.Name)
		}
		if err := tx.Audit(ctx, store.AuditEntry{Actor: who.name, Action: action, Object: id, Detail: channelWords(checked)}); err != nil {
			return err
		}
		if row, err = tx.Channel(ctx, id); err != nil {
			return err
		}
		out, err = s.channelWire(ctx, tx.Reader, row)
		return err
	})
	return out, err
}

func (s *Server) setChannel(ctx context.Context, who operator, id string, in api.ChannelSettings) (api.Channel, error) {
	return s.changeChannel(ctx, who, id, "channel.change", func(c *channelRow) error {
		if in.Type != c.settings.Type {
			return refuse("TS8312", in.Name, "a channel's type stays: make another channel")
		}
		secrets := c.channel.Secrets
		c.settings, c.channel = in, channelOf(id, in)
		c.channel.Secrets = secrets
		return nil
	})
}

func (s *Server) deleteChannel(ctx context.Context, who operator, id string) error {
	return missing(s.store.Update(ctx, func(tx *store.Tx) error {
		if err := tx.LockNotify(ctx); err != nil {
			return err
		}
		row, err := tx.Channel(ctx, id)
		if err != nil {
			return err
		}
		if err := tx.DeleteChannel(ctx, id); err != nil {
			return err
		}
		return tx.Audit(ctx, store.AuditEntry{Actor: who.name, Action: "channel.delete", Object: id, Detail: row.Name})
	}), "channel", id)
}

func (s *Server) rotateSecret(ctx context.Context, who operator, id string) (api.ChannelMade, error) {
	secret := notify.NewSecret()
	c, err := s.changeChannel(ctx, who, id, "channel.secret", func(c *channelRow) error {
		if c.channel.Type != notify.Webhook {
			return refuse("TS8312", c.Name, "only a webhook has a secret")
		}
		c.channel.Secrets = append([]notify.Secret{secret}, c.channel.Secrets[:min(1, len(c.channel.Secrets))]...)
		return nil
	})
	if err != nil {
		return api.ChannelMade{}, err
	}
	return api.ChannelMade{Channel: c, Secret: string(secret)}, nil
}

func (s *Server) retireSecret(ctx context.Context, who operator, id string) (api.Channel, error) {
	return s.changeChannel(ctx, who, id, "channel.secret", func(c *channelRow) error {
		if len(c.channel.Secrets) < 2 {
			return refuse("TS8312", c.Name, "there is no second secret")
		}
		c.channel.Secrets = c.channel.Secrets[:1]
		return nil
	})
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
