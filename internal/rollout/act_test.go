// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
)

// TestWhatPeopleMayDoWhen is the whole table of verbs and phases.
func TestWhatPeopleMayDoWhen(t *testing.T) {
	t.Parallel()
	phases := []Phase{Pending, Running, Halted, Reverting, Done, Aborted}
	for verb, to := range map[Verb][]Phase{ // "": it can't be
		Approve: {Pending, Running, Halted, "", "", ""},
		Stop:    {"", Halted, "", "", "", ""},
		Resume:  {"", "", Running, "", "", ""},
		Skip:    {"", Running, Running, "", "", ""},
		Abort:   {Aborted, Aborted, Aborted, "", "", ""},
		Undo:    {"", Reverting, Reverting, "", Reverting, Reverting},
		Hurry:   {Pending, Running, Halted, "", "", ""},
		"dance": {"", "", "", "", "", ""},
	} {
		for i, from := range phases {
			p := Plan{Approvals: 2}.Filled()
			s := New("r", &p, monday)
			s.Phase = from
			before := stateText(s)
			err := s.Act(&p, Action{Verb: verb, By: "ann", Reason: "because"}, monday)
			if to[i] == "" {
				qt.Check(t, qt.Equals(code.Of(err), "TS8102"), qt.Commentf("%s when %s", verb, from))
				qt.Check(t, qt.Equals(stateText(s), before))
				continue
			}
			qt.Check(t, qt.IsNil(err), qt.Commentf("%s when %s", verb, from))
			qt.Check(t, qt.Equals(s.Phase, to[i]), qt.Commentf("%s when %s", verb, from))
		}
	}
}

func TestWhoAndWhyIsAsked(t *testing.T) {
	t.Parallel()
	p := Plan{}.Filled()
	s := New("r", &p, monday)
	s.Phase = Running
	for _, a := range []Action{{Verb: Stop, By: "ann"}, {Verb: Abort, By: "ann"}, {Verb: Undo, By: "ann"}, {Verb: Skip}} {
		qt.Check(t, qt.Equals(code.Of(s.Act(&p, a, monday)), "TS8104"), qt.Commentf("%+v", a))
	}
	qt.Check(t, qt.Equals(code.Of(s.Act(&p, Action{Verb: Approve, By: "ann"}, monday)), "TS8103"))
	qt.Check(t, qt.Equals(s.Phase, Running))
}
