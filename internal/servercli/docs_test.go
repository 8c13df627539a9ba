// SPDX-License-Identifier: Apache-2.0

package servercli

import (
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/servercli/config"
)

var update = flag.Bool("update", false, "rewrite the generated pages of docs/")

func tree() *cobra.Command {
	return newRootCommand(&app{App: command.New(program, command.Streams{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr})})
}

func TestReferenceIsUpToDate(t *testing.T) {
	const page = "../../docs/tsugi-server.md"
	want := command.Reference(tree())
	if *update {
		qt.Assert(t, qt.IsNil(os.WriteFile(page, []byte(want), 0o644)))
	}
	got, err := os.ReadFile(page)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(string(got) == want), qt.Commentf("docs/tsugi-server.md is out of date: make docs"))
}

func TestEveryCommandIsDocumented(t *testing.T) {
	qt.Check(t, qt.HasLen(command.Undocumented(tree()), 0))
}

// TestEveryKeyIsExplained holds that the operator's guide has a row for each
// key of the configuration with the default that it really has, and no other.
func TestEveryKeyIsExplained(t *testing.T) {
	page, err := os.ReadFile("../../docs/server.md")
	qt.Assert(t, qt.IsNil(err))
	rows := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z0-9_.]+)` \\| ([^|]*) \\|").FindAllStringSubmatch(string(page), -1) {
		rows[m[1]] = strings.Trim(strings.TrimSpace(m[2]), "`")
	}
	for key, value := range config.Defaults() {
		got, ok := rows[key]
		qt.Check(t, qt.IsTrue(ok), qt.Commentf("docs/server.md does not explain %s", key))
		qt.Check(t, qt.Equals(got, value), qt.Commentf("default of %s in docs/server.md", key))
		delete(rows, key)
	}
	qt.Check(t, qt.HasLen(rows, 0), qt.Commentf("docs/server.md explains what there is not"))
}
