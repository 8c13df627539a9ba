// SPDX-License-Identifier: Apache-2.0

package ptrace

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// What stands in /proc of one thread. The files are small; none is read
// further than its bound.

const (
	pfExiting = 0x4 // of field 9 of stat, include/linux/sched.h
	pfKthread = 0x200000
	maxSmall  = 16 << 10

	usualSmall = 1536
)

// readSmall reads by system calls: an os.File of each would cost more than its
// few bytes.
func readSmall(path string) ([]byte, error) {
	fd, err := again(func() (int, error) { return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	buf := make([]byte, usualSmall)
	n := 0
	for {
		m, err := again(func() (int, error) { return unix.Read(fd, buf[n:]) })
		if err != nil {
			return nil, &fs.PathError{Op: "read", Path: path, Err: err}
		}
		if n += m; m == 0 || n == maxSmall {
			return buf[:n], nil
		}
		if n == len(buf) {
			buf = slices.Grow(buf, maxSmall-n)[:maxSmall]
		}
	}
}

// again repeats a system call that a signal has interrupted.
func again(f func() (int, error)) (int, error) {
	for {
		if n, err := f(); err != unix.EINTR {
			return n, err
		}
	}
}

func readWord(path string) string {
	b, _ := readSmall(path)
	return strings.TrimSpace(string(b))
}

func taskFile(pid, tid int, name string) string {
	return "/proc/" + strconv.Itoa(pid) + "/task/" + strconv.Itoa(tid) + "/" + name
}

type stat struct {
	comm   string
	state  byte
	parent int
	flags  uint64
	start  uint64
}

func readStat(pid, tid int) (stat, bool) {
	b, err := readSmall(taskFile(pid, tid, "stat"))
	if err != nil {
		return stat{}, false
	}
	return parseStat(b)
}

// parseStat reads a line of /proc/PID/stat. The name may hold anything, so the
// fields are counted from the last bracket.
func parseStat(b []byte) (stat, bool) {
	open, shut := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || shut < open {
		return stat{}, false
	}
	var f [20]string
	n := 0
	for word := range strings.FieldsSeq(string(b[shut+1:])) {
		if f[n] = word; n == len(f)-1 {
			break
		}
		n++
	}
	if n < len(f)-1 || len(f[0]) != 1 {
		return stat{}, false
	}
	s := stat{comm: string(b[open+1 : shut]), state: f[0][0]}
	var errs [3]error
	s.parent, errs[0] = strconv.Atoi(f[1])
	s.flags, errs[1] = strconv.ParseUint(f[6], 10, 64)
	s.start, errs[2] = strconv.ParseUint(f[19], 10, 64)
	return s, errs == [3]error{}
}

type status struct {
	state   byte
	tracer  int
	seccomp int
	shstk   bool
	tgid    int
}

func readStatus(pid, tid int) (status, bool) {
	b, err := readSmall(taskFile(pid, tid, "status"))
	if err != nil {
		return status{}, false
	}
	return parseStatus(b), true
}

func parseStatus(b []byte) status {
	var s status
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch key {
		case "State":
			if value != "" {
				s.state = value[0]
			}
		case "Tgid":
			s.tgid, _ = strconv.Atoi(value)
		case "TracerPid":
			s.tracer, _ = strconv.Atoi(value)
		case "Seccomp":
			s.seccomp, _ = strconv.Atoi(value)
		case "x86_Thread_features":
			s.shstk = strings.Contains(value, "shstk")
		}
	}
	return s
}

// callState is what /proc/PID/task/TID/syscall says: the system call that a
// thread is blocked in. nr is -1 where it is in none, -2 where it runs.
type callState struct {
	nr     int
	sp, pc uint64
}

func readSyscall(pid, tid int) callState {
	b, err := readSmall(taskFile(pid, tid, "syscall"))
	if err != nil {
		return callState{nr: -2}
	}
	return parseSyscall(string(b))
}

func parseSyscall(line string) callState {
	f := strings.Fields(line)
	if len(f) != 3 && len(f) != 9 {
		return callState{nr: -2}
	}
	nr, err := strconv.Atoi(f[0])
	sp, err1 := strconv.ParseUint(f[len(f)-2], 0, 64)
	pc, err2 := strconv.ParseUint(f[len(f)-1], 0, 64)
	if err != nil || err1 != nil || err2 != nil {
		return callState{nr: -2}
	}
	return callState{nr: nr, sp: sp, pc: pc}
}

func readWchan(pid, tid int) string {
	w := readWord(taskFile(pid, tid, "wchan"))
	if w == "0" {
		return ""
	}
	return w
}

// maxThreads is above what the kernel can have: threads-max of large machines.
const maxThreads = 1 << 20

// threads lists the threads of a process, in the order of the directory.
func threads(pid int, into []int) ([]int, error) {
	d, err := os.Open(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return into, err
	}
	defer d.Close()
	for len(into) < maxThreads {
		names, err := d.Readdirnames(4096)
		for _, name := range names {
			if tid, err := strconv.Atoi(name); err == nil {
				into = append(into, tid)
			}
		}
		if err == io.EOF || err == nil && len(names) == 0 {
			break
		}
		if err != nil {
			return into, err
		}
	}
	return into, nil
}
