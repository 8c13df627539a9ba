// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"io"
	"testing"

	"github.com/go-quicktest/qt"
)

// torn gives a list in which a mapping has grown while it was told, and a whole
// one from the after-th reading on.
type torn struct{ after, read int }

func (x *torn) ReadAt(b []byte, off int64) (int, error) {
	text := "1000-3000 rw-p 00000000 00:00 0 \n"
	if off == 0 {
		x.read++
	}
	if x.read <= x.after {
		text = "1000-2000 rw-p 00000000 00:00 0 \n" + text
	}
	if off >= int64(len(text)) {
		return 0, io.EOF
	}
	return copy(b, text[off:]), nil
}

// TestAListThatDoesNotRiseIsReadAgain: but not for ever.
func TestAListThatDoesNotRiseIsReadAgain(t *testing.T) {
	t.Parallel()
	all, err := readMaps(&torn{after: 3})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(all, 1))
	x := &torn{after: rereads + 1}
	_, err = readMaps(x)
	qt.Check(t, qt.ErrorIs(err, errMaps))
	qt.Check(t, qt.Equals(x.read, rereads+1))
}
