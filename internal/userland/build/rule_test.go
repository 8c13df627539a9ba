// SPDX-License-Identifier: Apache-2.0

package build

import (
	"testing"

	"github.com/go-quicktest/qt"
)

func TestWhatACompilerReadsIsTakenFromItsRule(t *testing.T) {
	got := parseRule([]byte("x: ../a.c /build/p/inc/a.h \\\n /usr/include/stdio.h with\\ space.h\n"), "/build/p/sub", "/build/p")
	qt.Check(t, qt.DeepEquals(got, map[string]bool{"a.c": true, "inc/a.h": true, "sub/with space.h": true}))
}

func TestACommandIsRunAgainWithoutItsOutput(t *testing.T) {
	got := withoutOutput([]string{"gcc", "-g", "-O2", "-MMD", "-MF", "x.d", "-Wp,-MD,y", "-c", "-o", "x.o", "-ggdb3", "-DX=\"-o\"", "x.c"})
	qt.Check(t, qt.DeepEquals(got, []string{"gcc", "-O2", "-DX=\"-o\"", "x.c"}))
}
