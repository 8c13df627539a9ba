// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/vm/wire"
)

const (
	outputDisk = "tsugi-output"
	outputSize = 1 << 30

	maxConsole = 8 << 20
	maxEvents  = 64 << 20 // bytes of event data that are kept
	maxDump    = 256 << 20
	// byeGrace is how long QEMU may take to exit after the guest's last word.
	byeGrace = 20 * time.Second
)

// baseCmdline makes a crash end the machine at once, keeps warnings on the
// console, and gives watchdogs the patience that emulation on a busy host
// needs. The timer's check at boot counts ticks within a fixed time, which an
// emulated machine on such a host may miss, and the kernel panics.
const baseCmdline = "console=ttyS0,115200 loglevel=5 panic=-1 oops=panic no_timer_check " +
	"rcupdate.rcu_cpu_stall_timeout=120 watchdog_thresh=60 printk.devkmsg=on " + wire.CmdlineMark

// setup is a QEMU command that is being put together, with the files that it
// is given.
type setup struct {
	cfg   *Config
	bin   string
	args  []string
	extra []*os.File // becomes descriptor 3 and up in QEMU
	close []io.Closer

	console, events *os.File // the ends that are read
	control         *os.File // where steps are written; nil without Plan.Serve
	output          *os.File
	kept            []*keptDisk
}

func (s *setup) Close() {
	for _, c := range s.close {
		_ = c.Close()
	}
}

// fd hands a file to QEMU and returns its number there.
func (s *setup) fd(f *os.File) int {
	s.extra = append(s.extra, f)
	s.close = append(s.close, f)
	return 2 + len(s.extra)
}

// fdset hands the writing end of a pipe to QEMU as a path that it can open.
func (s *setup) fdset(f *os.File) string {
	n := s.fd(f)
	s.args = append(s.args, "-add-fd", fmt.Sprintf("fd=%d,set=%d", n, n))
	return fmt.Sprintf("/dev/fdset/%d", n)
}

// port adds a serial port and returns the end that reads it. The file
// character device writes to a pipe as well as to a file.
func (s *setup) port(name string) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	s.close = append(s.close, r)
	p := s.fdset(w)
	s.args = append(s.args, "-chardev", "file,append=on,id="+name+",path="+p, "-serial", "chardev:"+name)
	return r, nil
}

// talk adds a serial port in both directions.
func (s *setup) talk(name string) (*os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name)
	s.close = append(s.close, ours)
	s.args = append(s.args,
		"-chardev", fmt.Sprintf("socket,id=%s,fd=%d", name, s.fd(theirs)), "-serial", "chardev:"+name)
	return ours, nil
}

// prepare builds everything that a machine needs and starts nothing.
func prepare(ctx context.Context, cfg *Config, plan *wire.Plan) (_ *setup, err error) {
	s := &setup{cfg: cfg}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.bin, err = exec.LookPath(cfg.QEMU); err != nil {
		return nil, problem("TS6001", cfg.QEMU, "").With(err)
	}
	img, err := buildImage(ctx, cfg, plan)
	if err != nil {
		return nil, err
	}
	initrd, err := memoryFile("tsugi-initrd")
	if err != nil {
		return nil, err
	}
	initrdFD := s.fd(initrd)
	if err := img.save(initrd); err != nil {
		return nil, fmt.Errorf("initramfs: %w", err)
	}
	accel, cpu := cfg.Accel.args()
	s.args = append(s.args,
		"-no-user-config", "-nodefaults", "-display", "none", "-no-reboot",
		"-machine", "pc", "-accel", accel, "-cpu", cpu,
		"-m", fmt.Sprint(cfg.Memory), "-smp", fmt.Sprint(cfg.CPUs),
		"-kernel", cfg.Kernel, "-initrd", fmt.Sprintf("/dev/fd/%d", initrdFD),
		"-append", strings.TrimSpace(baseCmdline+" "+cfg.Cmdline))
	if !cfg.Clock.IsZero() {
		s.args = append(s.args, "-rtc", "base="+cfg.Clock.UTC().Format("2006-01-02T15:04:05"))
	}
	if s.console, err = s.port("console"); err != nil {
		return nil, err
	}
	if plan.Serve {
		s.events, err = s.talk("events")
		s.control = s.events
	} else {
		s.events, err = s.port("events")
	}
	if err != nil {
		return nil, err
	}
	net, err := netArgs(cfg.Net, cfg.Busybox)
	if err != nil {
		return nil, err
	}
	s.args = append(s.args, net...)
	for _, d := range cfg.Disks {
		if d.File != "" {
			err = s.keep(ctx, d)
		} else {
			_, err = s.disk(ctx, d)
		}
		if err != nil {
			return nil, err
		}
	}
	if cfg.Output {
		s.output, err = s.disk(ctx, Disk{Name: outputDisk, Size: outputSize})
	}
	return s, err
}

// memoryFile is a file that exists only as long as it is open.
func memoryFile(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}
