// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/builder"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/series"
)

// TestTimeLeftIsThatOfWhatIsLeft: many quick fixes say nothing of few slow ones.
func TestTimeLeftIsThatOfWhatIsLeft(t *testing.T) {
	t.Parallel()
	s := &series.Series{}
	for range 1000 {
		s.Fixes = append(s.Fixes, newFix(t, "quick", nil, "fs/a.c: x"))
	}
	for range 100 {
		s.Fixes = append(s.Fixes, newFix(t, "slow", nil, "fs/a.h: x"), newFix(t, "core", nil, "include/linux/a.h: x"))
	}
	todo := make([]int, len(s.Fixes))
	for i := range todo {
		todo[i] = i
	}
	c := newClock(s, todo, 2)
	qt.Check(t, qt.Equals(c.expected(), (1000*time.Second+100*20*time.Second+100*time.Minute)/2))
	for i := range 1000 {
		c.done(i, 100*time.Millisecond)
	}
	rest := c.expected()
	qt.Check(t, qt.Equals(rest, (100*20*time.Second+100*time.Minute)/2))
	c.done(1001, 2*time.Second) // one that was quick says little
	qt.Check(t, qt.IsTrue(c.expected() > rest*8/10 && c.expected() < rest))
	qt.Check(t, qt.Equals(c.left(), "59 min left"))
	c.postpone(1002)
	for i := 1000; i < len(s.Fixes); i++ {
		if i != 1001 {
			c.done(i, time.Second)
		}
	}
	qt.Check(t, qt.Equals(c.left(), "less than a minute left"))
}

// TestOnlyWhatIsNeededIsJoined: a name leads to a fix that does not help, and
// then to one that does.
func TestOnlyWhatIsNeededIsJoined(t *testing.T) {
	t.Parallel()
	user := newFix(t, "user", nil, "net/a.c: \tmore_room(skb); \tmore_air(skb);")
	wrong := newFix(t, "wrong", nil, "include/net/room.h: int more_room(struct sk_buff *skb);")
	right := newFix(t, "right", nil, "include/net/air.h: int more_air(struct sk_buff *skb);")
	missing := func(name string) error {
		return code.New("TS3101", "net/a.c", "net/a.c:2:2: error: implicit declaration of function '"+name+"'")
	}
	k := &kernelOf{t: t, say: func(ids string) (*builder.Report, error) {
		switch ids {
		case "user":
			return nil, missing("more_room")
		case "user+wrong":
			return nil, missing("more_air")
		}
		return live(""), nil
	}}
	r, _, err := k.run(t.Context(), request(t, user, wrong, right))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(r.Fixes[0].Outcome, Live))
	qt.Assert(t, qt.DeepEquals(r.Fixes[0].With, []Requirement{{"right", "more_air"}}))
}

// TestAHigherLimitIsTried: what was too much for one survey is not for the next.
func TestAHigherLimitIsTried(t *testing.T) {
	t.Parallel()
	req := request(t, newFix(t, "wide", nil, "include/linux/a.h: x"))
	many := true
	k := &kernelOf{t: t, say: func(string) (*builder.Report, error) {
		if many {
			return nil, code.New("TS3106", "wide", "501 objects")
		}
		return live(""), nil
	}}
	r, _, err := k.run(t.Context(), req)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(r.Fixes[0].Outcome, Failed))
	many = false
	_, built, err := k.run(t.Context(), req)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(built, 0))
	req.MaxObjects = 5000
	r, built, err = k.run(t.Context(), req)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.DeepEquals(built, []string{"wide"}))
	qt.Assert(t, qt.Equals(r.Fixes[0].Outcome, Live))
}
