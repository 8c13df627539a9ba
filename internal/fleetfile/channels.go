// SPDX-License-Identifier: Apache-2.0

package fleetfile

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/notify"
)

// Channel is how people are told what happens: docs/notifications.md. The secret
// of a webhook is not in the file: it is told once, when the channel is made.
type Channel struct {
	// To is the URL of a webhook, or addresses of e-mail.
	To      []string      `yaml:"to"`
	Kinds   []string      `yaml:"kinds,omitempty"`
	Least   string        `yaml:"least,omitempty"`
	Groups  []string      `yaml:"groups,omitempty"`
	Digest  *Digest       `yaml:"digest,omitempty"`
	Repeat  time.Duration `yaml:"repeat,omitempty"`
	PerHour int           `yaml:"per_hour,omitempty"`
	Paused  bool          `yaml:"paused,omitempty"`
}

// Digest is when what can wait is told.
type Digest struct {
	Every string `yaml:"every"`         // hour, day or week
	At    string `yaml:"at,omitempty"`  // 09:00
	Day   string `yaml:"day,omitempty"` // monday
	Zone  string `yaml:"zone,omitempty"`
}

func weekdays() []string {
	out := make([]string, 7)
	for d := time.Sunday; d <= time.Saturday; d++ {
		out[d] = strings.ToLower(d.String())
	}
	return out
}

// wire is the channel in the words of the API.
func (c Channel) wire(name string) api.ChannelSettings {
	out := api.ChannelSettings{
		Name: name, Type: string(notify.Email), To: c.To, Kinds: c.Kinds, Least: c.Least, Groups: c.Groups, Repeat: int64(c.Repeat / time.Second),
		PerHour: c.PerHour, Paused: c.Paused,
	}
	if len(c.To) > 0 && strings.Contains(c.To[0], "://") {
		out.Type = string(notify.Webhook)
	}
	if d := c.Digest; d != nil {
		out.Digest = &api.ChannelDigest{Every: d.Every, At: d.At, Weekday: max(0, slices.Index(weekdays(), d.Day)), Zone: d.Zone}
	}
	return out
}

func unwireChannel(s api.ChannelSettings) Channel {
	out := Channel{
		To: s.To, Kinds: s.Kinds, Least: s.Least, Groups: s.Groups, Repeat: time.Duration(s.Repeat) * time.Second, PerHour: s.PerHour, Paused: s.Paused,
	}
	if d := s.Digest; d != nil {
		out.Digest = &Digest{Every: d.Every, At: d.At, Zone: d.Zone}
		if d.Every == string(notify.Weekly) {
			out.Digest.Day = weekdays()[d.Weekday%7]
		}
	}
	return out
}

// channel holds a channel against what package notify takes. Whether a webhook
// may go to http:// and which time zones there are is the server's to say.
func (c *checker) channel(where, name string, ch Channel) {
	c.word(where, name, maxGroup)
	if ch.Digest != nil && ch.Digest.Day != "" && !slices.Contains(weekdays(), ch.Digest.Day) {
		c.bad(where+".digest", "day %.40q: not one such as monday", ch.Digest.Day)
	}
	if ch.Repeat%time.Second != 0 {
		c.bad(where+".repeat", "%s: no whole seconds", ch.Repeat)
	}
	w := ch.wire(name)
	n := notify.Channel{
		Name: name, Type: notify.Type(w.Type), To: w.To, Kinds: w.Kinds, Least: notify.Severity(w.Least), Groups: w.Groups, Repeat: ch.Repeat, PerHour: w.PerHour,
	}
	if d := w.Digest; d != nil {
		n.Digest = notify.Digest{Every: notify.Every(d.Every), At: d.At, Weekday: time.Weekday(d.Weekday), Zone: d.Zone}
		if d.Every == "" {
			c.bad(where+".digest", "every is hour, day or week")
		}
	}
	if n.Type == notify.Webhook {
		n.Secrets = []notify.Secret{notify.Secret("whsec_" + strings.Repeat("A", 32))} // the server makes the real one
	}
	for _, p := range code.All(n.Check(true)) {
		c.bad(where, "%s", p.Why)
	}
}

// channels plans how people are told. A channel that is of another type is
// made anew.
func (p *planner) channels() {
	have := map[string]api.Channel{}
	for _, c := range p.have.Channels {
		have[c.Name] = c
	}
	for _, name := range slices.Sorted(maps.Keys(p.file.Channels)) {
		want := p.file.Channels[name].wire(name)
		c, ok := have[name]
		s := Step{Do: Change, Kind: KindChannel, Name: name, channel: want, id: c.ID, Changes: channelDifferences(c.ChannelSettings, want)}
		switch {
		case !ok:
			s.Do = Create
		case len(s.Changes) == 0:
			continue
		case c.Type != want.Type:
			s.Do = Replace
		}
		p.step(s)
	}
	for _, c := range p.have.Channels {
		if _, ok := p.file.Channels[c.Name]; ok || p.file.Channels == nil {
			continue
		}
		if p.prune {
			p.revoked = append(p.revoked, Step{Do: Remove, Kind: KindChannel, Name: c.Name, id: c.ID})
		} else {
			p.note("channel " + c.Name + " is not in the file and stays")
		}
	}
}

// channelDifferences compares setting by setting, by the names of the API.
func channelDifferences(have, want api.ChannelSettings) []Difference {
	a, b := settings(have), settings(want)
	keys := map[string]bool{}
	for k := range a {
		keys[k] = true
	}
	for k := range b {
		keys[k] = true
	}
	var out []Difference
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		if a[k] != b[k] && k != "name" {
			out = append(out, Difference{What: k, From: a[k], To: b[k]})
		}
	}
	return out
}

// settings are a channel's by name, those that say nothing left out.
func settings(s api.ChannelSettings) map[string]string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings, numbers and booleans
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(b, &raw); err != nil {
		panic(err) // as it was just written
	}
	out := map[string]string{}
	for k, v := range raw {
		if text := strings.Trim(string(v), `"`); text != "null" && text != "" && text != "[]" {
			out[k] = text
		}
	}
	return out
}
