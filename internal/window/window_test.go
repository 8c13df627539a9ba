// SPDX-License-Identifier: Apache-2.0

package window

import (
	"fmt"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"pgregory.net/rapid"
)

// TestTheNextWindowOpens: what Next names is the first moment of an open
// window, and no window is open between.
func TestTheNextWindowOpens(t *testing.T) {
	t.Parallel()
	clock := func(m int) string { return fmt.Sprintf("%02d:%02d", m/60, m%60) }
	rapid.Check(t, func(r *rapid.T) {
		var all []Window
		for i := range rapid.IntRange(1, 3).Draw(r, "windows") {
			day := rapid.SampledFrom([]string{"daily", "Mon", "Tue-Thu", "Sat,Sun", "Fri-Mon"}).Draw(r, "days")
			from := rapid.IntRange(0, dayMinutes-1).Draw(r, "from")
			to := rapid.IntRange(0, dayMinutes).Filter(func(n int) bool { return n != from }).Draw(r, "to")
			all = append(all, Window{})
			text := day + " " + clock(from) + "-" + clock(to)
			if err := all[i].UnmarshalText([]byte(text)); err != nil || all[i].String() != text {
				r.Fatalf("%s: %v", text, err)
			}
		}
		now := time.Unix(rapid.Int64Range(0, 4e9).Draw(r, "now"), 0).UTC()
		next := Next(all, now)
		if !next.After(now) || next.Sub(now) > 8*24*time.Hour || !Open(all, next) {
			r.Fatalf("%s at %s: %s", all, now, next)
		}
		if Open(all, now) {
			return
		}
		for at := now; at.Before(next); at = at.Add(time.Minute) {
			if Open(all, at) {
				r.Fatalf("%s is open at %s, before %s", all, at, next)
			}
		}
	})
	qt.Check(t, qt.IsTrue(Open(nil, time.Now())))
	qt.Check(t, qt.IsTrue(Next(nil, time.Now()).IsZero()))
}

func TestBadWindows(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "Mon", "Mon 22:00", "Mon 22:00-", "Mon 24:00-01:00", "Mon 01:00-01:00", "Mon 1:5-02:00", "Moon 01:00-02:00", "Mon- 01:00-02:00", "Mon 01:00-24:01", "Mon 01:00 02:00"} {
		var w Window
		qt.Check(t, qt.IsNotNil(w.UnmarshalText([]byte(s))), qt.Commentf("%q", s))
		qt.Check(t, qt.Equals(w.String(), ""))
	}
}

// FuzzWindow: a window or an error, never both.
func FuzzWindow(f *testing.F) {
	f.Add("Mon-Fri 22:00-04:00", int64(0))
	f.Add("Sat,Sun 00:00-24:00", int64(1e9))
	f.Fuzz(func(t *testing.T, s string, at int64) {
		var w Window
		if err := w.UnmarshalText([]byte(s)); err != nil {
			if w != (Window{}) {
				t.Fatalf("%q: %v and %+v", s, err, w)
			}
			return
		}
		var again Window
		if err := again.UnmarshalText([]byte(w.String())); err != nil || again != w {
			t.Fatalf("%q is written as %q: %v", s, w, err)
		}
		w.Open(time.Unix(at, 0))
	})
}
