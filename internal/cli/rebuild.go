// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/builder"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/ui"
)

// rebuildOptions are the flags of rebuild.
type rebuildOptions struct {
	output string
	jobs   int
}

// rebuildResult is what rebuild shows.
type rebuildResult struct {
	File   string `json:"file"`
	Target string `json:"target"`
	*builder.Rebuilt
	Output string `json:"output,omitempty"`
}

func newRebuildCommand(a *app) *cobra.Command {
	var o rebuildOptions
	cmd := &cobra.Command{
		Use:   "rebuild PATCH",
		Short: "Build a live patch again from its manifest, and compare",
		Long: `rebuild makes a live patch (NAME.tsugi) once more from the diffs that it holds,
for the target that it names, and says whether the file is the same, byte for
byte. A target that is not in the store is added, of the very package version;
a package that the archive no longer has is named.

The manifest records by digest what the live patch was built from: the
packages, the compiler, the assembler and the linker. What is otherwise on this
machine is listed. A signature of the module is taken over, for the key that
made it is not asked for.

Exit codes: 0 the same, 2 not the same, 1 error.`,
		Example: "  tsugictl rebuild july.tsugi\n  tsugictl rebuild july.tsugi -o again.tsugi",
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.rebuild(cmd.Context(), args[0], o) },
	}
	cmd.Flags().StringVarP(&o.output, "output", "o", "", "write what was built to this file")
	cmd.Flags().IntVarP(&o.jobs, "jobs", "j", 0, "compilers at a time (default one per processor)")
	return cmd
}

func (a *app) rebuild(ctx context.Context, path string, o rebuildOptions) error {
	start := time.Now()
	p, err := a.readPatch(path)
	if err != nil {
		return err
	}
	if err := command.CheckOutput(o.output); err != nil {
		return err
	}
	t, err := a.targetOf(ctx, p.Manifest.Target, o.jobs)
	if err != nil {
		return err
	}
	made, err := builder.Rebuild(ctx, t, p, builder.RebuildOptions{Jobs: o.jobs}, a.Progress())
	if err != nil {
		return err
	}
	r := rebuildResult{File: path, Target: t.Name, Rebuilt: made}
	if o.output != "" && made.Patch != nil {
		b, err := made.Patch.Bytes()
		if err != nil {
			return err
		}
		if err := command.WriteFile(o.output, b); err != nil {
			return err
		}
		r.Output = o.output
	}
	if err := a.Show("rebuild", r, func() string { return rebuildText(r, time.Since(start)) }); err != nil {
		return err
	}
	if !made.Same {
		return command.Outcome(exitRefused)
	}
	return nil
}

// targetOf opens the target of a live patch, or adds it. A target of that name
// that was made of another package stays as it is.
func (a *app) targetOf(ctx context.Context, ref livepatch.TargetRef, jobs int) (*kernel.Target, error) {
	store, err := a.store()
	if err != nil {
		return nil, err
	}
	t, err := store.Get(ref.Name)
	if code.Of(err) == "TS2302" && strings.HasPrefix(ref.Name, "debian:") {
		return store.Add(ctx, ref.Name, kernel.AddOptions{Version: ref.PackageVersion, Jobs: jobs}, a.Progress())
	}
	return t, err
}

func rebuildText(r rebuildResult, took time.Duration) string {
	var b strings.Builder
	if r.Same {
		b.WriteString(ui.Good("✓") + " " + ui.Bold(r.File) + " is the same, byte for byte")
	} else {
		b.WriteString(ui.Bad("✗") + " " + ui.Bold(r.File) + " is not the same")
	}
	b.WriteString(ui.Dim("  " + ui.Span(took)))
	for _, d := range r.Differences {
		b.WriteString("\n  " + d)
	}
	for _, c := range r.Inputs {
		b.WriteString("\n  " + ui.Warn("!") + " " + c.String())
	}
	if r.Signed {
		b.WriteString("\n  " + ui.Dim("the module's signature was taken over"))
	}
	if r.Output != "" {
		b.WriteString("\n  written to " + r.Output)
	}
	return b.String()
}
