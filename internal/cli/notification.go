// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/ui"
)

func newNotificationCommand(a *app) *cobra.Command {
	return command.Parent("notification", "Whom the server tells what happens, and how",
		`A channel reaches people by webhook or e-mail: at once, or in a digest. It is
told of kinds of events (tsugictl notification kinds) from a severity on.
docs/notifications.md says what is told when, and how a receiver checks a
webhook.

CHANNEL is a channel's name or id.`,
		newNotificationNewCommand(a), newNotificationLsCommand(a), newNotificationShowCommand(a), newNotificationSetCommand(a), newNotificationRmCommand(a), newNotificationTestCommand(a),
		newNotificationSecretCommand(a), newNotificationLogCommand(a), newNotificationRetryCommand(a), newNotificationKindsCommand(a))
}

// channelFlags are the settings of a channel as flags.
type channelFlags struct {
	to, kinds, groups            []string
	least, digest, at, day, zone string
	repeat                       time.Duration
	perHour                      int
	paused                       bool
}

func (o *channelFlags) add(f *pflag.FlagSet) {
	f.StringSliceVar(&o.to, "to", nil, "URL of a webhook, or addresses of e-mail")
	f.StringSliceVar(&o.kinds, "kinds", nil, "kinds of events, or AREA.* (default all)")
	f.StringVar(&o.least, "least", "", "info, warning or urgent: nothing below (default info)")
	f.StringSliceVar(&o.groups, "groups", nil, "only what concerns these groups of machines (default everything)")
	f.StringVar(&o.digest, "digest", "", "hour, day or week: what can wait comes together; now ends that (default now)")
	f.StringVar(&o.at, "at", "", "time of day of a daily or weekly digest (default 09:00)")
	f.StringVar(&o.day, "day", "", "day of a weekly digest, as monday (default sunday)")
	f.StringVar(&o.zone, "zone", "", "time zone of the digest, as Asia/Tokyo (default UTC)")
	f.DurationVar(&o.repeat, "repeat", 0, "how long the same is not told again (default 4h)")
	f.IntVar(&o.perHour, "per-hour", 0, "messages at once in an hour before they are gathered (default 20)")
	f.BoolVar(&o.paused, "paused", false, "tell nothing by it for now")
}

// apply takes over the flags that were given.
func (o *channelFlags) apply(f *pflag.FlagSet, s *api.ChannelSettings) error {
	take := func(name string, set func()) {
		if f.Changed(name) {
			set()
		}
	}
	take("to", func() { s.To = o.to })
	take("kinds", func() { s.Kinds = nonEmpty(o.kinds...) })
	take("least", func() { s.Least = o.least })
	take("groups", func() { s.Groups = nonEmpty(o.groups...) })
	take("repeat", func() { s.Repeat = int64(o.repeat / time.Second) })
	take("per-hour", func() { s.PerHour = o.perHour })
	take("paused", func() { s.Paused = o.paused })
	take("digest", func() {
		s.Digest = nil
		if o.digest != "now" {
			s.Digest = &api.ChannelDigest{Every: o.digest}
		}
	})
	if s.Digest == nil {
		if f.Changed("at") || f.Changed("day") || f.Changed("zone") {
			return command.Usage("tsugictl notification", "--at, --day and --zone are of a digest: give --digest too")
		}
		return nil
	}
	take("at", func() { s.Digest.At = o.at })
	take("zone", func() { s.Digest.Zone = o.zone })
	var err error
	take("day", func() {
		i := slices.IndexFunc(weekdays(), func(d string) bool { return strings.EqualFold(d, o.day) })
		if i < 0 {
			err = command.Usage("tsugictl notification", fmt.Sprintf("--day %.40q is no day: monday", o.day))
		}
		s.Digest.Weekday = max(0, i)
	})
	return err
}

func weekdays() []string {
	out := make([]string, 7)
	for d := time.Sunday; d <= time.Saturday; d++ {
		out[d] = strings.ToLower(d.String())
	}
	return out
}

func newNotificationNewCommand(a *app) *cobra.Command {
	var o channelFlags
	var n api.NewChannel
	cmd := &cobra.Command{
		Use:   "new NAME --to ADDRESS[,...]",
		Short: "Make a channel; of a webhook, print the secret, this once",
		Long: `new makes a webhook when --to is a URL, and e-mail otherwise. The secret that
a webhook's messages are signed with is printed once; give it to the receiver.`,
		Example: `  tsugictl notification new "on call" --to https://hooks.example.com/tsugi --least urgent
  tsugictl notification new team --to ops@example.com --digest day --zone Asia/Tokyo`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			n.Name, n.Type = args[0], "email"
			if err := o.apply(cmd.Flags(), &n.ChannelSettings); err != nil {
				return err
			}
			if len(n.To) > 0 && strings.Contains(n.To[0], "://") {
				n.Type = "webhook"
			}
			return ask(a, "channel", func(c *client.Client) (*api.ChannelMade, error) {
				return c.CreateChannel(cmd.Context(), n)
			}, func(made *api.ChannelMade) string {
				if made.Secret == "" {
					return made.ID + "\n"
				}
				a.Term.Say("The receiver checks signatures with this secret:")
				return made.Secret + "\n"
			})
		},
	}
	o.add(cmd.Flags())
	cmd.Flags().StringVar(&n.Secret, "secret", "", "secret of a webhook that the receiver has already (default a new one)")
	must(cmd.MarkFlagRequired("to"))
	return cmd
}

func newNotificationLsCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the channels, and how their last message fared",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return askAll(a, "channels", func(c *client.Client, _ string) (*api.List[api.Channel], error) {
				return c.Channels(cmd.Context())
			}, func(all []api.Channel) string {
				rows := make([][]string, len(all))
				for i, c := range all {
					rows[i] = []string{c.Name, c.Type, strings.Join(c.To, ", "), wants(c.ChannelSettings), rhythm(c), lastOf(c)}
				}
				return ui.Table([]string{"name", "type", "to", "tells", "when", "last"}, rows)
			})
		},
	}
}

func newNotificationShowCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show CHANNEL",
		Short: "Show a channel: what it is told, when, and how that fares",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(a, "channel", onChannel(cmd.Context(), args[0], func(c *client.Client, ch *api.Channel) (*api.Channel, error) {
				return c.Channel(cmd.Context(), ch.ID)
			}), channelText)
		},
	}
}

func channelText(c *api.Channel) string {
	secrets := ""
	if c.Type == "webhook" {
		secrets = ui.Count(c.Secrets, "secret")
	}
	waiting := ""
	if c.Kept > 0 {
		waiting = ui.Count(c.Kept, "event") + ", told " + when(c.Due)
	}
	return ui.Pairs(
		[2]string{"channel", ui.Bold(c.Name) + "  " + ui.Dim(c.ID)},
		[2]string{"type", c.Type},
		[2]string{"to", strings.Join(c.To, ", ")},
		[2]string{"tells", wants(c.ChannelSettings)},
		[2]string{"when", rhythm(*c)},
		[2]string{"signs with", secrets},
		[2]string{"waits", waiting},
		[2]string{"last", lastOf(*c)},
		[2]string{"changed", strings.TrimSpace(when(c.Changed) + " by " + c.ChangedBy)},
	)
}

// wants is what a channel is told, in a few words.
func wants(c api.ChannelSettings) string {
	s := "everything"
	if len(c.Kinds) > 0 {
		s = strings.Join(c.Kinds, ", ")
	}
	if c.Least != "" && c.Least != "info" {
		s += " from " + c.Least + " on"
	}
	if len(c.Groups) > 0 {
		s += " of " + strings.Join(c.Groups, ", ")
	}
	return s
}

func rhythm(c api.Channel) string {
	switch {
	case c.Paused:
		return ui.Warn("paused")
	case c.Digest == nil:
		return "at once"
	case c.Digest.Every == "week":
		return "each " + weekdays()[c.Digest.Weekday%7]
	}
	return "each " + c.Digest.Every
}

func lastOf(c api.Channel) string {
	if c.Last == nil {
		return "-"
	}
	return stageWord(c.Last.Stage) + " " + when(c.Last.Made)
}

func stageWord(stage string) string {
	switch stage {
	case "delivered":
		return ui.Good(stage)
	case "dead":
		return ui.Bad("given up")
	}
	return ui.Warn(stage)
}

// channelNamed finds a channel by its name or id.
func channelNamed(ctx context.Context, c *client.Client, name string) (*api.Channel, error) {
	all, err := c.Channels(ctx)
	if err != nil {
		return nil, err
	}
	for _, ch := range all.Items {
		if ch.ID == name || ch.Name == name {
			return &ch, nil
		}
	}
	return nil, code.New("TS7605", "", fmt.Sprintf("no channel %.100q", name))
}

// onChannel does something with the channel of a name or id.
func onChannel[T any](ctx context.Context, name string, do func(*client.Client, *api.Channel) (T, error)) func(*client.Client) (T, error) {
	return func(c *client.Client) (T, error) {
		ch, err := channelNamed(ctx, c, name)
		if err != nil {
			var none T
			return none, err
		}
		return do(c, ch)
	}
}

