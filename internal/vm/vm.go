// SPDX-License-Identifier: Apache-2.0

// Package vm boots a Linux kernel in QEMU with an initramfs of its own making
// and has it execute a plan. It knows kernels, modules, disks and scripts, and
// nothing about patches.
//
// In goes a Config: a kernel image as a distribution ships it, modules, files
// and a plan (package wire). Out comes an Outcome: how the machine ended, all
// that it said on its console, and one event per step. The console is the
// first serial port; events come over the second, so that neither needs a
// module or a driver that the kernel may lack.
//
// Process 1 in the machine is a static program that calls guest.Main first
// thing; by default the running program itself. Shell scripts run under the
// host's static busybox.
//
// Nothing is left behind: the archive is in memory, disks are files without a
// name, and QEMU is killed when the context ends, when the time limit is
// reached, and by the kernel when this process dies.
package vm

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/vm/wire"
)

// Config describes one machine and what it has to do.
type Config struct {
	// Kernel is a bzImage, or a vmlinux with a PVH entry point, which boots
	// faster because nothing has to be unpacked under emulation, and is not
	// moved by KASLR.
	Kernel  string
	Cmdline string // appended to the harness's own
	Init    string // static program for process 1; "" is the running program
	Busybox string // "" is /bin/busybox

	// Modules are stored in the guest with all that they depend on, but only
	// the plan or the kernel itself loads them.
	Modules      []string
	ModuleSource ModuleSource
	Programs     []string // programs of the host, stored with their libraries
	Files        []File
	Links        map[string]string // symbolic links by path; a file of the same path wins
	Disks        []Disk
	Net          *Net      // nil: no network card
	Clock        time.Time // what the machine's clock shows at its start; zero is the host's time

	Memory  int           // MiB; 0 means 512
	CPUs    int           // 0 means 2
	Timeout time.Duration // for the whole run; 0 means 3 minutes
	Output  bool          // give dumps a disk of their own instead of the serial port

	Accel    Accel  // "" is probed for
	CacheDir string // where the result of the probe is kept; "" for nowhere
	QEMU     string // "" is qemu-system-x86_64

	// OnEvent is called for every event as it arrives, from one goroutine.
	OnEvent func(wire.Event)
	// CutAt takes the power away at the first event that it says true for, as
	// Machine.Cut does.
	CutAt func(wire.Event) bool
}

// Disk is a virtio disk. In the guest it is /dev/tsugi/NAME once virtio_blk
// is loaded, which the harness puts before the plan's own steps.
type Disk struct {
	Name string // at most 20 bytes: it travels as the disk's serial number
	Size int64  // bytes; the file behind it is sparse and has no name
	// File is a host file that keeps the disk from one machine to the next. It
	// is made when it is not there. The disk is a drive with a write cache, as
	// real ones are: what the guest has flushed is in the file whatever
	// happens; of what it has not, Machine.Cut loses all, or a part by the dice
	// of Loss when that is not 0. Every other end writes all of it.
	File string
	Loss uint64
	// FS formats the disk on the host with mkfs.FS; "" leaves it empty.
	FS       string
	MkfsArgs []string
}

// End tells how a machine ended.
type End string

// The ends of a machine.
const (
	Finished End = "finished"  // the plan came to its end
	Panicked End = "panicked"  // the kernel crashed; Outcome.Crash tells more
	TimedOut End = "timed out" // it was killed at its time limit
	Died     End = "died"      // it stopped with neither an end nor a crash on the console
	Cut      End = "cut off"   // Machine.Cut took its power away
)

// Outcome is what became of a machine.
type Outcome struct {
	End      End
	Greeting *wire.Greeting // nil when the guest never spoke
	Events   []wire.Event   // without dumps and kernel log
	Log      []LogLine      // the kernel log as it was streamed
	Console  string
	Crash    *Crash            // the first crash that the console shows
	Dumps    map[string][]byte // by name
	Boot     time.Duration     // from start to the guest's first event
	Elapsed  time.Duration
	Accel    Accel
	Lost     uint64 // events that were sent and did not arrive whole
}

// DisksStep is the step that loads the drivers of the disks.
const DisksStep = "disks"

// LogLine is a record of the kernel log. Step is the last step that had begun,
// in the kernel's own order; records before the first step have none.
type LogLine struct {
	Step string
	wire.Record
}

// Step returns the Done event of a step.
func (o *Outcome) Step(id string) (wire.Event, bool) { return o.event(wire.Done, id) }

// Began reports whether a step was started.
func (o *Outcome) Began(id string) bool {
	_, ok := o.event(wire.Begin, id)
	return ok
}

func (o *Outcome) event(k wire.Kind, id string) (wire.Event, bool) {
	for _, e := range o.Events {
		if e.Kind == k && e.Step == id {
			return e, true
		}
	}
	return wire.Event{}, false
}

// Run boots the machine and waits for its end. An error means that no machine
// ran: something is missing, QEMU refused, or the context ended. What the
// guest does, crashes included, is an Outcome.
func Run(ctx context.Context, cfg Config, plan *wire.Plan) (*Outcome, error) {
	c, full, err := finish(ctx, cfg, plan)
	if err != nil {
		return nil, err
	}
	return boot(ctx, c, full)
}

// boot runs a machine to its end.
func boot(ctx context.Context, cfg *Config, plan *wire.Plan) (*Outcome, error) {
	m, err := launch(ctx, cfg, plan)
	if err != nil {
		return nil, err
	}
	return m.Wait()
}

// finish fills in what a configuration and a plan leave open.
func finish(ctx context.Context, cfg Config, plan *wire.Plan) (*Config, *wire.Plan, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, nil, err
	}
	if cfg.Accel == "" {
		if cfg.Accel, err = probe(ctx, cfg); err != nil {
			return nil, nil, err
		}
	}
	full := *plan
	if cfg.Net != nil {
		cfg.addOwnModules("virtio_pci", "virtio_net") // the verb network loads them
	}
	if len(cfg.Disks) > 0 || cfg.Output {
		names := cfg.addOwnModules("virtio_pci", "virtio_blk")
		full.Steps = append([]wire.Step{wire.NewStep(DisksStep, "modprobe", names)}, plan.Steps...)
	}
	if cfg.Output {
		full.Output = "/dev/tsugi/" + outputDisk
	}
	full.Format = wire.Format
	return &cfg, &full, full.Check()
}

func (c Config) withDefaults() (Config, error) {
	if c.Memory == 0 {
		c.Memory = 512
	}
	if c.CPUs == 0 {
		c.CPUs = 2
	}
	if c.Timeout == 0 {
		c.Timeout = 3 * time.Minute
	}
	if c.QEMU == "" {
		c.QEMU = "qemu-system-x86_64"
	}
	if _, err := os.Stat(c.Kernel); err != nil {
		return c, problem("TS6006", c.Kernel, "").With(err)
	}
	for _, d := range c.Disks {
		if d.Name == "" || len(d.Name) > 20 || d.Size <= 0 {
			return c, fmt.Errorf("disk %q of %d bytes: a name of 1 to 20 bytes and a size are needed", d.Name, d.Size)
		}
	}
	return c, nil
}

func problem(c code.Code, where, why string) *code.Problem { return code.New(c, where, why) }
