// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
)

var update = flag.Bool("update", false, "rewrite the generated pages of docs/")

func upToDate(t *testing.T, page, want string) {
	t.Helper()
	path := filepath.Join("../../docs", page)
	if *update {
		qt.Assert(t, qt.IsNil(os.WriteFile(path, []byte(want), 0o644)))
	}
	got, err := os.ReadFile(path)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(string(got) == want), qt.Commentf("docs/%s is out of date: make docs", page))
}

func TestCodesPageIsUpToDate(t *testing.T) {
	var b strings.Builder
	b.WriteString(`# Codes

Every error, refusal and risk that a person may have to act on has a code.
Codes never change their meaning; the wording may improve at any time, so
scripts should match codes. ` + "`tsugictl codes CODE`" + ` explains one.

Made from internal/code by ` + "`make docs`" + `.
`)
	sections := []struct{ prefix, title string }{
		{"TS10", "Objects"},
		{"TS11", "Diffs"},
		{"TS12", "The catalogue of fixes"},
		{"TS13", "Selections"},
		{"TS14", "Surveys"},
		{"TS19", "Command line and files"},
		{"TS2", "Targets and packages"},
		{"TS31", "Compiling"},
		{"TS35", "Live patches of libraries and programs"},
		{"TS4", "Refusals: the verdict is reboot"},
		{"TS5", "The kernel module"},
		{"TS6", "Virtual machine and proof"},
		{"TS70", "The artifact"},
		{"TS71", "Trust: keys, metadata, provenance, envelopes"},
		{"TS74", "The server's database and files"},
		{"TS75", "Jobs and workers"},
		{"TS76", "The server's API"},
		{"TS77", "Publication"},
		{"TS78", "Setting up and running a server"},
		{"TS79", "Policies and updates on the server"},
		{"TS80", "Risks: advice beside a live verdict"},
		{"TS81", "Rollouts"},
		{"TS82", "People and what they may do"},
		{"TS83", "Fleet files and notifications"},
		{"TS91", "The machine that Tsugi runs on"},
		{"TS92", "What keeps a machine from taking a live patch"},
		{"TS93", "Loading and reverting"},
		{"TS94", "The agent"},
		{"TS95", "Health and the crash guard"},
		{"TS96", "Running processes"},
	}
	listed := 0
	for _, s := range sections {
		fmt.Fprintf(&b, "\n## %s\n\n| code | what happened | what to do |\n| --- | --- | --- |\n", s.title)
		for _, e := range code.Catalogue() {
			if strings.HasPrefix(string(e.Code), s.prefix) {
				listed++
				kind := ""
				if e.Kind == code.KindRefusal && s.prefix != "TS4" || e.Kind == code.KindRisk && s.prefix != "TS80" {
					kind = " (" + string(e.Kind) + ")"
				}
				fmt.Fprintf(&b, "| %s | %s%s | %s |\n", e.Code, cell(e.Title), kind, cell(e.Remedy))
			}
		}
	}
	qt.Assert(t, qt.Equals(listed, len(code.Catalogue())), qt.Commentf("a code belongs to no section"))
	upToDate(t, "codes.md", b.String())
}

func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;").Replace(s)
}

func TestReferenceIsUpToDate(t *testing.T) {
	upToDate(t, "tsugictl.md", command.Reference(newRootCommand(newApp(command.Streams{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}))))
}

// TestEveryCommandIsDocumented holds what help and manual pages rely on.
func TestEveryCommandIsDocumented(t *testing.T) {
	var check func(cmd *cobra.Command)
	check = func(cmd *cobra.Command) {
		qt.Check(t, qt.Not(qt.Equals(cmd.Short, "")), qt.Commentf("%s", cmd.CommandPath()))
		qt.Check(t, qt.IsFalse(strings.HasSuffix(cmd.Short, ".")), qt.Commentf("%s: %s", cmd.CommandPath(), cmd.Short))
		for l := range strings.Lines(cmd.Long) {
			qt.Check(t, qt.IsTrue(len([]rune(strings.TrimRight(l, "\n"))) <= 80), qt.Commentf("%s: %s", cmd.CommandPath(), l))
		}
		for _, c := range cmd.Commands() {
			check(c)
		}
	}
	check(newRootCommand(newApp(command.Streams{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr})))
}
