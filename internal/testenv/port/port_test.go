// SPDX-License-Identifier: Apache-2.0

package port

import (
	"fmt"
	"net"
	"testing"

	"github.com/go-quicktest/qt"
)

func TestNoTwoHaveAPort(t *testing.T) {
	had := map[int]bool{}
	for range 50 {
		p, err := Reserve()
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsFalse(had[p]))
		qt.Assert(t, qt.IsTrue(p >= lowest && p < end()), qt.Commentf("%d", p))
		had[p] = true
		// Another process is not given it either, and a server can have it, again
		// and again.
		_, err = net.Listen("unix", fmt.Sprintf("@tsugi-test-port-%d", p))
		qt.Assert(t, qt.IsNotNil(err))
		for range 2 {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p))
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.IsNil(l.Close()))
		}
	}
}
