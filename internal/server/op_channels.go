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
	for _, p := range code.All(err) {
		all = append(all, p.Why)
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
