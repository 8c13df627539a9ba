// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-quicktest/qt"
)

func TestOnlyAManagerThatStopsGoesDown(t *testing.T) {
	for said, want := range map[string]bool{"stopping": true, "running": false, "degraded": false, "offline": false, "": false} {
		program := filepath.Join(t.TempDir(), "systemctl")
		script := fmt.Sprintf("#!/bin/sh\n[ \"$*\" = is-system-running ] || exit 9\necho %s\nexit 1\n", said)
		qt.Assert(t, qt.IsNil(os.WriteFile(program, []byte(script), 0o700)))
		qt.Check(t, qt.Equals(goesDown(t.Context(), program), want), qt.Commentf("%q", said))
	}
	qt.Check(t, qt.IsFalse(goesDown(t.Context(), "/nonexistent/systemctl")))
}
