// SPDX-License-Identifier: Apache-2.0

// Package window knows times of the week, as people write them: the
// maintenance windows of machines and of rollouts.
package window

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Window is a time of the week: days and hours.
//
//	Mon-Fri 22:00-04:00    the five nights that begin on these days
//	Sat,Sun 00:00-24:00    the whole weekend
//	daily 02:00-05:30
//
// Hours are wall-clock time of the zone of whoever asks. A window that ends
// before it begins goes past midnight and belongs to the day that it begins on.
// The zero window never opens.
type Window struct {
	days       [7]bool // by time.Weekday
	start, end int     // minutes; end may be more than a day
	text       string
}

const dayMinutes = 24 * 60

func weekdays() []string { return []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"} }

// UnmarshalText reads a window.
func (w *Window) UnmarshalText(b []byte) error {
	words := strings.Fields(string(b))
	if len(words) != 2 {
		return errors.New(`a window is days and hours, such as "Mon-Fri 22:00-04:00"`)
	}
	v := Window{text: strings.Join(words, " ")}
	if err := v.parseDays(words[0]); err != nil {
		return err
	}
	from, to, ok := strings.Cut(words[1], "-")
	if !ok {
		return fmt.Errorf("%q: hours are such as 22:00-04:00", words[1])
	}
	var err error
	if v.start, err = minutes(from); err != nil {
		return err
	}
	if v.end, err = minutes(to); err != nil {
		return err
	}
	switch {
	case v.start == dayMinutes || v.start == v.end:
		return fmt.Errorf("%q: a window begins before 24:00 and does not end when it begins", words[1])
	case v.end < v.start:
		v.end += dayMinutes
	}
	*w = v
	return nil
}

func (w *Window) parseDays(s string) error {
	if strings.EqualFold(s, "daily") {
		w.days = [7]bool{true, true, true, true, true, true, true}
		return nil
	}
	names := weekdays()
	for part := range strings.SplitSeq(s, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		a, b := slices.Index(names, strings.ToLower(from)), slices.Index(names, strings.ToLower(to))
		if a < 0 || b < 0 {
			return fmt.Errorf("%q: days are Mon Tue Wed Thu Fri Sat Sun, ranges of them, or daily", part)
		}
		for d := a; ; d = (d + 1) % 7 {
			w.days[d] = true
			if d == b {
				break
			}
		}
	}
	return nil
}

func minutes(s string) (int, error) {
	h, m, ok := strings.Cut(s, ":")
	hours, herr := strconv.ParseUint(h, 10, 8)
	mins, merr := strconv.ParseUint(m, 10, 8)
	if !ok || len(m) != 2 || herr != nil || merr != nil || mins > 59 || hours*60+mins > dayMinutes {
		return 0, fmt.Errorf("%q: a time of day is such as 04:30, at most 24:00", s)
	}
	return int(hours*60 + mins), nil
}

// MarshalText is the text that the window was read from.
func (w Window) MarshalText() ([]byte, error) { return []byte(w.text), nil }

func (w Window) String() string { return w.text }

// Open reports whether the window is open at a time, by the clock of that
// time's location.
func (w *Window) Open(t time.Time) bool {
	m := t.Hour()*60 + t.Minute()
	today, yesterday := t.Weekday(), (t.Weekday()+6)%7
	return w.days[today] && m >= w.start && m < w.end ||
		w.days[yesterday] && m+dayMinutes < w.end
}

// Open reports whether one of the windows is open; with none it always is.
func Open(windows []Window, t time.Time) bool {
	return len(windows) == 0 || slices.ContainsFunc(windows, func(w Window) bool { return w.Open(t) })
}

// Next is when the next of the windows opens after t, in t's location, or the
// zero time without windows.
func Next(windows []Window, t time.Time) time.Time {
	var next time.Time
	for _, w := range windows {
		for day := range 9 {
			at := time.Date(t.Year(), t.Month(), t.Day()+day, w.start/60, w.start%60, 0, 0, t.Location())
			if w.days[at.Weekday()] && at.After(t) {
				if next.IsZero() || at.Before(next) {
					next = at
				}
				break
			}
		}
	}
	return next
}
