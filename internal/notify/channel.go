// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"errors"
	"fmt"
	"net/mail"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Type is how a channel reaches people.
type Type string

// The types.
const (
	Webhook Type = "webhook"
	Email   Type = "email"
)

// Every is how often a channel has a digest.
type Every string

// The rhythms of digests.
const (
	Never  Every = "" // everything is told at once
	Hourly Every = "hour"
	Daily  Every = "day"
	Weekly Every = "week"
)

// Digest is when what can wait is told.
type Digest struct {
	Every Every `json:"every,omitempty"`
	// At is the time of day, "09:00", of daily and weekly ones. Hourly ones come
	// at the full hour.
	At string `json:"at,omitempty"`
	// Weekday of weekly ones: 0 is Sunday, as in package time.
	Weekday time.Weekday `json:"weekday,omitempty"`
	// Zone is an IANA name; "" is UTC. Who loads it is the caller.
	Zone string `json:"zone,omitempty"`
}

// Channel is a way to reach people, as somebody set it up.
type Channel struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Type Type   `json:"type"`
	// To is the URL of a webhook, or addresses of e-mail, each of which gets a
	// message of its own: one that is refused keeps nothing from the others.
	To []string `json:"to"`
	// Secrets sign webhooks, the newest first. While a receiver changes from one
	// to the next, both sign.
	Secrets []Secret `json:"-"`
	// Kinds are names of kinds, or AREA.*; none is all.
	Kinds  []string `json:"kinds,omitempty"`
	Least  Severity `json:"least,omitempty"`  // "": info
	Groups []string `json:"groups,omitempty"` // only what concerns these; none: everything
	Digest Digest   `json:"digest,omitzero"`
	// Repeat is how long the same is not told again; 0 is four hours.
	Repeat time.Duration `json:"repeat,omitempty"`
	// PerHour is how many messages may come at once in an hour before they are
	// gathered; 0 is twenty.
	PerHour int  `json:"per_hour,omitempty"`
	Paused  bool `json:"paused,omitempty"`
}

// What holds where a channel does not say.
const (
	DefaultRepeat  = 4 * time.Hour
	DefaultPerHour = 20
)

// Bounds of a channel.
const (
	maxTo, maxKinds, maxGroups, maxName, maxURL, maxSecrets = 20, 50, 100, 100, 2000, 2
	maxRepeat, maxPerHour                                   = 30 * 24 * time.Hour, 1000
)

// Check is what a channel has to hold before it is kept. plain allows webhooks
// without TLS, for receivers on the same host or a trusted network. Errors:
// TS8312, all of them at once.
func (c Channel) Check(plain bool) error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, code.New("TS8312", oneLine(c.Name, maxName), oneLine(fmt.Sprintf(format, args...), 300)))
	}
	if c.Name == "" || len(c.Name) > maxName || c.Name != oneLine(c.Name, maxName) {
		bad("a name has 1 to %d characters, none of them invisible", maxName)
	}
	if len(c.To) == 0 || len(c.To) > maxTo {
		bad("it has 1 to %d addresses", maxTo)
	}
	for i, to := range c.To {
		if slices.Contains(c.To[:i], to) {
			bad("%.80q is there twice", to)
		}
	}
	switch c.Type {
	case Webhook:
		if len(c.To) > 1 {
			bad("a webhook has one URL")
		}
		for _, to := range c.To {
			if why := checkURL(to, plain); why != "" {
				bad("%s", why)
			}
		}
		if len(c.Secrets) == 0 || len(c.Secrets) > maxSecrets {
			bad("a webhook has one secret, or two while one takes the other's place")
		}
		for _, s := range c.Secrets {
			if _, err := s.key(); err != nil {
				bad("%v", err)
			}
		}
	case Email:
		for _, to := range c.To {
			if err := CheckAddress(to); err != nil {
				bad("%v", err)
			}
		}
	default:
		bad("type %.40q: not webhook or email", c.Type)
	}
	if len(c.Kinds) > maxKinds || len(c.Groups) > maxGroups {
		bad("too many kinds or groups")
	}
	for _, k := range c.Kinds {
		if !slices.ContainsFunc(Kinds(), func(i KindInfo) bool { return k != "" && Matches([]string{k}, i.Kind) }) {
			bad("kind %.60q: there is none of this name", k)
		}
	}
	if c.Least != "" && c.Least.Rank() < 0 {
		bad("least severity %.40q: not info, warning or urgent", c.Least)
	}
	if c.Repeat < 0 || c.Repeat > maxRepeat || c.PerHour < 0 || c.PerHour > maxPerHour {
		bad("repeat is at most 30 days, and per_hour at most %d", maxPerHour)
	}
	if why := c.Digest.check(); why != "" {
		bad("digest: %s", why)
	}
	return errors.Join(errs...)
}

func checkURL(to string, plain bool) string {
	if len(to) > maxURL {
		return "the URL is too long"
	}
	u, err := url.Parse(to)
	switch {
	case err != nil || u.Hostname() == "" || u.Opaque != "":
		return "the URL is none of a receiver (https://HOST/…)"
	case u.Scheme != "https" && (u.Scheme != "http" || !plain):
		return "the URL has to begin with https://: a message tells where machines are vulnerable"
	case u.User != nil:
		return "the URL has a password in it: the signature is what the receiver knows the server by"
	case u.Fragment != "":
		return "the URL has a fragment, which no receiver would see"
	}
	return ""
}

// CheckAddress tells whether mail can be sent to an address: NAME@DOMAIN and
// nothing more.
func CheckAddress(s string) error {
	a, err := mail.ParseAddress(s)
	if err != nil || a.Address != s || a.Name != "" || len(s) > 254 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("%.80q is not an e-mail address (NAME@DOMAIN)", s)
	}
	return nil
}

// oneLine is what a header or a line of a terminal can hold of foreign text.
func oneLine(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || r == '\ufeff' || r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}
