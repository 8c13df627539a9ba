// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"fmt"
	"testing"

	"github.com/go-quicktest/qt"
)

func TestNumbersThatMeanSomethingElse(t *testing.T) {
	// fs/smb/server/connection.h of 6.1.192 puts NEED_SETUP in front of RELEASING.
	const src = "enum %s { %s }; struct conn { int status; }; struct conn the_conn; int use(struct conn *c) { return c->status == %s; }"
	for name, tc := range map[string]struct {
		tag, before, after, used string
		changes                  []Change
	}{
		"the same":            {"s", "NEW, GOOD, RELEASING", "NEW, GOOD, RELEASING", "GOOD", nil},
		"one more at the end": {"s", "NEW, GOOD, RELEASING", "NEW, GOOD, RELEASING, GONE", "GOOD", nil},
		"one more between": {"s", "NEW, GOOD, RELEASING", "NEW, GOOD, SETUP, RELEASING", "GOOD", []Change{{
			Type: "enum s", Detail: "RELEASING goes from 2 to 3, and 2, which objects that exist may hold, is SETUP", Numbers: true,
		}}},
		"in an enumeration without a tag": {"", "NEW, GOOD, RELEASING", "NEW, GOOD, SETUP, RELEASING", "GOOD", []Change{{
			Type: "SETUP", Detail: "RELEASING goes from 2 to 3, and 2, which objects that exist may hold, is SETUP", Numbers: true,
		}}},
		"one less": {"", "NEW, GOOD, RELEASING", "NEW, RELEASING", "NEW", []Change{{
			Type: "RELEASING", Detail: "RELEASING goes from 2 to 1, which objects that exist may hold for GOOD", Numbers: true,
		}}},
		"the last one goes":         {"s", "NEW, GOOD, RELEASING", "NEW, GOOD", "GOOD", nil},
		"how many there are":        {"s", "NEW, GOOD, NUM_STATES, LAST_STATE = NUM_STATES - 1", "NEW, GOOD, GONE, NUM_STATES, LAST_STATE = NUM_STATES - 1", "GOOD", nil},
		"a size between":            {"s", "NEW, A_SIZE, GOOD", "NEW, SETUP, A_SIZE, GOOD", "GOOD", []Change{{Type: "enum s", Detail: "A_SIZE goes from 1 to 2, and 1, which objects that exist may hold, is SETUP", Numbers: true}}},
		"a register that is mended": {"s", "CTRL = 0x10, STAT = 0x14", "CTRL = 0x10, STAT = 0x18", "STAT", nil},
		"another name for it":       {"s", "NEW, GOOD, RELEASING", "NEW, GOOD, FINE = GOOD, RELEASING", "GOOD", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			orig, err := Parse(rawBTF(t, fmt.Sprintf(src, tc.tag, tc.before, tc.used)))
			qt.Assert(t, qt.IsNil(err))
			patched, err := Parse(rawBTF(t, fmt.Sprintf(src, tc.tag, tc.after, tc.used)))
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.DeepEquals(Compare(orig, patched), tc.changes))
			qt.Check(t, qt.HasLen(Mismatches(orig, patched), 0))
		})
	}
}
