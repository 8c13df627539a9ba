// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// procmapQuery is struct procmap_query of include/uapi/linux/fs.h, since Linux
// 6.11: what the kernel knows of one mapping, with the build-id of its file.
type procmapQuery struct {
	size        uint64
	flags       uint64
	addr        uint64
	start       uint64
	end         uint64
	vmaFlags    uint64
	pageSize    uint64
	offset      uint64
	inode       uint64
	major       uint32
	minor       uint32
	nameSize    uint32
	buildIDSize uint32
	nameAddr    uint64
	buildIDAddr uint64
}

const (
	procmapQueryCall = 3<<30 | uintptr(unsafe.Sizeof(procmapQuery{}))<<16 | 'f'<<8 | 17 // _IOWR('f', 17, …)

	vmaReadable   = 1 << 0
	vmaWritable   = 1 << 1
	vmaExecutable = 1 << 2
	vmaShared     = 1 << 3
	orNext        = 1 << 4
	fileBacked    = 1 << 5
)

// errNoQuery: this kernel does not answer such questions.
var errNoQuery = errors.New("PROCMAP_QUERY is not known to this kernel")

// executables calls f for each executable mapping of a file, with the build-id
// that the kernel finds in the file, or "". The kernel reads the file for that,
// which may take for ever. Path is left out.
func executables(maps *os.File, f func(Mapping, string) bool) error {
	conn, err := maps.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = conn.Control(func(fd uintptr) { inner = queryAll(fd, f) })
	return errors.Join(err, inner)
}

func queryAll(fd uintptr, f func(Mapping, string) bool) error {
	q := new(procmapQuery)
	id := new([20]byte) // BUILD_ID_SIZE_MAX
	var pin runtime.Pinner
	pin.Pin(id)
	defer pin.Unpin()
	addr := uint64(0)
	for range MaxMappings {
		*q = procmapQuery{
			size: uint64(unsafe.Sizeof(*q)), flags: orNext | fileBacked | vmaExecutable, addr: addr,
			buildIDSize: uint32(len(id)), buildIDAddr: uint64(uintptr(unsafe.Pointer(id))),
		}
		_, _, e := unix.Syscall(unix.SYS_IOCTL, fd, procmapQueryCall, uintptr(unsafe.Pointer(q)))
		switch e {
		case 0:
		case unix.EINTR:
			continue
		case unix.ENOENT: // no more of them
			return nil
		case unix.ENOTTY, unix.EINVAL:
			return errNoQuery
		default:
			return e
		}
		if q.end <= q.start || q.end <= addr {
			return errMaps
		}
		m := Mapping{
			Start: q.start, End: q.end, Offset: q.offset, Inode: q.inode, Dev: uint64(q.major)<<32 | uint64(q.minor),
			Read: q.vmaFlags&vmaReadable != 0, Write: q.vmaFlags&vmaWritable != 0,
			Exec: q.vmaFlags&vmaExecutable != 0, Shared: q.vmaFlags&vmaShared != 0,
		}
		text := ""
		if n := q.buildIDSize; n > 0 && int(n) <= len(id) {
			text = hex.EncodeToString(bytes.Clone(id[:n]))
		}
		if !f(m, text) {
			return nil
		}
		addr = q.end
	}
	return nil
}
