// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/builder"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/userland"
)

// buildOptions are the flags of build.
type buildOptions struct {
	target     string
	name       string
	version    int
	accept     []string
	jobs       int
	maxObjects int
	output     string
	entryOnly  bool
	module     string
	key, cert  string

	server, prove, publish bool // build there
	reproducer             string

	choice     choiceOptions
	versionSet bool
}

func newBuildCommand(a *app) *cobra.Command {
	var o buildOptions
	cmd := &cobra.Command{
		Use:   "build DIFF... | DIRECTORY | --update VERSION",
		Short: "Make a live patch of one or more fixes, for one kernel or package",
		Long: `build compiles the objects that the fixes reach, without and with them,
compares them function by function, and makes one live patch of what changed.
Before that, each function to be replaced is compared with the bytes of the
kernel as it was shipped.

The verdict is live, reboot (with the reason, its place in the source and the
usual rewrite) or not-affected. A refusal that you have judged yourself can be
accepted by its code, or code and place: --accept TS4010:sysctl_x.

Of a directory of fixes, or with --update of everything that a later version of
the distribution's source changes, build chooses by a policy, leaves out what
can't be live, and makes one live patch of all the rest. --exclude leaves out
one CVE or one fix; everything is built from source without it. What does not
work without it is dragged along, and shown with the smallest sets that do.
Of an update only fixes with a CVE or an advisory are taken, unless --all.

For a package (debian:PACKAGE=VERSION) the live patch is for the processes that
map its libraries and run its programs. The verdict reboot means there that they
have to start again. --entry-only lets calls of the old code that are under way
end in it; without it no thread may be in a function that changes. Directories
of fixes, --update, --exclude and --policy choose as for kernels.

With --server the build is a job of the server that login chose: it has the
target's next version, and with --publish it is proven and published to the
first tier. What --accept names is recorded with the job. The command follows
the job to its end; -o gets the live patch.

Exit codes: 0 live, 2 reboot, 3 not affected, 1 error.`,
		Example: `  tsugictl build ext4.diff --target debian:6.1.0-55-amd64
  tsugictl build *.diff -t debian:6.1.0-55-amd64 --name cve_2026_07 -o july.tsugi
  tsugictl build --update 6.1.192-1 -t debian:6.1.0-54-amd64 --exclude CVE-2026-43210
  tsugictl build ssl.diff -t debian:libssl3=3.0.20-1~deb12u2
  tsugictl build --update 2.36-9+deb12u14 -t debian:libc6=2.36-9+deb12u7
  tsugictl build x.diff -t tree:/usr/src/linux --module x.ko --sign-key MOK.pem
  tsugictl build ext4.diff -t debian:6.1.0-55-amd64 --server --publish`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.versionSet = cmd.Flags().Changed("patch-version")
			return a.build(cmd.Context(), args, o)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.target, "target", "t", "", "kernel or package to patch, as target ls names it (needed)")
	f.BoolVar(&o.entryOnly, "entry-only", false, "for a package: old code may be left when it returns")
	f.StringVarP(&o.output, "output", "o", "", "file to write (default the first fix's name, .tsugi)")
	f.StringVar(&o.module, "module", "", "write the kernel module to this file as well")
	f.StringVar(&o.name, "name", "", "name of the live patch (default made of fixes and target)")
	f.IntVar(&o.version, "patch-version", 1, "version; a higher one supersedes all lower ones")
	f.StringArrayVar(&o.accept, "accept", nil, "refusal to live with, as CODE or CODE:PLACE (may be repeated)")
	f.IntVarP(&o.jobs, "jobs", "j", 0, "compilers at a time (default one per processor)")
	f.IntVar(&o.maxObjects, "max-objects", 0, "objects that a header may reach (default 500)")
	f.StringVar(&o.key, "sign-key", "", "PEM file with the key, and perhaps the certificate, to sign the module with")
	f.StringVar(&o.cert, "sign-cert", "", "certificate of the key, PEM or DER")
	f.BoolVar(&o.server, "server", false, "let the server build it")
	f.BoolVar(&o.prove, "prove", false, "with --server: prove it in a virtual machine as well")
	f.BoolVar(&o.publish, "publish", false, "with --server: prove it, and publish it to the first tier")
	f.StringVar(&o.reproducer, "reproducer", "", "with --server: script for the proof, as prove takes it")
	o.choice.register(f)
	must(cmd.RegisterFlagCompletionFunc("target", a.completeTargets))
	return cmd
}

