// SPDX-License-Identifier: Apache-2.0

package command

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Reference is the page of docs/ of a program: the help of all its commands.
func Reference(root *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\nMade from the program's own help by `make docs`.\n", root.Name())
	reference(&b, root)
	return b.String()
}

func reference(b *strings.Builder, cmd *cobra.Command) {
	cmd.InitDefaultHelpFlag()
	if cmd.HasParent() {
		fmt.Fprintf(b, "\n## %s\n\n%s.\n", cmd.CommandPath(), cmd.Short)
	}
	text := cmd.Long
	own := cmd.HasParent() && (!cmd.HasSubCommands() || hasFlags(cmd)) // it does something itself
	if own && cmd.Runnable() {
		text = "Usage: " + cmd.UseLine() + "\n\n" + text
	}
	if f := cmd.LocalFlags().FlagUsages(); f != "" && own {
		text += "\n\nFlags:\n" + f
	}
	if !cmd.HasParent() {
		text += "\n\nGlobal flags:\n" + cmd.PersistentFlags().FlagUsages()
	}
	if cmd.Example != "" {
		text += "\n\nExamples:\n" + cmd.Example
	}
	fmt.Fprintf(b, "\n```text\n%s\n```\n", strings.TrimSpace(strings.ReplaceAll(text, "\n\n\n", "\n\n")))
	for _, c := range cmd.Commands() {
		if c.Name() != "completion" && c.Name() != "help" && !c.Hidden {
			reference(b, c)
		}
	}
}

// hasFlags reports whether a command has flags that not every command has.
func hasFlags(cmd *cobra.Command) (found bool) {
	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) { found = found || f.Name != "help" })
	return found
}

// Undocumented lists what help and manual pages rely on and a tree lacks:
// short descriptions without a full stop, lines of 80 characters at most.
func Undocumented(cmd *cobra.Command) []string {
	var found []string
	if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
		found = append(found, fmt.Sprintf("%s: short description %q", cmd.CommandPath(), cmd.Short))
	}
	for l := range strings.Lines(cmd.Long) {
		if len([]rune(strings.TrimRight(l, "\n"))) > 80 {
			found = append(found, fmt.Sprintf("%s: more than 80 characters: %s", cmd.CommandPath(), l))
		}
	}
	for _, c := range cmd.Commands() {
		found = append(found, Undocumented(c)...)
	}
	return found
}
