// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/command"
)

// TestTheGuidesNameCommandsThatThereAre follows every tsugictl of the pages
// about keys: a ceremony is no time for a typo.
func TestTheGuidesNameCommandsThatThereAre(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile("(?:^    |`)tsugictl ([^`\\n#]*)")
	for _, page := range []string{"keys.md", "threat-model.md"} {
		text, err := os.ReadFile("../../docs/" + page)
		qt.Assert(t, qt.IsNil(err))
		found := 0
		for line := range strings.Lines(strings.ReplaceAll(string(text), "\\\n", "")) {
			for _, m := range form.FindAllStringSubmatch(line, -1) {
				found++
				words := strings.Fields(m[1])
				root := newRootCommand(&app{App: command.New(program, command.Streams{})})
				cmd, rest, err := root.Find(words)
				qt.Assert(t, qt.IsNil(err), qt.Commentf("%s: %s", page, m[0]))
				qt.Check(t, qt.IsFalse(cmd.HasSubCommands() && len(rest) > 0), qt.Commentf("%s: %s", page, m[0]))
				if len(rest) > 0 && !strings.Contains(m[0], " -") {
					qt.Check(t, qt.IsNil(cmd.Args(cmd, rest)), qt.Commentf("%s: %s", page, m[0]))
				}
				for _, w := range rest {
					if name, ok := strings.CutPrefix(w, "--"); ok {
						qt.Check(t, qt.IsNotNil(cmd.Flags().Lookup(name)), qt.Commentf("%s: %s has no --%s", page, cmd.CommandPath(), name))
					}
				}
			}
		}
		qt.Check(t, qt.IsTrue(found > 0))
	}
}
