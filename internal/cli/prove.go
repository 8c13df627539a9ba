// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/proof"
	"github.com/tsugi-project/tsugi/internal/vm"
)

// proveOptions are the flags of prove.
type proveOptions struct {
	reproducer      string
	probe           string
	supersedes      string
	needs           proof.Needs // of the reproducer; flags add to what its script says
	disks           []string
	cycles          int
	cpus            int
	timeout         time.Duration
	transitionLimit time.Duration
	sequential      bool
	accel           string
	stays           bool
	output          string
	kernel          string // that a package's machines run
}

func newProveCommand(a *app) *cobra.Command {
	var o proveOptions
	cmd := &cobra.Command{
		Use:   "prove PATCH",
		Short: "Prove a live patch in its exact target, in a virtual machine",
		Long: `prove boots the unmodified kernel that a live patch is for, twice. Without the
patch the reproducer must fail. With the patch, loaded while the system runs,
the transition must end, the kernel must show exactly the functions of the
manifest as patched, the reproducer must pass, and the patch must leave again,
as often as asked; and the kernel must not complain about anything new.

The reproducer is a shell script that exits 0 when the bug does not show. A
probe is one that always has to pass: it uses what the patch changes, over and
over while the patch is loaded and reverted. Both run under busybox, as root.
What they need can stand in their comments:

  # tsugi: disk scratch 2G ext4     a disk, there as /dev/tsugi/scratch
  # tsugi: module virtio_blk        modules to load before the live patch
  # tsugi: late-module nf_tables    modules to load after it
  # tsugi: program tune2fs          programs of this machine, with the libraries
                                    that they find here (LD_LIBRARY_PATH too)
  # tsugi: memory 1024              MiB

The live patch of a package is proven in the processes of such a machine. It
runs a kernel that is prepared, the newest or --kernel (where none is, Debian's
newest is fetched), and holds the package's own files and the libraries that it
was built with. Programs run while the live
patch comes and goes: for each library a stock program that loads it, and those
that the reproducer names. In each of them exactly the functions of the manifest
must be replaced; the reproducer must pass in the programs that ran before, and
in those that were started later; and no program may end.

  # tsugi: serve postgres -D data   a program to start first: its command line
  # tsugi: talk show                one that answers each line on its standard
                                    input: ask LINE in scripts asks it
  # tsugi: ready pg_isready         what has to pass before anything else
  # tsugi: c show -lcrypto          a C program that the script holds, between
                                    the lines : <<'show.c' and show.c; compiled
                                    where the package's source is

The record is written to PATCH.proof.json, whether the proof holds or not.`,
		Example: "  tsugictl prove ext4.tsugi --reproducer demo/ext4-mballoc.sh --cycles 5",
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.prove(cmd.Context(), args[0], o) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.reproducer, "reproducer", "r", "", "shell script that fails when the bug shows")
	f.StringVar(&o.probe, "probe", "", "shell script that uses what the patch changes and always has to pass")
	f.StringVar(&o.supersedes, "supersedes", "", "live patch that is loaded first and must be replaced by this one")
	f.StringArrayVar(&o.disks, "disk", nil, "disk as NAME:SIZE[:FS], such as scratch:2G:ext4 (may be repeated)")
	f.StringSliceVar(&o.needs.Modules, "module", nil, "modules to load before the live patch")
	f.StringSliceVar(&o.needs.LateModules, "late-module", nil, "modules to load after the live patch")
	f.StringSliceVar(&o.needs.Stored, "stored-module", nil, "modules that the reproducer or the kernel loads")
	f.StringSliceVar(&o.needs.Programs, "program", nil, "programs of this machine that the reproducer runs")
	f.IntVar(&o.needs.Memory, "memory", 0, "memory of each machine in MiB (default 768)")
	f.IntVar(&o.cpus, "cpus", 0, "processors of each machine (default 2)")
	f.IntVarP(&o.cycles, "cycles", "n", 3, "how often to load and revert once the proof holds")
	f.DurationVar(&o.timeout, "timeout", 0, "limit of each machine (default 5m, and 10m for a package)")
	f.DurationVar(&o.transitionLimit, "transition-limit", 0, "limit of each transition (default 1m)")
	f.BoolVar(&o.sequential, "sequential", false, "one machine after the other")
	f.BoolVar(&o.stays, "fix-stays", false, "do not expect the bug to be back after the revert")
	f.StringVar(&o.kernel, "kernel", "", "kernel that the machines run, for the live patch of a package (default the newest that is prepared)")
	f.StringVar(&o.accel, "accel", "", "kvm or tcg (default what works)")
	f.StringVarP(&o.output, "output", "o", "", "file for the record")
	return cmd
}

