// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"net/http"

	"github.com/tsugi-project/tsugi/internal/api"
)

func channelPath(id, verb string) string { return path("v1", "notifications", "channels", id) + verb }

// Notifications says what people can be told, and by what.
func (c *Client) Notifications(ctx context.Context) (*api.Notifications, error) {
	return get[api.Notifications](ctx, c, "/v1/notifications", nil)
}

// Channels lists the channels.
func (c *Client) Channels(ctx context.Context) (*api.List[api.Channel], error) {
	return get[api.List[api.Channel]](ctx, c, "/v1/notifications/channels", nil)
}

// Channel is one channel.
func (c *Client) Channel(ctx context.Context, id string) (*api.Channel, error) {
	return get[api.Channel](ctx, c, channelPath(id, ""), nil)
}

// CreateChannel makes a channel; its secret is told once.
func (c *Client) CreateChannel(ctx context.Context, n api.NewChannel) (*api.ChannelMade, error) {
	return post[api.ChannelMade](ctx, c, http.MethodPost, "/v1/notifications/channels", n)
}

// SetChannel gives a channel other settings, all of them.
func (c *Client) SetChannel(ctx context.Context, id string, s api.ChannelSettings) (*api.Channel, error) {
	return post[api.Channel](ctx, c, http.MethodPut, channelPath(id, ""), s)
}

// DeleteChannel removes a channel with what waits.
func (c *Client) DeleteChannel(ctx context.Context, id string) error {
	return c.remove(ctx, channelPath(id, ""))
}

// TestChannel sends a message by a channel and waits a moment for what becomes
// of it.
func (c *Client) TestChannel(ctx context.Context, id string) (*api.List[api.Delivery], error) {
	return post[api.List[api.Delivery]](ctx, c, http.MethodPost, channelPath(id, "/test"), nil)
}

// RotateChannelSecret gives a webhook a new secret, beside the old one.
func (c *Client) RotateChannelSecret(ctx context.Context, id string) (*api.ChannelMade, error) {
	return post[api.ChannelMade](ctx, c, http.MethodPost, channelPath(id, "/secret"), nil)
}

// RetireChannelSecret ends the older of two secrets.
func (c *Client) RetireChannelSecret(ctx context.Context, id string) (*api.Channel, error) {
	return post[api.Channel](ctx, c, http.MethodDelete, channelPath(id, "/secret"), nil)
}

// DeliveryFilter chooses deliveries.
type DeliveryFilter struct {
	Channel, Stage, After string
	Limit                 int
}

// Deliveries lists deliveries, the newest first.
func (c *Client) Deliveries(ctx context.Context, f DeliveryFilter) (*api.List[api.Delivery], error) {
	return get[api.List[api.Delivery]](ctx, c, "/v1/notifications/deliveries", query("channel", f.Channel, "stage", f.Stage, "after", f.After, "limit", number(f.Limit)))
}

// RetryDelivery has a delivery tried at once.
func (c *Client) RetryDelivery(ctx context.Context, id string) (*api.Delivery, error) {
	return post[api.Delivery](ctx, c, http.MethodPost, path("v1", "notifications", "deliveries", id)+"/retry", nil)
}