// must is for calls that only fail when the program itself is wrong.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func (a *app) build(ctx context.Context, paths []string, o buildOptions) error {
	switch {
	case o.target == "":
		return command.Usage(program+" build", "--target is needed")
	case o.choice.update == "" && len(paths) == 0:
		return command.Usage(program+" build", "a diff, a directory of fixes or --update is needed")
	case o.choice.update != "" && len(paths) > 0:
		return command.Usage(program+" build", "--update and diffs exclude each other")
	case o.server && o.choice.chooses(paths):
		return command.Usage(program+" build", "--server takes diffs; updates are pushed with update push")
	}
	if err := o.fitting(); err != nil {
		return err
	}
	if userland.IsName(o.target) {
		return a.buildForPackage(ctx, paths, o)
	}
	if o.entryOnly {
		return command.Usage(program+" build", "--entry-only is for packages: kernels see to it that no task is in old code")
	}
	if o.server {
		return a.buildOnServer(ctx, paths, o)
	}
	if o.prove || o.publish || o.reproducer != "" {
		return command.Usage(program+" build", "--prove, --publish and --reproducer need --server; here, tsugictl prove comes next")
	}
	if o.choice.chooses(paths) {
		return a.buildSeries(ctx, paths, o)
	}
	req := builder.Request{
		Name: o.name, Version: o.version, Builder: command.Maker(), Accept: o.accept,
		Jobs: o.jobs, MaxObjects: o.maxObjects,
	}
	var err error
	if req.Fixes, err = a.readFixes(paths, &o); err != nil {
		return err
	}
	store, err := a.store()
	if err != nil {
		return err
	}
	if req.Target, err = store.Get(o.target); err != nil {
		return err
	}
	if req.Sign, err = signer(req.Target, o.key, o.cert); err != nil {
		return err
	}
	r, err := builder.Build(ctx, req, a.Progress())
	if err != nil {
		return err
	}
	out := buildResult{Report: r}
	if r.Verdict == builder.Live {
		if err := a.writePatch(r, o); err != nil {
			return err
		}
		out.Output, out.ModuleFile = o.output, o.module
	}
	if err := a.Show("build", out, func() string { return buildText(out) }); err != nil {
		return err
	}
	return outcome(r.Verdict)
}

// fitting refuses flags that would do nothing.
func (o *buildOptions) fitting() error {
	if wrong := code.NotRefusals(o.accept); len(wrong) > 0 {
		return command.Usage(program+" build", fmt.Sprintf("--accept %s: no code of a refusal (tsugictl codes lists them)", wrong[0]))
	}
	if !o.server {
		return nil
	}
	for _, f := range []struct {
		name, why string
		set       bool
	}{
		{"--patch-version", "the server counts the versions", o.versionSet},
		{"--jobs", "the worker has as many compilers as it was told", o.jobs != 0},
		{"--max-objects", "jobs have the default", o.maxObjects != 0},
		{"--module", "it is in the live patch that -o gets", o.module != ""},
		{"--sign-key and --sign-cert", "the worker has the keys", o.key != "" || o.cert != ""},
	} {
		if f.set {
			return command.Usage(program+" build", f.name+" can't go with --server: "+f.why)
		}
	}
	return nil
}

// readFixes reads the fixes of a build, and sees to it that there is a place for
// what comes of them.
func (a *app) readFixes(paths []string, o *buildOptions) ([]*fix.Fix, error) {
	var fixes []*fix.Fix
	for _, p := range paths {
		f, err := a.readFix(p)
		if err != nil {
			return nil, err
		}
		fixes = append(fixes, f)
	}
	if o.output == "" {
		o.output = fixes[0].ID + ".tsugi"
	}
	return fixes, command.CheckOutput(o.output, o.module)
}

func (a *app) writePatch(r *builder.Report, o buildOptions) error {
	b, err := r.Artifact.Bytes()
	if err != nil {
		return err
	}
	if err := command.WriteFile(o.output, b); err != nil {
		return err
	}
	if o.module != "" {
		if err := command.WriteFile(o.module, r.Artifact.Module()); err != nil {
			return err
		}
	}
	return nil
}

// signer returns the function that signs a module as the target's own are, or
// nil without a key.
func signer(t *kernel.Target, keyFile, certFile string) (func([]byte) ([]byte, error), error) {
	if keyFile == "" {
		if certFile != "" {
			return nil, command.Usage(program+" build", "--sign-cert needs --sign-key")
		}
		return nil, nil
	}
	texts := make([][]byte, 0, 2)
	for _, f := range nonEmpty(keyFile, certFile) {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, command.FileProblem("TS1902", f, err)
		}
		texts = append(texts, b)
	}
	sign, err := builder.Signer(t, texts...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", keyFile, err)
	}
	return sign, nil
}
