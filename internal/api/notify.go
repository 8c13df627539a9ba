// SPDX-License-Identifier: Apache-2.0

package api

// Notifications say what people can be told, and by what.
type Notifications struct {
	Kinds []NotificationKind `json:"kinds"`
	// Email says whether the server is set up to send e-mail, From as whom.
	Email bool   `json:"email"`
	From  string `json:"from,omitempty"`
	// Waiting counts messages on their way, Dead those of the last 30 days that
	// were given up.
	Waiting int `json:"waiting"`
	Dead    int `json:"dead"`
}

// NotificationKind is a kind of events.
type NotificationKind struct {
	Kind     string `json:"kind"`     // AREA.WHAT
	Severity string `json:"severity"` // info, warning or urgent
	Title    string `json:"title"`
}

// ChannelSettings are what people decide about a channel. docs/notifications.md
// says what they mean.
type ChannelSettings struct {
	Name string `json:"name" minLength:"1" maxLength:"100"`
	Type string `json:"type" enum:"webhook,email"`
	// To is the URL of a webhook, or up to 20 addresses of e-mail.
	To      []string       `json:"to" minItems:"1" maxItems:"20"`
	Kinds   []string       `json:"kinds,omitempty" maxItems:"50"`                  // names, or AREA.*; none: all
	Least   string         `json:"least,omitempty" enum:"info,warning,urgent"`     // "": info
	Groups  []string       `json:"groups,omitempty" maxItems:"100"`                // none: everything
	Digest  *ChannelDigest `json:"digest,omitempty"`                               // none: at once
	Repeat  int64          `json:"repeat,omitempty" minimum:"0" maximum:"2592000"` // seconds that the same is not told again; 0: four hours
	PerHour int            `json:"per_hour,omitempty" minimum:"0" maximum:"1000"`  // messages at once in an hour before they are gathered; 0: 20
	Paused  bool           `json:"paused,omitempty"`
}

// ChannelDigest is when what can wait is told.
type ChannelDigest struct {
	Every   string `json:"every" enum:"hour,day,week"`
	At      string `json:"at,omitempty" maxLength:"5"`                // 09:00, of daily and weekly ones
	Weekday int    `json:"weekday,omitempty" minimum:"0" maximum:"6"` // of weekly ones; 0 is Sunday
	Zone    string `json:"zone,omitempty" maxLength:"64"`             // IANA; "": UTC
}

// Channel is a way to reach people. Its secrets are told once.
type Channel struct {
	ID string `json:"id"`
	ChannelSettings
	// Secrets is how many sign: two while one takes the other's place.
	Secrets   int    `json:"secrets,omitempty"`
	Created   int64  `json:"created"`
	Changed   int64  `json:"changed"`
	ChangedBy string `json:"changed_by,omitempty"`
	// Kept is how many events wait for the digest, Due when that comes.
	Kept int   `json:"kept,omitempty"`
	Due  int64 `json:"due,omitempty"`
	// Last is the delivery that was made last.
	Last *Delivery `json:"last,omitempty"`
}

// NewChannel asks for a channel.
type NewChannel struct {
	ChannelSettings
	// Secret is whsec_… that the receiver knows already; "": one is made.
	Secret string `json:"secret,omitempty" maxLength:"200"`
}

// ChannelMade is a channel with the secret that its messages are signed with
// from now on; "" for e-mail.
type ChannelMade struct {
	Channel
	Secret string `json:"secret,omitempty"`
}

// Delivery is a message on its way to one address of a channel.
type Delivery struct {
	ID       string   `json:"id"`
	Channel  string   `json:"channel"` // id
	To       string   `json:"to"`      // of a webhook only its server
	Subject  string   `json:"subject"`
	Text     string   `json:"text,omitempty"`
	Stage    string   `json:"stage" enum:"waiting,delivered,dead"`
	Attempts int      `json:"attempts"`
	Made     int64    `json:"made"`
	Next     int64    `json:"next,omitempty"` // when it is tried, of one that waits
	Ended    int64    `json:"ended,omitempty"`
	Problem  *Problem `json:"problem,omitempty"` // of the last attempt
}
