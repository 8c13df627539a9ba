// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"errors"
	"time"

	"github.com/tsugi-project/tsugi/internal/window"
)

// Times say when something may be done.
type Times struct {
	// Windows are when; none: always. Freezes are when not. Hours and days are
	// of Zone; "" is UTC.
	Windows []window.Window `yaml:"windows,omitempty" json:"windows,omitempty"`
	Freezes []Freeze        `yaml:"freezes,omitempty" json:"freezes,omitempty"`
	Zone    string          `yaml:"timezone,omitempty" json:"timezone,omitempty"`
}

// Freeze is a time in which nothing is changed, such as the days before a
// quarter ends. It begins at From and is over at To.
type Freeze struct {
	From   time.Time `yaml:"from" json:"from"`
	To     time.Time `yaml:"to" json:"to"`
	Reason string    `yaml:"reason" json:"reason"`
}

const maxFreezes = 100

func (t *Times) check(bad func(string, ...any) error) error {
	if _, err := t.location(); err != nil {
		return bad("timezone: %v", err)
	}
	for i, w := range t.Windows {
		if w.String() == "" {
			return bad("windows[%d]: it is empty", i)
		}
	}
	if len(t.Freezes) > maxFreezes {
		return bad("freezes: more than %d", maxFreezes)
	}
	for i, f := range t.Freezes {
		switch {
		case f.From.IsZero() || !f.To.After(f.From) || f.To.Sub(f.From) > maxTime:
			return bad("freezes[%d]: from a time to a later one, at most %s", i, Duration(maxTime))
		case f.Reason == "":
			return bad("freezes[%d]: no reason", i)
		}
	}
	return nil
}

func (t *Times) location() (*time.Location, error) {
	switch t.Zone {
	case "":
		return time.UTC, nil
	case "Local":
		return nil, errors.New("name the zone: a plan means the same on every server")
	}
	return time.LoadLocation(t.Zone)
}

// Closed says why nothing may be done at a time, and until when at least; "" is
// that it may.
func (t *Times) Closed(now time.Time) (why string, until time.Time) {
	for _, f := range t.Freezes {
		if !now.Before(f.From) && now.Before(f.To) {
			return "changes are frozen: " + f.Reason, f.To
		}
	}
	zone, err := t.location()
	if err != nil {
		return "the time zone is not known here: " + t.Zone, time.Time{}
	}
	if at := now.In(zone); !window.Open(t.Windows, at) {
		return "it is outside of the maintenance windows", window.Next(t.Windows, at)
	}
	return "", time.Time{}
}
