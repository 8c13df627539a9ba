// SPDX-License-Identifier: Apache-2.0

// Package proof shows that a live patch does what it says, in the kernel it
// was made for: it boots the exact target twice in virtual machines. Without
// the patch the reproducer has to fail. With the patch, loaded while the
// system runs, the transition has to end, the kernel has to show exactly the
// functions of the manifest as patched, the reproducer has to pass, the patch
// has to leave again, as often as asked, after which the reproducer has to
// fail as before; a probe has to pass all the while; and the kernel must not complain about anything new.
//
// A live patch of a package is proved in the processes of a machine in the same
// way: FromPackage makes its request, and the machine, which may run any kernel,
// has the package's own files in it.
//
// Prove is the edge: it boots. What the events mean is judged by a pure
// function. A Proof is written as proof.json; a proof that does not hold is
// a value with the verdict failed and its problems, not an error.
package proof

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/vm"
	"github.com/tsugi-project/tsugi/internal/vm/wire"
)

// Target is the kernel that is booted.
type Target struct {
	livepatch.TargetRef
	Kernel  string          // path of the vmlinuz as it was shipped
	Modules vm.ModuleSource // its modules
}

// ForKernel is the target of a prepared kernel. A tree that was built and
// never packed has only a vmlinux, which QEMU boots as well.
func ForKernel(t *kernel.Target) Target {
	return Target{
		TargetRef: livepatch.TargetRef{
			Name: t.Name, Release: t.Release, PackageVersion: t.PackageVersion,
			Arch: t.Arch, BuildID: t.BuildID, ConfigDigest: t.ConfigDigest,
		},
		Kernel: cmp.Or(t.Vmlinuz, t.Vmlinux), Modules: t,
	}
}

// Request says what to prove.
type Request struct {
	Target    Target
	Patch     PatchRef             // Name is needed; FromPatch fills in the rest
	Module    []byte               // the .ko file
	Functions []livepatch.Function // what the manifest says is replaced
	Callbacks []string             // objects with callbacks

	// Previous is the live patch that this one supersedes. It is loaded first,
	// and has to be replaced in one transition and to leave then.
	Previous       PatchRef
	PreviousModule []byte

	// Reproducer is a shell script that exits 0 when the bug does not show. It
	// runs under busybox as root from /tmp; the disks are /dev/tsugi/NAME. ""
	// proves loading and reverting only.
	Reproducer      string
	ReproducerLimit time.Duration // of it and of the probe; 0: one minute

	// Probe is a script that uses what the patch changes and exits 0 when it
	// works. It has to pass without the patch, with it and after the revert, and
	// it runs over and over while Cycles are made.
	Probe string

	// Modules are loaded before the patch, and have to load. The modules that
	// the patch changes are loaded as well, as far as this machine can, unless
	// they are in LateModules, which are loaded after it.
	Modules     []string
	changed     []string // modules of the patch that are none of the others
	LateModules []string
	// Stored modules are there for the reproducer or the kernel to load.
	Stored []string

	Disks    []vm.Disk
	Files    []vm.File
	Programs []string // of the host, for the reproducer

	// Package is set for the live patch of a package: then Target is just the
	// kernel that the machines run, and there is no Module.
	Package *Package

	TransitionLimit time.Duration // 0: one minute
	Cycles          int           // of loading and reverting after the proof itself
	SkipRevertShown bool          // do not run the reproducer again after the revert

	Timeout    time.Duration // of each machine; 0: five minutes, more for many functions, ten for packages
	Memory     int           // MiB; 0: 768, and more for many modules
	CPUs       int           // 0: 2
	Sequential bool          // one machine after the other, for hosts with little memory
	Accel      vm.Accel
	CacheDir   string
	Init       string // static program that calls guest.Main; "" is this program
	Cmdline    string
}

// FromPatch starts a request for an artifact. It refuses a target that is
// not the artifact's.
func FromPatch(p *livepatch.Patch, t Target) (Request, error) {
	m := p.Manifest
	if m.Target.BuildID != t.BuildID {
		return Request{}, code.New("TS6101", t.Name,
			fmt.Sprintf("the live patch is for build-id %s, this kernel has %s", m.Target.BuildID, t.BuildID))
	}
	d, err := p.Digest()
	if err != nil {
		return Request{}, err
	}
	return Request{
		Target: t, Module: p.Module(), Functions: m.Functions, Callbacks: m.Callbacks,
		Patch: PatchRef{Name: m.Name, Version: m.Version, Digest: d},
	}, nil
}

