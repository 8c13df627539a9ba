// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"cmp"
	"time"
)

// defaultAt is when daily and weekly digests come that do not say.
const defaultAt = "09:00"

const clockForm = "15:04"

func (d Digest) check() string {
	switch d.Every {
	case Never, Hourly:
		if d.At != "" {
			return "only a daily or weekly one has a time of day"
		}
	case Daily, Weekly:
		if _, err := time.Parse(clockForm, cmp.Or(d.At, defaultAt)); err != nil {
			return "at is a time of day such as 09:00"
		}
	default:
		return "every is hour, day or week"
	}
	if d.Weekday < time.Sunday || d.Weekday > time.Saturday || d.Every != Weekly && d.Weekday != 0 {
		return "weekday is 0 (Sunday) to 6, of weekly ones"
	}
	return ""
}

// Next is the first moment after another at which a digest comes; the zero time
// if there is none. Where clocks are turned a time that is left out comes when
// it would have, and one that is there twice comes once.
func (d Digest) Next(after time.Time, zone *time.Location) time.Time {
	switch d.Every {
	case Hourly:
		return after.Truncate(time.Hour).Add(time.Hour)
	case Daily, Weekly:
	default:
		return time.Time{}
	}
	clock, err := time.Parse(clockForm, cmp.Or(d.At, defaultAt))
	if err != nil {
		return time.Time{} // Check has refused it
	}
	local := after.In(zone)
	for days := range 9 {
		at := time.Date(local.Year(), local.Month(), local.Day()+days, clock.Hour(), clock.Minute(), 0, 0, zone)
		if at.After(after) && (d.Every == Daily || at.Weekday() == d.Weekday) {
			return at
		}
	}
	return time.Time{}
}
