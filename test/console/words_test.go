// SPDX-License-Identifier: Apache-2.0

package console

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/testenv/need"
)

// What the console computes without a browser: words of both languages,
// numbers, CSV, which query a change concerns.
func TestWords(t *testing.T) {
	if testing.Short() {
		t.Skip("node: not with -short")
	}
	web, err := filepath.Abs("../../web/console")
	qt.Assert(t, qt.IsNil(err))
	vitest := filepath.Join(web, "node_modules", "vitest", "vitest.mjs")
	if _, err := os.Stat(vitest); err != nil {
		need.Allowed(t, "the modules of web/console are not installed: cd web/console && npm ci")
	}
	cmd := exec.CommandContext(t.Context(), "node", vitest, "run", "--reporter=dot")
	cmd.Dir = web
	cmd.Env = append(os.Environ(), "NO_COLOR=1", "CI=1")
	out, err := cmd.CombinedOutput()
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", out))
}
