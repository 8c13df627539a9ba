// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/kernel"
)

func newTargetCommand(a *app) *cobra.Command {
	return command.Parent("target", "The kernels, libraries and programs that live patches are made for",
		`A target is one exact kernel: its release, package version, architecture,
configuration and build-id. Adding one gets its packages, unpacks image,
modules and source, and prepares a build directory, once. A target is also one
exact package with libraries or programs, by its name and version.`,
		newTargetAddCommand(a), newTargetLsCommand(a), newTargetShowCommand(a), newTargetCleanCommand(a), newTargetRmCommand(a))
}

// targetResult is a target in JSON.
type targetResult struct {
	Name           string `json:"name"`
	Release        string `json:"release"`
	Package        string `json:"package,omitempty"`
	PackageVersion string `json:"package_version,omitempty"`
	SourceVersion  string `json:"source_version,omitempty"`
	Arch           string `json:"arch"`
	BuildID        string `json:"build_id"`
	ConfigDigest   string `json:"config_digest"`
	Compiler       string `json:"compiler"`
	Source         string `json:"source"`
	Build          string `json:"build"`
	Vmlinuz        string `json:"vmlinuz,omitempty"`
	Modules        int    `json:"modules"`
	Foreign        bool   `json:"foreign,omitempty"` // tree:DIR
}

func resultOfTarget(t *kernel.Target) targetResult {
	return targetResult{
		Name: t.Name, Release: t.Release, Package: t.Package, PackageVersion: t.PackageVersion,
		SourceVersion: t.SourceVersion, Arch: t.Arch, BuildID: t.BuildID, ConfigDigest: t.ConfigDigest,
		Compiler: t.Compiler, Source: t.Source, Build: t.Build, Vmlinuz: t.Vmlinuz,
		Modules: len(t.Modules()), Foreign: t.Foreign,
	}
}

// completeTargets gives a shell the names of targets that are ready.
func (a *app) completeTargets(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	store, err := a.store()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	targets, err := store.List()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names := make([]cobra.Completion, len(targets))
	for i, t := range targets {
		names[i] = t.Name
	}
	if pkgs, err := a.packages(); err == nil {
		if targets, err := pkgs.List(); err == nil {
			for _, t := range targets {
				names = append(names, t.Name)
			}
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
