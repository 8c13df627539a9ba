// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/code"
)

// sight are the ways to one program's memory. They stay with that memory, not
// with the process: after an execve they lead to nothing.
type sight struct {
	image image
	tid   int      // of a living thread when this was opened; the leader may have ended
	mem   *os.File // /proc/PID/task/TID/mem
	maps  *os.File // /proc/PID/task/TID/maps
}

// living finds a thread that has not ended, the leader if it can be: a leader
// that has ended shows no memory, though its other threads have it all.
func (p *Process) living(ctx context.Context) (int, image, error) {
	s, err := p.stat("stat")
	if err != nil {
		return 0, image{}, failed(p.id, err)
	}
	if !s.over() {
		// stat of the group: the leader's own numbers are the same, and one file less.
		return p.id.PID, s.image, nil
	}
	tids, err := p.Threads(ctx)
	if err != nil {
		return 0, image{}, err
	}
	for _, tid := range tids {
		if err := ctx.Err(); err != nil {
			return 0, image{}, err
		}
		if s, err := p.stat("task/" + strconv.Itoa(tid) + "/stat"); err == nil && !s.over() {
			return tid, s.image, nil
		}
	}
	return 0, image{}, code.New("TS9601", p.id.String(), "")
}

// settled is living, but waits for an execve that is under way: the memory is the
// new program's by then, and where its code and stack are is told at the end. A
// machine that has much to do may leave it in between for long.
func (p *Process) settled(ctx context.Context) (int, image, error) {
	for began := time.Now(); ; {
		tid, now, err := p.living(ctx)
		if err != nil || now.code != 0 {
			return tid, now, err
		}
		if time.Since(began) > Limit/2 {
			return 0, image{}, code.New("TS9632", p.id.String(), "it is starting a program")
		}
		timer := time.NewTimer(time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return 0, image{}, ctx.Err()
		}
	}
}

// sight opens the ways to the memory, or gives those that are open.
func (p *Process) sight(ctx context.Context) (*sight, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seen != nil {
		return p.seen, nil
	}
	// An execve between two opens would show two programs. Both opens lie
	// between two looks at where the program's code and stack are.
	for range 8 {
		tid, before, err := p.settled(ctx)
		if err != nil {
			return nil, err
		}
		s, err := within(ctx, p.id, p.uid, func() (*sight, error) { return p.openSight(tid, before) })
		if err != nil {
			if p.alive() == nil {
				if _, now, e := p.living(ctx); e == nil && now != before {
					continue
				}
			}
			return nil, failed(p.id, err)
		}
		_, now, err := p.living(ctx)
		if err == nil && now == before {
			p.seen = s
			return s, nil
		}
		s.mem.Close()
		s.maps.Close()
		if err != nil {
			return nil, err
		}
	}
	return nil, code.New("TS9601", p.id.String(), "it goes from program to program")
}

func (p *Process) openSight(tid int, of image) (*sight, error) {
	s := &sight{tid: tid, image: of}
	err := p.withDir(func(dir int) error {
		base := "task/" + strconv.Itoa(tid) + "/"
		mem, err := retry(func() (int, error) { return unix.Openat(dir, base+"mem", unix.O_RDWR|unix.O_CLOEXEC, 0) })
		if err != nil {
			return err
		}
		maps, err := retry(func() (int, error) { return unix.Openat(dir, base+"maps", unix.O_RDONLY|unix.O_CLOEXEC, 0) })
		if err != nil {
			unix.Close(mem)
			return err
		}
		s.mem = os.NewFile(uintptr(mem), base+"mem")
		s.maps = os.NewFile(uintptr(maps), base+"maps")
		return nil
	})
	return s, err
}
