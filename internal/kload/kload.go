// SPDX-License-Identifier: Apache-2.0

// Package kload loads a live patch into the running kernel, watches its
// transition, takes it out again, and listens to what the kernel says
// meanwhile. It is used by the agent on a machine and by proofs in a virtual
// one.
//
// In go the bytes of a module and its name; out come values that tell how the
// transition went and which tasks held it up, and problems that say what the
// kernel's error numbers mean. The files are those of
// Documentation/ABI/testing/sysfs-kernel-livepatch, dev-kmsg and
// Documentation/filesystems/proc.rst (patch_state, stack).
//
// Nothing here forces anything. A transition that does not end is told, with
// the tasks that hold it, and it is the caller's to turn it round: the kernel
// itself wakes sleeping tasks up (fake signals each 15 seconds), and the force
// file, which gives up the consistency that live patching promises, is never
// written.
package kload

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/hostinfo"
)

// Options make a Loader.
type Options struct {
	// Root is the directory below which proc, sys and dev are; "" is "/". The
	// system calls that load and unload modules always mean this machine.
	Root string
	// System replaces those system calls; nil are the real ones.
	System System
}

// System are the system calls of modules.
type System interface {
	// Insert loads a module, as finit_module(2) does.
	Insert(module []byte, name string) error
	// Remove unloads one without waiting for its users, as delete_module(2)
	// does with O_NONBLOCK.
	Remove(name string) error
}

// Loader handles the live patches of one kernel. It has no state of its own
// and is safe for concurrent use.
type Loader struct {
	root string
	sys  System
}

// New makes a Loader.
func New(o Options) *Loader {
	l := &Loader{root: cmp.Or(o.Root, "/"), sys: o.System}
	if l.sys == nil {
		l.sys = kernelSystem{}
	}
	return l
}

// ModuleName is the kernel's name for the module of a live patch: it turns
// dashes into underscores.
func ModuleName(patch string) string { return strings.ReplaceAll(patch, "-", "_") }

// Load gives a module to the kernel. When it returns nil the kernel has linked
// it and its transition has begun, or is over already: see Watch. An error is
// a problem that wraps the error number and holds what the kernel said.
func (l *Loader) Load(ctx context.Context, module []byte, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	log, logErr := l.Klog()
	if logErr == nil {
		defer log.Close()
	}
	err := l.sys.Insert(module, ModuleName(name))
	if err == nil {
		return nil
	}
	said := ""
	if logErr == nil {
		said = log.about(ModuleName(name))
	}
	return l.refused(name, err, said)
}

// Loaded lists the live patches of the kernel, also those on their way out.
func (l *Loader) Loaded() ([]hostinfo.Livepatch, error) {
	p, supported, err := hostinfo.Livepatches(l.root)
	switch {
	case err != nil:
		return p, err
	case !supported:
		return nil, code.New("TS9202", "", "there is no /sys/kernel/livepatch")
	}
	return p, nil
}

// Get returns one live patch; ok is false when it is not loaded.
func (l *Loader) Get(name string) (p hostinfo.Livepatch, ok bool, err error) {
	all, err := l.Loaded()
	for _, p := range all {
		if p.Name == ModuleName(name) {
			return p, true, nil
		}
	}
	return hostinfo.Livepatch{}, false, err
}

// dir is where the kernel shows a live patch.
func (l *Loader) dir(name string) string {
	return filepath.Join(l.root, "sys/kernel/livepatch", ModuleName(name))
}

// value reads a short file; "" when it is not there.
func value(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(b))
}

// set writes to a file of sysfs, in one write and without creating it.
func set(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

func gone(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// sleep returns false when the context ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// kernelSystem is this machine.
type kernelSystem struct{}

// Insert prefers finit_module, which has security modules see a file, and
// uses init_module where no file in memory can be made.
func (kernelSystem) Insert(module []byte, name string) error {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // MFD_NOEXEC_SEAL is of 6.3
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	}
	if err != nil {
		return unix.InitModule(module, "")
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if _, err := f.Write(module); err != nil {
		return fmt.Errorf("module in memory: %w", err)
	}
	return unix.FinitModule(fd, "", 0)
}

func (kernelSystem) Remove(name string) error { return unix.DeleteModule(name, unix.O_NONBLOCK) }
