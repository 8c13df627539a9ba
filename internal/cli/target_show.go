// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/kbuild"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/ui"
	"github.com/tsugi-project/tsugi/internal/userland"
)

type targetDetails struct {
	targetResult
	Sizes struct {
		Image      int64    `json:"image"`
		Build      int64    `json:"build"`
		Source     int64    `json:"source"`
		SharedWith []string `json:"source_shared_with,omitempty"`
	} `json:"sizes"`
	Cached   kbuild.Usage `json:"cached"` // objects compiled for it
	Features []string     `json:"features"`
}

func newTargetShowCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME",
		Short: "Show what identifies a target and where it is kept",
		Args:  cobra.ExactArgs(1),

		ValidArgsFunction: a.completeTargets,
		RunE: func(cmd *cobra.Command, args []string) error {
			if userland.IsName(args[0]) {
				return a.packageShow(args[0])
			}
			store, err := a.store()
			if err != nil {
				return err
			}
			t, err := store.Get(args[0])
			if err != nil {
				return err
			}
			sizes, err := store.Sizes(t)
			if err != nil {
				return err
			}
			cached, err := kbuild.Cached(cmd.Context(), t)
			if err != nil {
				return err
			}
			d := targetDetails{Cached: cached, targetResult: resultOfTarget(t), Features: features(t)}
			d.Sizes.Image, d.Sizes.Build, d.Sizes.Source, d.Sizes.SharedWith = sizes.Image, sizes.Build, sizes.Source, sizes.Shared
			return a.Show("target", d, func() string { return targetText(t, d) })
		},
	}
}

// features are the configuration choices that decide how code is patched.
func features(t *kernel.Target) []string {
	list := []string{}
	for _, f := range []struct{ option, word string }{
		{"CONFIG_X86_KERNEL_IBT", "branch tracking"},
		{"CONFIG_CALL_PADDING", "call padding"},
		{"CONFIG_RETPOLINE", "retpolines"},
		{"CONFIG_MITIGATION_RETPOLINE", "retpolines"},
		{"CONFIG_UNWINDER_ORC", "orc unwinder"},
		{"CONFIG_MODULE_SIG_FORCE", "signed modules only"},
		{"CONFIG_DEBUG_INFO_BTF", "btf"},
	} {
		if t.HasConfig(f.option) {
			list = append(list, f.word)
		}
	}
	return list
}

func targetText(t *kernel.Target, d targetDetails) string {
	source := ui.Size(d.Sizes.Source)
	if len(d.Sizes.SharedWith) > 0 {
		source += ui.Dim(" shared with " + strings.Join(d.Sizes.SharedWith, ", "))
	}
	pkg := t.Package
	if pkg != "" {
		pkg += " " + t.PackageVersion
	}
	return ui.Bold(t.Name) + "\n" + ui.Indent(ui.Pairs(
		[2]string{"release", t.Release},
		[2]string{"package", pkg},
		[2]string{"architecture", t.Arch},
		[2]string{"build-id", t.BuildID},
		[2]string{"config", short(t.ConfigDigest)},
		[2]string{"compiler", t.Compiler},
		[2]string{"features", strings.Join(d.Features, ", ")},
		[2]string{"modules", fmt.Sprint(d.Modules)},
		[2]string{"objects", fmt.Sprintf("%d, %s; %s of selections", d.Cached.Objects, ui.Size(d.Cached.Originals+d.Cached.Index), ui.Size(d.Cached.Patched))},
		[2]string{"image", ui.Size(d.Sizes.Image)},
		[2]string{"source", source + ui.Dim("  "+t.Source)},
		[2]string{"build", ui.Size(d.Sizes.Build) + ui.Dim("  "+t.Build)},
	), 2)
}
