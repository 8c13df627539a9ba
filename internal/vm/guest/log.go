// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/vm/wire"
)

// follower streams /dev/kmsg. Every read gives one record
// (Documentation/ABI/testing/dev-kmsg).
type follower struct {
	file *os.File
	idle atomic.Bool // nothing was left to read at the last look
}

func followLog(ctx context.Context, env *Env, level int) *follower {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		env.Note("kernel log: " + err.Error())
		return &follower{}
	}
	f := &follower{file: os.NewFile(uintptr(fd), "/dev/kmsg")}
	go f.run(ctx, env, level)
	return f
}

func (f *follower) run(ctx context.Context, env *Env, level int) {
	buf := make([]byte, 16<<10)
	for ctx.Err() == nil {
		n, err := unix.Read(int(f.file.Fd()), buf)
		switch {
		case errors.Is(err, unix.EAGAIN):
			f.idle.Store(true)
			p := []unix.PollFd{{Fd: int32(f.file.Fd()), Events: unix.POLLIN}}
			_, _ = unix.Poll(p, 200)
			continue
		case errors.Is(err, unix.EPIPE):
			env.Note("kernel log: records were overwritten before they could be read")
			continue
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil || n == 0:
			return
		}
		f.idle.Store(false)
		if r, ok := parseRecord(string(buf[:n])); ok && r.Level <= level {
			env.Emit(wire.Event{Kind: wire.Log, Data: raw(r)})
		}
	}
}

// drain waits until what the kernel said so far has been sent.
func (f *follower) drain() {
	if f.file == nil {
		return
	}
	f.idle.Store(false)
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end) && !f.idle.Load(); {
		time.Sleep(5 * time.Millisecond)
	}
}

// parseRecord reads "prio,seq,microseconds,flags[,more];text" and drops the
// key=value lines that follow the text.
func parseRecord(s string) (wire.Record, bool) {
	head, text, ok := strings.Cut(s, ";")
	if !ok {
		return wire.Record{}, false
	}
	f := strings.Split(head, ",")
	if len(f) < 3 {
		return wire.Record{}, false
	}
	prio, err1 := strconv.Atoi(f[0])
	seq, err2 := strconv.ParseUint(f[1], 10, 64)
	us, err3 := strconv.ParseInt(f[2], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil || prio < 0 {
		return wire.Record{}, false
	}
	text, _, _ = strings.Cut(text, "\n")
	return wire.Record{Level: prio & 7, Seq: seq, Time: us, Text: text}, true
}
