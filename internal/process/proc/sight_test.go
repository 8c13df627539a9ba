// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"testing"

	"github.com/go-quicktest/qt"
)

// TestWhoHasNoMemoryAnyMore is not waited for, unlike who starts a program.
func TestWhoHasNoMemoryAnyMore(t *testing.T) {
	for _, tt := range []struct {
		s    stat
		want bool
	}{
		{stat{state: 'S', image: image{0x1000, 0x7000}}, false},
		{stat{state: 'R'}, false}, // in an execve
		{stat{state: 'R', flags: exiting, image: image{0x1000, 0x7000}}, false},
		{stat{state: 'D', flags: exiting}, true},
		{stat{state: 'Z'}, true},
	} {
		qt.Check(t, qt.Equals(tt.s.over(), tt.want), qt.Commentf("%+v", tt.s))
	}
}
