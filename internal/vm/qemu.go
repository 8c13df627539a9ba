// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
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
// needs.
const baseCmdline = "console=ttyS0,115200 loglevel=5 panic=-1 oops=panic " +
	"rcupdate.rcu_cpu_stall_timeout=120 watchdog_thresh=60 printk.devkmsg=on " + wire.CmdlineMark

// machine is one QEMU process and the files that it was given.
type machine struct {
	cfg   *Config
	args  []string
	extra []*os.File // becomes descriptor 3 and up in QEMU
	close []io.Closer
}

func (m *machine) Close() {
	for _, c := range m.close {
		_ = c.Close()
	}
}

// fd hands a file to QEMU and returns its number there.
func (m *machine) fd(f *os.File) int {
	m.extra = append(m.extra, f)
	m.close = append(m.close, f)
	return 2 + len(m.extra)
}

// fdset hands the writing end of a pipe to QEMU as a path that it can open.
func (m *machine) fdset(f *os.File) string {
	n := m.fd(f)
	m.args = append(m.args, "-add-fd", fmt.Sprintf("fd=%d,set=%d", n, n))
	return fmt.Sprintf("/dev/fdset/%d", n)
}

// port adds a serial port and returns the end that reads it. The file
// character device writes to a pipe as well as to a file.
func (m *machine) port(name string) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	m.close = append(m.close, r)
	p := m.fdset(w)
	m.args = append(m.args, "-chardev", "file,append=on,id="+name+",path="+p, "-serial", "chardev:"+name)
	return r, nil
}

// disk adds a virtio disk backed by a sparse file without a name.
func (m *machine) disk(ctx context.Context, d Disk) (*os.File, error) {
	f, err := anonymous(d.Size)
	if err != nil {
		return nil, fmt.Errorf("disk %s: %w", d.Name, err)
	}
	p := fmt.Sprintf("/dev/fd/%d", m.fd(f))
	if d.FS != "" {
		if err := mkfs(ctx, f, d); err != nil {
			return nil, err
		}
	}
	m.args = append(m.args,
		"-drive", "if=none,format=raw,cache=unsafe,werror=report,rerror=report,id="+d.Name+",file="+p,
		"-device", "virtio-blk-pci,drive="+d.Name+",serial="+d.Name)
	return f, nil
}

func anonymous(size int64) (*os.File, error) {
	f, err := os.CreateTemp("", "tsugi-disk-*")
	if err != nil {
		return nil, err
	}
	err = errors.Join(os.Remove(f.Name()), f.Truncate(size))
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func mkfs(ctx context.Context, f *os.File, d Disk) error {
	tool, err := exec.LookPath("mkfs." + d.FS)
	if err != nil {
		tool = "/sbin/mkfs." + d.FS
	}
	args := append(append([]string{}, d.MkfsArgs...), "/dev/fd/3")
	if strings.HasPrefix(d.FS, "ext") {
		args = append([]string{"-q", "-F"}, args...)
	}
	cmd := exec.CommandContext(ctx, tool, args...)
	cmd.ExtraFiles = []*os.File{f}
	if out, err := cmd.CombinedOutput(); err != nil {
		return problem("TS6003", "mkfs."+d.FS, strings.TrimSpace(string(out))).With(err)
	}
	return nil
}

// boot builds the machine, runs it and collects what it says.
func boot(ctx context.Context, cfg *Config, plan *wire.Plan) (*Outcome, error) {
	bin, err := exec.LookPath(cfg.QEMU)
	if err != nil {
		return nil, problem("TS6001", cfg.QEMU, "").With(err)
	}
	m := &machine{cfg: cfg}
	defer m.Close()
	img, err := buildImage(ctx, cfg, plan)
	if err != nil {
		return nil, err
	}
	initrd, err := memoryFile("tsugi-initrd")
	if err != nil {
		return nil, err
	}
	initrdFD := m.fd(initrd)
	if err := img.save(initrd); err != nil {
		return nil, fmt.Errorf("initramfs: %w", err)
	}
	accel, cpu := cfg.Accel.args()
	m.args = append(m.args,
		"-no-user-config", "-nodefaults", "-display", "none", "-no-reboot",
		"-machine", "pc", "-accel", accel, "-cpu", cpu,
		"-m", fmt.Sprint(cfg.Memory), "-smp", fmt.Sprint(cfg.CPUs),
		"-kernel", cfg.Kernel, "-initrd", fmt.Sprintf("/dev/fd/%d", initrdFD),
		"-append", strings.TrimSpace(baseCmdline+" "+cfg.Cmdline))
	console, err := m.port("console")
	if err != nil {
		return nil, err
	}
	events, err := m.port("events")
	if err != nil {
		return nil, err
	}
	for _, d := range cfg.Disks {
		if _, err := m.disk(ctx, d); err != nil {
			return nil, err
		}
	}
	var output *os.File
	if cfg.Output {
		if output, err = m.disk(ctx, Disk{Name: outputDisk, Size: outputSize}); err != nil {
			return nil, err
		}
	}
	return m.run(ctx, bin, console, events, output)
}

// memoryFile is a file that exists only as long as it is open.
func memoryFile(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (m *machine) run(ctx context.Context, bin string, console, events, output *os.File) (*Outcome, error) {
	limit, cancel := context.WithTimeout(ctx, m.cfg.Timeout)
	defer cancel()
	start := time.Now()
	p, err := startProcess(limit, bin, m.args, m.extra)
	if err != nil {
		return nil, problem("TS6001", bin, "").With(err)
	}
	for _, f := range m.extra {
		if f != output {
			f.Close() // so that the pipes end with QEMU
		}
	}

	c := &collector{cfg: m.cfg, start: start, out: &Outcome{Accel: m.cfg.Accel, Dumps: map[string][]byte{}}}
	c.bye = func() { time.AfterFunc(byeGrace, cancel) }
	var readers sync.WaitGroup
	readers.Go(func() { c.readConsole(console) })
	readers.Go(func() { c.readEvents(events) })
	stderr, exit := p.wait()
	readers.Wait()
	out := c.out
	out.Elapsed = time.Since(start)
	out.Crash = FindCrash(out.Console)

	switch {
	case c.ended:
		out.End = Finished
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case out.Crash != nil && out.Crash.Fatal:
		out.End = Panicked
	case limit.Err() != nil:
		out.End = TimedOut
	case out.Greeting == nil && len(out.Console) == 0:
		return nil, problem("TS6007", bin, strings.TrimSpace(lastLines(stderr, 3))).With(exit)
	default:
		out.End = Died
	}
	if output != nil {
		if err := readTar(output, out.Dumps); err != nil {
			return out, fmt.Errorf("output disk: %w", err)
		}
	}
	return out, nil
}
