// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// What stands in /proc of one thread, by its number alone: for a tracer, whose
// threads keep their numbers and who has no time to lose. None of it waits for
// the process or its memory. The files are small; none is read further than its
// bound.

// Stat is what is used of /proc/PID/task/TID/stat.
type Stat struct {
	Name    string // comm
	State   State
	Parent  int
	Kernel  bool
	Exiting bool
	// Killed tells that a signal ends it, its process with it: it may be writing a
	// core dump, which a stop would cut short.
	Killed bool
	Start  uint64 // of the thread, clock ticks since boot
	CPU    int    // the processor that it ran on last, -1 where that isn't known
}

// Ended tells that the thread has ended, though its number may still be there.
func (s State) Ended() bool { return s == Zombie || s == Dead || s == 'x' }

// PF_EXITING and PF_SIGNALED of include/linux/sched.h.
const (
	exiting  = 0x4
	signaled = 0x400
)

// TaskStat reads a thread's stat; false when there is no such thread.
func TaskStat(pid, tid int) (Stat, bool) {
	s, err := taskStat(pid, tid)
	return Stat{
		Name: s.comm, State: State(s.state), Parent: s.parent, Start: s.start, CPU: s.cpu,
		Kernel: s.kernel(), Exiting: s.flags&exiting != 0, Killed: s.flags&signaled != 0,
	}, err == nil
}

func taskStat(pid, tid int) (stat, error) {
	text, err := readNow(taskFile(pid, tid, "stat"), make([]byte, 2<<10))
	if err != nil {
		return stat{}, err
	}
	return parseStat(text)
}

// Living finds a thread of a process that has not ended, the first where it can
// be: one that has ended has no memory any more, though others may have it still.
// It is 0 where there is none.
func Living(pid int) int {
	tid, _, _ := living(pid)
	return tid
}

func living(pid int) (int, stat, bool) {
	if s, err := taskStat(pid, pid); err != nil {
		return 0, stat{}, false
	} else if !s.over() {
		return pid, s, true
	}
	list, _ := Tasks(pid, nil)
	for _, tid := range list {
		if s, err := taskStat(pid, tid); err == nil && !s.over() {
			return tid, s, true
		}
	}
	return 0, stat{}, false
}

// ioWorker is PF_IO_WORKER of include/linux/sched.h since Linux 5.12; before,
// the bit was another's, and workers were in no process's list.
const (
	ioWorker = 0x10
	ioName   = "iou-" // what the kernel calls them: iou-wrk-PID, iou-sqp-PID
)

var ioWorkers = sync.OnceValue(func() bool {
	var u unix.Utsname
	return unix.Uname(&u) == nil && marksWorkers(unix.ByteSliceToString(u.Release[:]))
})

// marksWorkers tells whether a kernel of this release has the bit.
func marksWorkers(release string) bool {
	var major, minor int
	n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor)
	return n == 2 && (major > 5 || major == 5 && minor >= 12)
}

// TaskWorker tells that a thread is a worker of io_uring, which the kernel has
// added to the process: it never runs the program's code. The name alone could
// be of the program's choice.
func TaskWorker(pid, tid int) bool {
	if pid == tid || !ioWorkers() || !strings.HasPrefix(TaskFile(pid, tid, "comm"), ioName) {
		return false
	}
	s, err := taskStat(pid, tid)
	return err == nil && s.flags&ioWorker != 0 && strings.HasPrefix(s.comm, ioName)
}

// TaskStatus reads a thread's status; false when there is no such thread.
func TaskStatus(pid, tid int) (Status, bool) {
	text, err := readNow(taskFile(pid, tid, "status"), make([]byte, 4<<10))
	if err != nil {
		return Status{}, false
	}
	s, err := parseStatus(text)
	return s, err == nil
}

// maxTaskFile is above what a thread with all children that there can be has.
const maxTaskFile = 1 << 20

// TaskFile reads a small file of a thread, "" when it can't be.
func TaskFile(pid, tid int, name string) string {
	for size := 2 << 10; ; size *= 8 {
		text, err := readSmall(unix.AT_FDCWD, taskFile(pid, tid, name), make([]byte, size))
		if err != nil {
			return ""
		}
		if len(text) < size || size >= maxTaskFile {
			return string(bytes.TrimSpace(text))
		}
	}
}

// Call is the system call that a thread is blocked in, by
// /proc/PID/task/TID/syscall. Number is -1 where it is in none, -2 where it runs
// or nothing is known.
type Call struct {
	Number int
	SP, PC uint64
}

// TaskCall reads what system call a thread is in.
func TaskCall(pid, tid int) Call { return parseCall(TaskFile(pid, tid, "syscall")) }

func parseCall(line string) Call {
	f := strings.Fields(line)
	if len(f) != 3 && len(f) != 9 {
		return Call{Number: -2}
	}
	nr, err := strconv.Atoi(f[0])
	sp, err1 := strconv.ParseUint(f[len(f)-2], 0, 64)
	pc, err2 := strconv.ParseUint(f[len(f)-1], 0, 64)
	if err != nil || err1 != nil || err2 != nil {
		return Call{Number: -2}
	}
	return Call{nr, sp, pc}
}

// ParseMappings reads the text of /proc/PID/maps.
func ParseMappings(r io.Reader) ([]Mapping, error) { return parseMaps(r) }

func taskFile(pid, tid int, name string) string {
	return "/proc/" + strconv.Itoa(pid) + "/task/" + strconv.Itoa(tid) + "/" + name
}
