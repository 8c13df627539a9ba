// SPDX-License-Identifier: Apache-2.0

// Reproduce61 shows bugs of Linux 6.1.190 that 6.1.192 fixes, in a virtual
// machine, as root, with the modules loop and dm-mod loaded. It prints one line
// per bug and exits 1 when one shows. Arguments name the bugs to look for: all
// without any.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// nobody is a user without any rights.
const nobody = 65534

func main() {
	if len(os.Args) == 2 && os.Args[1] == "in-namespace" {
		inNamespace()
		return
	}
	status := 0
	for _, b := range []struct {
		name  string
		shows func() (bool, error)
	}{
		{"CVE-2025-38709", loop}, {"CVE-2026-72379", tmpfile}, {"CVE-2026-97597", flowlabel},
		{"CVE-2026-98992", namespace}, {"CVE-2026-99063", mapper},
	} {
		if len(os.Args) > 1 && !slices.Contains(os.Args[1:], b.name) {
			continue
		}
		type answer struct {
			bug bool
			err error
		}
		done := make(chan answer)
		go func() {
			runtime.LockOSThread() // its credentials may be gone: it ends with this
			bug, err := b.shows()
			done <- answer{bug, err}
		}()
		switch a := <-done; {
		case a.err != nil:
			fmt.Printf("%s: %v\n", b.name, a.err)
			status = 2
		case a.bug:
			fmt.Printf("%s: the bug shows\n", b.name)
			status = max(status, 1)
		default:
			fmt.Printf("%s: fixed\n", b.name)
		}
	}
	os.Exit(status)
}

// expect tells a call that succeeds, the bug, from one that is refused as the
// fix does.
func expect(refusal, e unix.Errno) (bool, error) {
	switch e {
	case 0:
		return true, nil
	case refusal:
		return false, nil
	}
	return false, e
}

// loop changes the block size of a device that somebody else has opened for
// himself alone, as a mounted file system has.
func loop() (bool, error) {
	file, err := os.CreateTemp("", "loop")
	if err != nil {
		return false, err
	}
	defer file.Close()
	if err := file.Truncate(1 << 20); err != nil {
		return false, err
	}
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	defer control.Close()
	n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return false, err
	}
	path := fmt.Sprintf("/dev/loop%d", n)
	other, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	defer other.Close()
	if err := unix.IoctlSetInt(int(other.Fd()), unix.LOOP_SET_FD, int(file.Fd())); err != nil {
		return false, err
	}
	defer func() { _ = unix.IoctlSetInt(int(other.Fd()), unix.LOOP_CLR_FD, 0) }()
	owner, err := os.OpenFile(path, os.O_RDWR|unix.O_EXCL, 0)
	if err != nil {
		return false, err
	}
	defer owner.Close()
	_, _, e := unix.Syscall(unix.SYS_IOCTL, other.Fd(), unix.LOOP_SET_BLOCK_SIZE, 4096)
	return expect(unix.EBUSY, e)
}

// tmpfile makes a nameless file in a file system that knows nothing of the
// user who makes it: one of a user namespace with no user but root.
func tmpfile() (bool, error) {
	cmd := exec.Command("/proc/self/exe", "in-namespace")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}},
	}
	hold, err := cmd.StdinPipe()
	if err != nil {
		return false, err
	}
	ready, err := cmd.StdoutPipe()
	if err != nil {
		return false, err
	}
	if err := cmd.Start(); err != nil {
		return false, err
	}
	defer func() { _ = cmd.Wait() }()
	defer hold.Close()
	if n, err := ready.Read(make([]byte, 64)); n != 3 {
		return false, fmt.Errorf("no file system in the namespace: %w", err)
	}
	dir, err := unix.Open(fmt.Sprintf("/proc/%d/root/tmp", cmd.Process.Pid), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(dir)
	for _, call := range []uintptr{unix.SYS_SETFSGID, unix.SYS_SETFSUID} {
		unix.RawSyscall(call, nobody, 0, 0)
	}
	fd, err := unix.Openat(dir, ".", unix.O_TMPFILE|unix.O_RDWR, 0o600)
	if err == nil {
		unix.Close(fd)
		return true, nil
	}
	e, _ := err.(unix.Errno)
	return expect(unix.EOVERFLOW, e)
}

// inNamespace mounts a file system that belongs to its namespace and keeps it
// until its input ends.
func inNamespace() {
	if err := unix.Mount("none", "/tmp", "tmpfs", 0, "mode=1777"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("ok")
	_, _ = os.Stdin.Read(make([]byte, 1))
}

// flowlabel takes leases of one flow label on one socket, more than the 32
// that a user may have.
func flowlabel() (bool, error) {
	for _, call := range []uintptr{unix.SYS_SETRESGID, unix.SYS_SETRESUID} {
		if _, _, e := unix.RawSyscall(call, nobody, nobody, nobody); e != 0 {
			return false, e
		}
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	// struct in6_flowlabel_req of include/uapi/linux/in6.h
	req := struct {
		dst             [16]byte
		label           [4]byte
		action, share   uint8
		flags           uint16
		expires, linger uint16
		pad             uint32
	}{dst: [16]byte{15: 1}, label: [4]byte{0, 1, 0x23, 0x45}, share: 255, flags: 1} // get, create, shared with any
	const flowlabelMgr = 32
	for range 40 {
		_, _, e := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.IPPROTO_IPV6, flowlabelMgr, uintptr(unsafe.Pointer(&req)), unsafe.Sizeof(req), 0)
		if e != 0 {
			return expect(unix.ENOBUFS, e)
		}
	}
	return true, nil
}

// namespace copies a tree of mounts that is no longer mounted.
func namespace() (bool, error) {
	file, err := os.CreateTemp("", "ns")
	if err != nil {
		return false, err
	}
	defer file.Close()
	if err := unix.Mount("/proc/self/ns/net", file.Name(), "", unix.MS_BIND, ""); err != nil {
		return false, err
	}
	fd, err := unix.Open(file.Name(), unix.O_PATH, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	if err := unix.Unmount(file.Name(), unix.MNT_DETACH); err != nil {
		return false, err
	}
	tree, err := unix.OpenTree(fd, "", unix.OPEN_TREE_CLONE|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)
	if err == nil {
		unix.Close(tree)
		return true, nil
	}
	e, _ := err.(unix.Errno)
	return expect(unix.EINVAL, e)
}

// mapper asks for a list with no room for one, and is told that the list begins
// behind the end of what it gave.
func mapper() (bool, error) {
	control, err := os.OpenFile("/dev/mapper/control", os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	defer control.Close()
	// struct dm_ioctl of include/uapi/linux/dm-ioctl.h
	var p struct {
		version         [3]uint32
		size, dataStart uint32
		rest            [292]byte
	}
	const (
		listDevices = 3<<30 | unsafe.Sizeof(p)<<16 | 0xfd<<8 | 2
		offsetData  = 305
	)
	p.version, p.size = [3]uint32{4, 0, 0}, offsetData
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, control.Fd(), listDevices, uintptr(unsafe.Pointer(&p))); e != 0 {
		return false, e
	}
	return p.dataStart > offsetData, nil
}
