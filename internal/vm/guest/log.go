// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/vm/wire"
)

// marker starts the lines that the guest writes into the kernel log itself, so
// that the log, and the console of a machine that crashed, show what was being
// done. Everything up to the next line of this kind belongs to that step.
const marker = "tsugi-guest: "

// follower streams /dev/kmsg. Every read gives one record
// (Documentation/ABI/testing/dev-kmsg).
type follower struct {
	fd   int
	step string // whose records are read now; used by run alone
	seen chan string
}

func followLog(ctx context.Context, env *Env, level int) *follower {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		env.Note("kernel log: " + err.Error())
		return nil
	}
	f := &follower{fd: fd, seen: make(chan string, 16)}
	go f.run(ctx, env, level)
	return f
}

func (f *follower) run(ctx context.Context, env *Env, level int) {
	buf := make([]byte, 16<<10)
	for ctx.Err() == nil {
		n, err := unix.Read(f.fd, buf)
		switch {
		case errors.Is(err, unix.EAGAIN):
			p := []unix.PollFd{{Fd: int32(f.fd), Events: unix.POLLIN}}
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
		r, ok := parseRecord(string(buf[:n]))
		if !ok {
			continue
		}
		if text, mine := strings.CutPrefix(r.Text, marker); mine {
			if id, begins := strings.CutPrefix(text, "begin "); begins {
				f.step = id
			}
			select {
			case f.seen <- text:
			default:
			}
			continue
		}
		if r.Level <= level {
			env.Emit(wire.Event{Kind: wire.Log, Step: f.step, Data: raw(r)})
		}
	}
}

// mark writes a marker and waits until everything before it has been sent.
// Level 4 puts it on the console.
func (f *follower) mark(text string) {
	if f == nil {
		return
	}
	if _, err := unix.Write(f.fd, []byte("<4>"+marker+text+"\n")); err != nil {
		return
	}
	limit := time.After(2 * time.Second)
	for {
		select {
		case got := <-f.seen:
			if got == text {
				return
			}
		case <-limit:
			return
		}
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