func (a *app) prove(ctx context.Context, path string, o proveOptions) error {
	patch, err := a.readPatch(path)
	if err != nil {
		return err
	}
	if o.output == "" {
		o.output = proofPath(path)
	}
	if err := command.CheckOutput(o.output); err != nil {
		return err
	}
	store, err := a.store()
	if err != nil {
		return err
	}
	req, err := a.proofRequest(ctx, patch, store, o.kernel)
	if err != nil {
		return err
	}
	if err := a.fillRequest(&req, store, o); err != nil {
		return err
	}
	p, err := proof.Prove(ctx, req, a.Progress())
	if err != nil {
		return err
	}
	b, err := p.Bytes()
	if err != nil {
		return err
	}
	if err := command.WriteFile(o.output, b); err != nil {
		return err
	}
	if err := a.Show("proof", p, func() string { return proofText(p, o.output) }); err != nil {
		return err
	}
	if p.Verdict != proof.Proved {
		return command.Outcome(command.Failed)
	}
	return nil
}

// proofRequest starts a request for a live patch and its prepared target.
func (a *app) proofRequest(ctx context.Context, patch *livepatch.Patch, store *kernel.Store, boot string) (proof.Request, error) {
	name := patch.Manifest.Target.Name
	if !patch.Manifest.Userland() {
		if boot != "" {
			return proof.Request{}, command.Usage(program+" prove", "--kernel is for live patches of packages: this one is for "+name)
		}
		t, err := store.Get(name)
		if err != nil {
			return proof.Request{}, err
		}
		return proof.FromPatch(patch, proofTarget(t))
	}
	packages, err := a.packages()
	if err != nil {
		return proof.Request{}, err
	}
	t, err := packages.Get(name)
	if err != nil {
		return proof.Request{}, err
	}
	k, err := proof.Bootable(ctx, store, packages, boot, a.Progress())
	if err != nil {
		return proof.Request{}, err
	}
	return proof.FromPackage(patch, t, k)
}

// proofPath is where the record of a live patch lies unless asked otherwise.
func proofPath(patch string) string {
	return strings.TrimSuffix(patch, filepath.Ext(patch)) + ".proof.json"
}

func proofTarget(t *kernel.Target) proof.Target {
	return proof.Target{
		TargetRef: livepatch.TargetRef{
			Name: t.Name, Release: t.Release, PackageVersion: t.PackageVersion, Arch: t.Arch,
			BuildID: t.BuildID, ConfigDigest: t.ConfigDigest,
		},
		Kernel: t.Vmlinuz, Modules: t,
	}
}

func (a *app) fillRequest(req *proof.Request, store *kernel.Store, o proveOptions) error {
	n := o.needs
	for _, d := range o.disks {
		disk, err := proof.ParseDisk(strings.Split(d, ":"))
		if err != nil {
			return command.Usage(program+" prove", "--disk "+d+": "+err.Error())
		}
		n.Disks = append(n.Disks, disk)
	}
	var err error
	if req.Reproducer, err = a.readScript(o.reproducer, &n); err != nil {
		return err
	}
	if req.Probe, err = a.readScript(o.probe, &n); err != nil {
		return err
	}
	if o.supersedes != "" {
		older, err := a.readPatch(o.supersedes)
		if err != nil {
			return err
		}
		if err := req.Supersedes(older); err != nil {
			return fmt.Errorf("%s: %w", o.supersedes, err)
		}
	}
	switch vm.Accel(o.accel) {
	case "", vm.KVM, vm.TCG:
	default:
		return command.Usage(program+" prove", "--accel "+o.accel+": neither kvm nor tcg")
	}
	n.Apply(req)
	req.Cycles, req.CPUs, req.Timeout, req.TransitionLimit = o.cycles, o.cpus, o.timeout, o.transitionLimit
	req.Sequential = o.sequential || runtime.NumCPU() < 2
	req.SkipRevertShown = o.stays
	req.Accel, req.CacheDir = vm.Accel(o.accel), store.Home()
	return nil
}

// readScript reads a script, if one is named, and notes what it needs.
func (a *app) readScript(path string, n *proof.Needs) (string, error) {
	if path == "" {
		return "", nil
	}
	b, err := a.ReadFile(path)
	if err != nil {
		return "", err
	}
	return string(b), n.Read(path, string(b))
}
