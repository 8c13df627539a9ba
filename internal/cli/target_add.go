// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/kbuild"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/ui"
	"github.com/tsugi-project/tsugi/internal/userland"
)

func newTargetAddCommand(a *app) *cobra.Command {
	var opt kernel.AddOptions
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Get and prepare a kernel or a package",
		Long: `add prepares a kernel, a library or a program for live patching. NAME is one of

  debian:RELEASE           a linux-image package of the configured apt sources,
                           signed or not; RELEASE is what uname -r prints on it
  debian:PACKAGE=VERSION   a package with libraries or programs, in exactly
                           this version; its source package is built again in
                           a root of its own, and compared with what is shipped
  tree:DIR                 a kernel that was built in DIR

What is finished is kept: an interrupted add goes on where it stopped.`,
		Example: "  tsugictl target add debian:6.1.0-55-amd64\n  tsugictl target add debian:6.1.0-55-amd64 --version 6.1.192-1\n  tsugictl target add debian:libssl3=3.0.20-1~deb12u2\n  tsugictl target add tree:/usr/src/linux",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if userland.IsName(args[0]) {
				return a.packageAdd(cmd.Context(), args[0], userland.AddOptions{Jobs: opt.Jobs})
			}
			return a.targetAdd(cmd.Context(), args[0], opt)
		},
	}
	cmd.Flags().StringVar(&opt.Version, "version", "", "package version of a kernel (default the newest that apt knows)")
	cmd.Flags().IntVarP(&opt.Jobs, "jobs", "j", 0, "parallel jobs of make (default one per processor)")
	return cmd
}

func (a *app) targetAdd(ctx context.Context, name string, opt kernel.AddOptions) error {
	start := time.Now()
	store, err := a.store()
	if err != nil {
		return err
	}
	t, err := store.Add(ctx, name, opt, a.Progress())
	if err != nil {
		return err
	}
	if err := kbuild.Index(ctx, t, a.Progress()); err != nil {
		return err // or the first fix would pay for it
	}
	return a.Show("target", resultOfTarget(t), func() string {
		s := ui.Good("✓") + " " + ui.Bold(t.Name)
		if t.PackageVersion != "" {
			s += " " + t.PackageVersion
		}
		return s + " is ready" + ui.Dim("  "+ui.Span(time.Since(start)))
	})
}
