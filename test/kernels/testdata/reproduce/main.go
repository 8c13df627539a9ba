// SPDX-License-Identifier: Apache-2.0

// Reproduce shows bugs of Linux 6.12.115 that 6.12.117 fixes, in a virtual
// machine, as root. It prints one line per bug and exits 1 when one shows.
package main

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

func main() {
	status := 0
	for _, b := range []struct {
		name  string
		shows func() (bool, error)
	}{{"listmount", listmount}, {"tun", tun}} {
		bug, err := b.shows()
		switch {
		case err != nil:
			fmt.Printf("%s: %v\n", b.name, err)
			status = 2
		case bug:
			fmt.Printf("%s: the bug shows\n", b.name)
			status = max(status, 1)
		default:
			fmt.Printf("%s: fixed\n", b.name)
		}
	}
	os.Exit(status)
}

// listmount asks for the mounts behind the largest id: there are none, but the
// kernel's sum of it and one starts again at the first.
func listmount() (bool, error) {
	const (
		sysListmount = 458
		root         = ^uint64(0) // LSMT_ROOT
	)
	// struct mnt_id_req of include/uapi/linux/mount.h, its version 1
	req := struct {
		size, spare      uint32
		mntID, param, ns uint64
	}{32, 0, root, ^uint64(0), 0}
	ids := make([]uint64, 64)
	n, _, e := unix.Syscall6(sysListmount, uintptr(unsafe.Pointer(&req)), uintptr(unsafe.Pointer(&ids[0])), uintptr(len(ids)), 0, 0, 0)
	if e != 0 {
		return false, fmt.Errorf("listmount: %w", e)
	}
	return n > 0, nil
}

// tun attaches to a device of nobody's without being allowed to configure
// networks.
func tun() (bool, error) {
	const device, name = "/dev/net/tun", "tsugi0"
	if err := os.Chmod(device, 0o666); err != nil {
		return false, err
	}
	attach := func() (int, error) {
		fd, err := unix.Open(device, unix.O_RDWR, 0)
		if err != nil {
			return -1, err
		}
		r, err := unix.NewIfreq(name)
		if err != nil {
			return -1, err
		}
		r.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		return fd, unix.IoctlIfreq(fd, unix.TUNSETIFF, r)
	}
	fd, err := attach()
	if err != nil {
		return false, fmt.Errorf("attach as root: %w", err)
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1); err != nil {
		return false, fmt.Errorf("make it persistent: %w", err)
	}
	if err := unix.Close(fd); err != nil {
		return false, err
	}
	if err := unix.Setuid(65534); err != nil {
		return false, err
	}
	switch _, err = attach(); {
	case err == nil:
		return true, nil
	case errors.Is(err, unix.EPERM):
		return false, nil
	}
	return false, fmt.Errorf("attach as nobody: %w", err)
}
