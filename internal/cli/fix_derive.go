// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
)

func newFixDeriveCommand(a *app) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "derive OLD NEW [PATH]...",
		Short: "Make a diff of what changed between two source versions",
		Long: `derive compares two versions of the kernel source and writes the difference as
a git-style diff, limited to the files and directories PATH if some are given.

OLD and NEW are each a target (debian:6.1.0-55-amd64), a version of the
linux-source package (6.1.192-2), which is fetched if need be, or a directory.`,
		Example: "  tsugictl fix derive debian:6.1.0-55-amd64 6.1.192-2 fs/ext4 -o ext4.diff",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.fixDerive(cmd.Context(), args[0], args[1], args[2:], output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "write the diff to this file and sum it up")
	return cmd
}

func (a *app) fixDerive(ctx context.Context, from, to string, paths []string, output string) error {
	if a.Term.JSON() && output == "" {
		return command.Usage(program+" fix derive", "--json needs --output: a diff is no JSON")
	}
	store, err := a.store()
	if err != nil {
		return err
	}
	for i, p := range paths {
		paths[i] = strings.Trim(filepath.Clean(p), "/")
	}
	oldRoot, err := a.sourceDir(ctx, store, from)
	if err != nil {
		return err
	}
	newRoot, err := a.sourceDir(ctx, store, to)
	if err != nil {
		return err
	}
	task := a.Progress().Start("compare sources", 0, progress.Steps)
	diff, err := fix.Derive(interruptible(ctx, oldRoot), interruptible(ctx, newRoot), paths)
	task.Done(err)
	if ctx.Err() != nil {
		return kernel.Interrupted(ctx)
	}
	if err != nil {
		return err
	}
	if len(diff) == 0 {
		return code.New("TS1107", from+" and "+to, "no difference"+within(paths)).WithFix("choose other versions or paths")
	}
	name := output
	if output == "" {
		name = "derived.diff"
	}
	f, err := fix.Parse(name, diff)
	if err != nil {
		return fmt.Errorf("between %s and %s: %w", from, to, err)
	}
	if output == "" {
		return a.Term.Raw(diff)
	}
	if err := command.WriteFile(output, diff); err != nil {
		return err
	}
	r := resultOfFix(f)
	r.Output = output
	return a.Show("fix", r, func() string { return fixText(r) })
}

// openFunc is a file system that is only a function.
type openFunc func(name string) (fs.File, error)

func (f openFunc) Open(name string) (fs.File, error) { return f(name) }

// interruptible is a directory that opens nothing any more once ctx has ended.
func interruptible(ctx context.Context, dir string) fs.FS {
	root := os.DirFS(dir)
	return openFunc(func(name string) (fs.File, error) {
		if err := ctx.Err(); err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		return root.Open(name)
	})
}

func within(paths []string) string {
	if len(paths) == 0 {
		return ""
	}
	return " in " + strings.Join(paths, " and ")
}

// sourceDir finds the source that a word means.
func (a *app) sourceDir(ctx context.Context, store *kernel.Store, word string) (string, error) {
	if strings.ContainsRune(word, ':') {
		t, err := store.Get(word)
		if err != nil {
			return "", err
		}
		return t.Source, nil
	}
	if strings.ContainsRune(word, '/') || word == "." {
		info, err := os.Stat(word)
		if err != nil {
			return "", command.FileProblem("TS1902", word, err)
		}
		if !info.IsDir() {
			return "", command.FileProblem("TS1902", word, fmt.Errorf("not a directory"))
		}
		return word, nil
	}
	return store.SourceTree(ctx, word, a.Progress())
}
