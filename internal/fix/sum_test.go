// SPDX-License-Identifier: Apache-2.0

package fix

import (
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
)

func TestASumStartsWhereTheFixBeforeEnded(t *testing.T) {
	s := NewSum(reader(map[string]string{"a.c": "zero\none\ntwo\nthree\n"}))
	add := func(path, old, now string) ([]string, error) {
		t.Helper()
		bytes := func(text string) []byte {
			if text == "" {
				return nil // not there
			}
			return []byte(text)
		}
		f, err := Parse("fix", Unified(path, bytes(old), bytes(now)))
		qt.Assert(t, qt.IsNil(err))
		return s.Add(f)
	}
	holds := func(path string, want Change) {
		t.Helper()
		want.Path = path
		qt.Check(t, qt.DeepEquals(s.Changes()[path], want))
	}

	notes, err := add("a.c", "one\ntwo\n", "one\n2\n")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(notes, []string{"a.c: hunk 1 applied at line 2, +1 lines from where it says"}))
	_, err = add("a.c", "zero\none\n2\n", "zero\none\n3\n")
	qt.Assert(t, qt.IsNil(err))
	holds("a.c", Change{Old: []byte("zero\none\ntwo\nthree\n"), New: []byte("zero\none\n3\nthree\n")})

	_, err = add("a.c", "one\ntwo\n", "one\n4\n")
	qt.Check(t, qt.Equals(code.Of(err), "TS1103"))
	holds("a.c", Change{Old: []byte("zero\none\ntwo\nthree\n"), New: []byte("zero\none\n3\nthree\n")})

	_, err = add("b.c", "", "new\n")
	qt.Assert(t, qt.IsNil(err))
	holds("b.c", Change{New: []byte("new\n"), Created: true})
	_, err = add("b.c", "new\n", "newer\n")
	qt.Assert(t, qt.IsNil(err))
	holds("b.c", Change{New: []byte("newer\n"), Created: true})
	_, err = add("b.c", "newer\n", "")
	qt.Assert(t, qt.IsNil(err))
	holds("b.c", Change{Created: true, Deleted: true})
	_, err = add("b.c", "newer\n", "again\n")
	qt.Check(t, qt.Equals(code.Of(err), "TS1105"))
}
