// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Status is what the kernel tells of a process in /proc/PID/status: of its
// first thread that has not ended, where it differs by thread.
type Status struct {
	Name       string // comm, of the process's own choice
	State      State
	PPID       int
	Threads    int // those that are not collected yet
	TracerPID  int // the thread that traces it, by its own number; 0 for none
	UID        [4]uint32
	NSPID      []int // its number in each pid namespace, outermost first; one where it is in ours
	Seccomp    SeccompMode
	Filters    int // seccomp filters; -1 where the kernel does not say
	NoNewPrivs bool
	CapEff     uint64
	// ShadowStack: returns are guarded by a stack of the processor's own.
	ShadowStack bool
	Kernel      bool // a kernel thread, where the kernel says so
	// LeaderEnded: the first thread has ended and others run on. /proc/PID/maps
	// and such are empty then, and /proc/PID/task/TID's are not.
	LeaderEnded bool
}

// State is the letter that the kernel gives a thread's state.
type State byte

// The states that matter here.
const (
	Running  State = 'R'
	Sleeping State = 'S'
	Waiting  State = 'D' // not to be interrupted
	Stopped  State = 'T'
	Traced   State = 't'
	Zombie   State = 'Z'
	Dead     State = 'X'
)

// SeccompMode is what of seccomp is on.
type SeccompMode int

// The modes of seccomp.
const (
	SeccompOff    SeccompMode = 0
	SeccompStrict SeccompMode = 1
	SeccompFilter SeccompMode = 2
)

// Status reads the process's state. All of it may change at any time while the
// process runs.
func (p *Process) Status(ctx context.Context) (Status, error) {
	tid, _, err := p.living(ctx)
	if err != nil {
		return Status{}, err
	}
	s, err := p.ThreadStatus(ctx, tid)
	s.LeaderEnded = tid != p.id.PID
	return s, err
}

// ThreadStatus is Status of one thread.
func (p *Process) ThreadStatus(ctx context.Context, tid int) (Status, error) {
	if err := ctx.Err(); err != nil {
		return Status{}, err
	}
	// Nothing in it waits for the process or its memory.
	var text []byte
	err := p.withDir(func(dir int) (err error) {
		text, err = readSmall(dir, "task/"+strconv.Itoa(tid)+"/status", make([]byte, 16<<10))
		return err
	})
	if err != nil {
		return Status{}, failed(p.id, err)
	}
	s, err := parseStatus(text)
	if err != nil {
		return Status{}, code.New("TS9230", "/proc/"+strconv.Itoa(p.id.PID)+"/status", "").With(err)
	}
	return s, nil
}

var errStatus = errors.New("unexpected form of /proc/PID/status")

func parseStatus(text []byte) (Status, error) {
	s := Status{Filters: -1}
	bad := false
	num := func(v string, base, bits int) uint64 {
		n, err := strconv.ParseUint(v, base, bits)
		bad = bad || err != nil
		return n
	}
	seen := 0
	for line := range bytes.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSuffix(string(line), "\n"), ":\t")
		if !ok {
			continue
		}
		switch key {
		case "Name":
			s.Name = value
		case "State":
			if value == "" {
				return Status{}, errStatus
			}
			s.State = State(value[0])
			seen++
		case "PPid":
			s.PPID = int(num(value, 10, 31))
		case "TracerPid":
			s.TracerPID = int(num(value, 10, 31))
			seen++
		case "Uid":
			f := strings.Fields(value)
			if len(f) != len(s.UID) {
				return Status{}, errStatus
			}
			for i := range f {
				s.UID[i] = uint32(num(f[i], 10, 32))
			}
		case "NSpid":
			for _, f := range strings.Fields(value) {
				s.NSPID = append(s.NSPID, int(num(f, 10, 31)))
			}
		case "Threads":
			s.Threads = int(num(value, 10, 31))
			seen++
		case "Kthread":
			s.Kernel = value == "1"
		case "CapEff":
			s.CapEff = num(value, 16, 64)
		case "NoNewPrivs":
			s.NoNewPrivs = value == "1"
		case "Seccomp":
			s.Seccomp = SeccompMode(num(value, 10, 8))
		case "x86_Thread_features":
			s.ShadowStack = strings.Contains(value, "shstk")
		case "Seccomp_filters":
			s.Filters = int(num(value, 10, 31))
		}
	}
	if bad || seen != 3 {
		return Status{}, errStatus
	}
	return s, nil
}
