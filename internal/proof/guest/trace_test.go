// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"testing"

	"github.com/go-quicktest/qt"
)

func TestTheFunctionOfATraceLine(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"              rm-104     [001] .....     7.106210: ext4_free_blocks <-ext4_remove_blocks", "ext4_free_blocks"},
		{"             cat-99      [000] ...1.     7.106210: cmdline_proc_show [tsugi_p] <-seq_read_iter", "cmdline_proc_show"},
		{"        a: b <-c-99      [000] ...1.     7.106210: f.isra.0 <-g", "f.isra.0"},
		{"CPU:1 [LOST 12 EVENTS]", ""},
		{"f <-g", ""},
		{"", ""},
	} {
		qt.Check(t, qt.Equals(tracedFunction(c.line), c.want), qt.Commentf("%s", c.line))
	}
}
