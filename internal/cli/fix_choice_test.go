// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/kernel"
)

func TestWhereAnUpdateStarts(t *testing.T) {
	t.Parallel()
	of := func(versions ...string) []*kernel.Target {
		var out []*kernel.Target
		for _, v := range versions {
			out = append(out, &kernel.Target{SourceVersion: v})
		}
		return out
	}
	from, err := onlySource(of("6.1.190-1", "6.1.190-1", "6.1.192-1", "6.12.115-2~deb12u1"), "6.1.192-1")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(from, "6.1.190-1"))
	_, err = onlySource(of("6.1.190-1", "6.1.187-1"), "6.1.192-1")
	qt.Check(t, qt.ErrorMatches(err, "(?s).*6.1.187-1 and 6.1.190-1.*"))
	_, err = onlySource(of("6.12.115-2~deb12u1"), "6.1.192-1")
	qt.Check(t, qt.ErrorMatches(err, "(?s).*needs --from.*"))
}

// TestADirectoryCanBeSurveyed with all that is known of its fixes, in its order.
func TestADirectoryCanBeSurveyed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	diff := "--- a/net/x.c\n+++ b/net/x.c\n@@ -1,3 +1,3 @@\n int x(int n)\n {\n-\treturn n;\n+\treturn n + 1;\n"
	for name, text := range map[string]string{
		"a.diff":      "---\nid: second\nseverity: high\nexploited: true\nadvisories: [DSA-1]\nrequires: [first]\n---\n" + diff,
		"b.diff":      "---\nid: first\n---\n" + diff,
		"series.yaml": "name: own\nfixes: [first, second]\n",
	} {
		qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)))
	}
	s, err := newApp(command.Streams{}).surveyed(t.Context(), nil, nil, []string{dir}, surveyOptions{})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(s.Fixes, 2))
	f := s.Fixes[1].Meta
	qt.Check(t, qt.Equals(s.Name, "own"))
	qt.Check(t, qt.Equals(f.ID, "second"))
	qt.Check(t, qt.Equals(f.Severity, "high"))
	qt.Check(t, qt.IsTrue(f.Exploited))
	qt.Check(t, qt.DeepEquals(f.Advisories, []string{"DSA-1"}))
	qt.Check(t, qt.DeepEquals(f.Requires, []string{"first"}))
}
