// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/code"
)

const procExit = 0x80000000

// Crash is the end of a process by a signal that a fault raises.
type Crash struct {
	PID    int
	Signal unix.Signal
	At     time.Time
}

// faults are the signals that a program ends by when it goes wrong.
func faults(s unix.Signal) bool {
	switch s {
	case unix.SIGSEGV, unix.SIGBUS, unix.SIGILL, unix.SIGFPE, unix.SIGABRT, unix.SIGTRAP, unix.SIGSYS:
		return true
	}
	return false
}

// Crashes tells of each process on this machine that crashes, until ctx ends. Its
// parent may not have asked for its end yet: then it can still be looked at in
// /proc. TS9650: the kernel does not tell.
func Crashes(ctx context.Context, each func(Crash)) error {
	c, err := openConnector(ctx, onlyCrashes())
	if err != nil {
		return code.New("TS9650", "", "").With(err)
	}
	defer c.close()
	defer context.AfterFunc(ctx, func() { c.close() })()
	for {
		b, err := c.receive()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, unix.ENOBUFS):
			continue // some were lost: a storm of crashes tells enough
		case err != nil:
			return code.New("TS9650", "", "").With(err)
		}
		if crash, ok := parseCrash(b); ok {
			crash.At = time.Now()
			each(crash)
		}
	}
}

func parseCrash(b []byte) (Crash, bool) {
	le := binary.LittleEndian
	if len(b) < eventData+16 || le.Uint32(b[nlHeader:]) != cnIdxProc || le.Uint32(b[nlHeader+4:]) != cnValProc || le.Uint32(b[eventStart:]) != procExit {
		return Crash{}, false
	}
	data := b[eventData:]
	s := unix.Signal(le.Uint32(data[8:]) & 0x7f)
	if le.Uint32(data) != le.Uint32(data[4:]) || !faults(s) {
		return Crash{}, false // a thread, or no fault
	}
	return Crash{PID: int(le.Uint32(data[4:])), Signal: s}, true
}

// onlyCrashes is a filter in the kernel: ends by a signal of first threads pass,
// and the answer to the request.
func onlyCrashes() *unix.SockFprog {
	return filter([]unix.SockFilter{
		0: {Code: bpfLoad, K: eventStart},
		1: {Code: bpfIs, K: host(procNone), Jt: 8},
		2: {Code: bpfIs, K: host(procExit), Jf: 6},
		3: {Code: bpfLoad, K: eventData}, // the thread's number
		4: {Code: bpfKeep},
		5: {Code: bpfLoad, K: eventData + 4}, // and its process's
		6: {Code: bpfSame, Jf: 2},
		7: {Code: bpfLoadByte, K: eventData + 8}, // the lowest byte of how it ended
		// Only one that was killed has one of these bits.
		8:  {Code: bpfHas, K: 0x7f, Jt: 1},
		9:  {Code: bpfReturn, K: 0},
		10: {Code: bpfReturn, K: 0xffff},
	})
}