func (r Request) withDefaults() Request {
	if r.ReproducerLimit == 0 {
		r.ReproducerLimit = time.Minute
	}
	if r.TransitionLimit == 0 {
		r.TransitionLimit = time.Minute
	}
	if r.Timeout == 0 {
		r.Timeout = 5*time.Minute + 3*r.loading()
		if r.Package != nil {
			r.Timeout += 5 * time.Minute // its programs are started twice, and may be slow to
		}
	}
	if r.CPUs == 0 {
		r.CPUs = 2
	}
	if r.Package == nil {
		r.Patch.describe(r.Module)
	}
	if r.Package == nil && r.Previous.Name != "" {
		r.Previous.describe(r.PreviousModule)
	}
	changed := livepatch.Manifest{Functions: r.Functions, Callbacks: r.Callbacks}
	r.changed = nil
	for _, o := range changed.Objects() {
		if r.Package == nil && o != livepatch.Vmlinux && !slices.Contains(r.LateModules, o) && !slices.Contains(r.Modules, o) {
			r.changed = append(r.changed, o)
		}
	}
	if r.Memory == 0 {
		r.Memory = fewMemory + moduleMemory*max(len(r.changed)-fewModules, 0)
	}
	return r
}

// Modules, with what they depend on, lie in memory twice: in the initramfs and
// in the kernel.
const fewMemory, fewModules, moduleMemory = 768, 8, 14

// loading is how long the kernel may take, under emulation, to find all that a
// live patch refers to: before Linux 6.2 it reads whole symbol tables for each
// reference.
func (r *Request) loading() time.Duration {
	if r.Package != nil {
		return 0
	}
	return time.Duration(len(r.Functions)) * time.Second
}

func (p *PatchRef) describe(module []byte) {
	sum := sha256.Sum256(module)
	p.ModuleDigest, p.ModuleSize = hex.EncodeToString(sum[:]), int64(len(module))
}

// Supersedes makes a request for a live patch that replaces an older one of
// the same target.
func (r *Request) Supersedes(old *livepatch.Patch) error {
	m := old.Manifest
	if r.Package != nil {
		return r.supersedesPackage(old)
	}
	if m.Target.BuildID != r.Target.BuildID {
		return code.New("TS6101", r.Target.Name, "the older live patch is for build-id "+m.Target.BuildID)
	}
	if m.Name == r.Patch.Name {
		return code.New("TS6118", m.Name, "both live patches have this name")
	}
	d, err := old.Digest()
	if err != nil {
		return err
	}
	r.Previous, r.PreviousModule = PatchRef{Name: m.Name, Version: m.Version, Digest: d}, old.Module()
	return nil
}

// Prove boots the machines and judges what they did. The machines run side by
// side when the host has two processors.
func Prove(ctx context.Context, req Request, rep progress.Reporter) (*Proof, error) {
	r := req.withDefaults()
	started := time.Now()
	cfg := vm.Config{
		Kernel: r.Target.Kernel, Cmdline: r.Cmdline, Init: r.Init,
		Modules:      slices.Concat(r.Modules, r.changed, r.LateModules, r.Stored),
		ModuleSource: r.Target.Modules, Programs: r.Programs, Files: r.Files, Disks: r.Disks,
		Memory: r.Memory, CPUs: r.CPUs, Timeout: r.Timeout, CacheDir: r.CacheDir, Accel: r.Accel,
	}
	if r.Package != nil {
		dir, err := os.MkdirTemp("", "tsugi-proof-*")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		if err := r.equip(ctx, &cfg, dir); err != nil {
			return nil, kernel.OrInterrupted(ctx, err)
		}
	}
	if cfg.Accel == "" {
		var err error
		if cfg.Accel, err = vm.Probe(ctx, cfg); err != nil {
			return nil, kernel.OrInterrupted(ctx, err)
		}
	}
	without, with := plans(&r)
	ev := Evidence{Request: r}

	group, gctx := errgroup.WithContext(ctx)
	if r.Sequential || runtime.NumCPU() < 2 {
		group.SetLimit(1)
	}
	if without != nil {
		group.Go(func() (err error) {
			ev.Before, err = runMachine(gctx, cfg, without, rep, "without the patch")
			return err
		})
	}
	group.Go(func() (err error) {
		patched := cfg
		if r.Package == nil {
			patched.Files = append(slices.Clone(cfg.Files), vm.File{Path: patchPath, Data: r.Module})
		}
		if r.Package == nil && r.Previous.Name != "" {
			patched.Files = append(patched.Files, vm.File{Path: previousPath, Data: r.PreviousModule})
		}
		ev.After, err = runMachine(gctx, patched, with, rep, "with the patch")
		return err
	})
	if err := group.Wait(); err != nil {
		return nil, kernel.OrInterrupted(ctx, err)
	}
	p := Judge(ev)
	p.Started = started.UTC().Truncate(time.Second)
	p.Elapsed = time.Since(started).Milliseconds()
	return p, nil
}

// runMachine boots one machine and tells the steps as progress.
func runMachine(ctx context.Context, cfg vm.Config, plan *wire.Plan, rep progress.Reporter, name string) (*vm.Outcome, error) {
	task := rep.Start("proof "+name, int64(len(plan.Steps))+1, progress.Steps)
	task.Note("booting")
	cfg.OnEvent = func(e wire.Event) {
		switch e.Kind {
		case wire.Hello:
			task.Add(1)
		case wire.Begin:
			task.Note(e.Step)
		case wire.Done:
			if e.Step != stepDisks {
				task.Add(1)
			}
		}
	}
	out, err := vm.Run(ctx, cfg, plan)
	task.Done(err)
	return out, err
}
