// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// stat is what is used of /proc/PID/stat (man 5 proc_pid_stat).
type stat struct {
	comm   string
	state  byte
	parent int
	flags  uint64
	start  uint64 // clock ticks since boot
	tasks  int    // threads of its process that are not collected yet
	cpu    int    // that it ran on last, -1 where that isn't told
	image  image
}

// image tells one program's run of a process from the next: execve places code
// and stack anew, at random. Where the arguments are does not count: programs
// that give themselves a title move them. The code is 0 before the kernel
// knows, in an execve and at the end, and 1 for whom may not look.
type image struct {
	code, stack uint64
}

// sum is a number for an image, 0 for none.
func (i image) sum() uint64 {
	if i == (image{}) {
		return 0
	}
	h := fnv.New64a()
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], i.code)
	binary.LittleEndian.PutUint64(b[8:], i.stack)
	h.Write(b[:])
	return h.Sum64()
}

// kernelThread is PF_KTHREAD of include/linux/sched.h.
const kernelThread = 0x00200000

func (s stat) kernel() bool { return s.flags&kernelThread != 0 }

// dead: the thread has ended, though its number may still be there.
func (s stat) dead() bool { return s.state == 'Z' || s.state == 'X' || s.state == 'x' }

// over: it has no memory any more, and may yet wait for something to be closed.
func (s stat) over() bool { return s.dead() || s.flags&exiting != 0 && s.image.code == 0 }

var errStat = errors.New("unexpected form of /proc/PID/stat")

func parseStat(text []byte) (stat, error) {
	// The name in parentheses may hold anything, also parentheses and newlines.
	open, shut := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 0 || shut < open {
		return stat{}, errStat
	}
	fields := strings.Fields(string(text[shut+1:]))
	const first = 3 // fields[0] is the third field of the manual page
	if len(fields) < 28-first+1 || len(fields[0]) != 1 {
		return stat{}, errStat
	}
	bad := false
	num := func(field int) uint64 {
		n, err := strconv.ParseUint(fields[field-first], 10, 64)
		bad = bad || err != nil
		return n
	}
	s := stat{comm: string(text[open+1 : shut]), state: fields[0][0]}
	s.parent = int(num(4))
	s.flags = num(9)
	s.tasks = int(num(20))
	s.start = num(22)
	s.image = image{code: num(26), stack: num(28)}
	s.cpu = -1
	if len(fields) > 39-first {
		s.cpu = int(num(39))
	}
	if bad {
		return stat{}, errStat
	}
	return s, nil
}

// statOf reads /proc/PID/stat. It takes no lock that a process could hold.
func statOf(pid int) (stat, error) {
	return statAt(unix.AT_FDCWD, "/proc/"+strconv.Itoa(pid)+"/stat")
}

func statAt(dir int, path string) (stat, error) {
	text, err := readSmall(dir, path, make([]byte, 2048))
	if err != nil {
		return stat{}, err
	}
	return parseStat(text)
}

// readSmall reads a file of /proc that is no longer than buf.
func readSmall(dir int, path string, buf []byte) ([]byte, error) {
	fd, err := retry(func() (int, error) { return unix.Openat(dir, path, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	n := 0
	for n < len(buf) {
		m, err := retry(func() (int, error) { return unix.Read(fd, buf[n:]) })
		if err != nil {
			return nil, err
		}
		if m == 0 {
			break
		}
		n += m
	}
	return buf[:n], nil
}

// retry repeats a system call that a signal has interrupted.
func retry(f func() (int, error)) (int, error) {
	for {
		if n, err := f(); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