func newNotificationSetCommand(a *app) *cobra.Command {
	var o channelFlags
	var name string
	cmd := &cobra.Command{
		Use:   "set CHANNEL",
		Short: "Change what a channel is told, where to, and when",
		Long:  `set changes what is given and leaves the rest as it is.`,
		Example: `  tsugictl notification set "on call" --kinds 'rollout.*,machine.crashed'
  tsugictl notification set team --paused`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(a, "channel", onChannel(cmd.Context(), args[0], func(c *client.Client, ch *api.Channel) (*api.Channel, error) {
				s := ch.ChannelSettings
				if name != "" {
					s.Name = name
				}
				if err := o.apply(cmd.Flags(), &s); err != nil {
					return nil, err
				}
				return c.SetChannel(cmd.Context(), ch.ID, s)
			}), func(*api.Channel) string { return "" })
		},
	}
	o.add(cmd.Flags())
	cmd.Flags().StringVar(&name, "name", "", "another name")
	return cmd
}

func newNotificationRmCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "rm CHANNEL...",
		Short: "Remove channels, and what waits to be sent by them",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(cmd, "removed", args, func(c *client.Client, ctx context.Context, name string) error {
				ch, err := channelNamed(ctx, c, name)
				if err != nil {
					return err
				}
				return c.DeleteChannel(ctx, ch.ID)
			})
		},
	}
}

func newNotificationTestCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "test CHANNEL",
		Short: "Send a message by a channel, and say what becomes of it",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(a, "deliveries", onChannel(cmd.Context(), args[0], func(c *client.Client, ch *api.Channel) ([]api.Delivery, error) {
				l, err := c.TestChannel(cmd.Context(), ch.ID)
				if err != nil {
					return nil, err
				}
				return l.Items, nil
			}), deliveryTable)
		},
	}
}

func deliveryTable(all []api.Delivery) string {
	rows := make([][]string, len(all))
	for i, d := range all {
		why := ""
		if d.Problem != nil {
			why = d.Problem.Why
		}
		rows[i] = []string{when(d.Made), d.Subject, d.To, stageWord(d.Stage), fmt.Sprint(d.Attempts), why, d.ID}
	}
	return ui.Table([]string{"made", "message", "to", "state", "attempts", "why", "delivery"}, rows, 4)
}

func newNotificationSecretCommand(a *app) *cobra.Command {
	var retire bool
	cmd := &cobra.Command{
		Use:   "secret CHANNEL",
		Short: "Give a webhook a new secret, in two steps",
		Long: `secret makes a new secret and prints it, this once. The one before signs too
until secret --retire ends it, so that the receiver changes when it likes.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if retire {
				return ask(a, "channel", onChannel(cmd.Context(), args[0], func(c *client.Client, ch *api.Channel) (*api.Channel, error) {
					return c.RetireChannelSecret(cmd.Context(), ch.ID)
				}), func(*api.Channel) string { return "" })
			}
			return ask(a, "channel", onChannel(cmd.Context(), args[0], func(c *client.Client, ch *api.Channel) (*api.ChannelMade, error) {
				return c.RotateChannelSecret(cmd.Context(), ch.ID)
			}), func(made *api.ChannelMade) string { return made.Secret + "\n" })
		},
	}
	cmd.Flags().BoolVar(&retire, "retire", false, "end the older of two secrets")
	return cmd
}

func newNotificationLogCommand(a *app) *cobra.Command {
	var f client.DeliveryFilter
	cmd := &cobra.Command{
		Use:   "log [CHANNEL]",
		Short: "List what was sent, what waits, and what was given up",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(a, "deliveries", func(c *client.Client) ([]api.Delivery, error) {
				if len(args) > 0 {
					ch, err := channelNamed(cmd.Context(), c, args[0])
					if err != nil {
						return nil, err
					}
					f.Channel = ch.ID
				}
				l, err := c.Deliveries(cmd.Context(), f)
				if err != nil {
					return nil, err
				}
				return l.Items, nil
			}, deliveryTable)
		},
	}
	cmd.Flags().StringVar(&f.Stage, "state", "", "only those that are waiting, delivered or dead (given up)")
	cmd.Flags().IntVar(&f.Limit, "limit", 50, "how many of the newest")
	return cmd
}

func newNotificationRetryCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "retry DELIVERY...",
		Short: "Try messages again at once",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(cmd, "retried", args, func(c *client.Client, ctx context.Context, id string) error {
				_, err := c.RetryDelivery(ctx, id)
				return err
			})
		},
	}
}

func newNotificationKindsCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "kinds",
		Short: "List what people can be told",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(a, "kinds", func(c *client.Client) ([]api.NotificationKind, error) {
				n, err := c.Notifications(cmd.Context())
				if err != nil {
					return nil, err
				}
				return n.Kinds, nil
			}, func(all []api.NotificationKind) string {
				rows := make([][]string, len(all))
				for i, k := range all {
					rows[i] = []string{k.Kind, k.Severity, k.Title}
				}
				return ui.Table([]string{"kind", "severity", ""}, rows)
			})
		},
	}
}
