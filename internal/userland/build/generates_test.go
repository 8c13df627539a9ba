// SPDX-License-Identifier: Apache-2.0

package build

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/fix"
)

func TestWhatElseIsMadeOfAHeader(t *testing.T) {
	top := t.TempDir()
	for name, text := range map[string]string{
		"src/Makefile": "OBJS = a.h\nkwlist_d.h: $(top)/include/kwlist.h \\\n\t$(GEN)\n\t$(PERL) gen plain.h\nuser.o: plain.h\n" +
			"bki-stamp: x.pl $(top)/transam.h\nheaders := plain.h\nplain.h: plain.h\n\tcp recipe.h\n# made.h: comment.h\n",
		"sql/CMakeLists.txt": "ADD_CUSTOM_COMMAND(\n  OUTPUT ${CMAKE_BINARY_DIR}/lex_hash.h\n  COMMAND gen > lex_hash.h\n  DEPENDS $<TARGET_FILE:gen> lex.h)\nSET(SRC sql.h)\n",
		"README":             "made.h: read.h\n",
	} {
		file := filepath.Join(top, name)
		qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Dir(file), 0o755)))
		qt.Assert(t, qt.IsNil(os.WriteFile(file, []byte(text), 0o644)))
	}
	for _, test := range []struct{ path, text, want string }{
		{"include/kwlist.h", "", "kwlist_d.h"},
		{"include/transam.h", "", "bki-stamp"},
		{"include/plain.h", "", ""},
		{"include/recipe.h", "", ""},
		{"include/comment.h", "", ""},
		{"include/read.h", "", ""},
		{"sql/lex.h", "", "lex_hash.h"},
		{"sql/sql.h", "", ""},
		{"sql/lex_hash.h", "", ""},
		{"catalog/pg_x.h", "\nCATALOG(pg_x)\n", "catalogs"},
		{"kwlist.c", "", ""},
	} {
		got, err := generates(t.Context(), top, fix.Change{Path: test.path, New: []byte(test.text)})
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(got != "", test.want != ""), qt.Commentf("%s: %q", test.path, got))
		qt.Check(t, qt.IsTrue(strings.Contains(got, test.want)), qt.Commentf("%s: %q", test.path, got))
	}
}
