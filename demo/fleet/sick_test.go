// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"testing"

	"github.com/go-quicktest/qt"
)

func TestWhoFallsSick(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]float64{
		"": 0, "2 8%\n": .08, "1 50%\n": 0, "* 3%": .03, "* 3%\n2 0%": 0, "2 8": .08, "2 -1%": 0, "2 101%": 0, "2 many": 0, "two 8%": 0, "2 8% of them": 0,
	} {
		qt.Check(t, qt.Equals(shareOf([]byte(text), 2), want), qt.Commentf("%q", text))
	}
	n := 0
	for i := range 1000 {
		host := fmt.Sprintf("web-%03d", i)
		qt.Assert(t, qt.Equals(luck(host, 2), luck(host, 2)))
		if luck(host, 2) < .08 {
			n++
		}
	}
	qt.Check(t, qt.IsTrue(n > 50 && n < 110), qt.Commentf("%d of 1000", n))
}
