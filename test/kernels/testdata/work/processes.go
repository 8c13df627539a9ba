// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// child is the argument with which this program is its own child: it sends
// back what it reads, and ends by a signal if it is told.
const child = "child"

func beChild() {
	b, err := io.ReadAll(os.Stdin)
	if err != nil {
		os.Exit(3)
	}
	if len(os.Args) > 2 {
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	}
	_, _ = os.Stdout.Write(b)
}

// processes starts others, talks to them through pipes and waits for them.
func processes(n int) error {
	text := content(n, 200_000)
	var all sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		all.Go(func() {
			cmd := exec.Command("/proc/self/exe", child)
			if i == 3 {
				cmd.Args = append(cmd.Args, "die")
			}
			cmd.Stdin = bytes.NewReader(text)
			out, err := cmd.Output()
			exit, killed := errors.AsType[*exec.ExitError](err)
			switch {
			case i == 3 && killed && exit.Sys().(syscall.WaitStatus).Signal() == unix.SIGKILL:
			case err != nil:
				errs[i] = err
			case !bytes.Equal(out, text):
				errs[i] = errors.New("a child sent something else back")
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// threads has many of them wait for each other, and takes signals.
func threads(int) error {
	var mu sync.Mutex
	turn := sync.NewCond(&mu)
	count := 0
	var all sync.WaitGroup
	const many, rounds = 16, 40
	for i := range many {
		all.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			for range rounds {
				mu.Lock()
				for count%many != i {
					turn.Wait()
				}
				count++
				turn.Broadcast()
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if count != many*rounds {
		return fmt.Errorf("%d turns", count)
	}
	c := make(chan os.Signal, 1)
	signal.Notify(c, unix.SIGUSR1)
	defer signal.Stop(c)
	if err := unix.Kill(os.Getpid(), unix.SIGUSR1); err != nil {
		return err
	}
	<-c
	return nil
}

// memory maps, protects, moves and gives back.
func memory(n int) error {
	const size = 4 << 20
	m, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	for i := 0; i < size; i += 4096 {
		m[i] = byte(i >> 12)
	}
	if err := unix.Mprotect(m[:1<<16], unix.PROT_READ); err != nil {
		return err
	}
	if n%2 == 0 {
		if err := unix.Madvise(m[size/2:], unix.MADV_DONTNEED); err != nil {
			return err
		}
		if m[size/2+4096] != 0 {
			return errors.New("memory that was given back has content")
		}
	}
	for i := 0; i < size/2; i += 4096 {
		if m[i] != byte(i>>12) {
			return errors.New("memory holds something else")
		}
	}
	if err := unix.Munmap(m); err != nil {
		return err
	}
	fd, err := unix.MemfdCreate("work", 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, content(n, 10_000))
	return err
}

// events uses the file descriptors that wait for others.
func events(int) error {
	ep, err := unix.EpollCreate1(0)
	if err != nil {
		return err
	}
	defer unix.Close(ep)
	ev, err := unix.Eventfd(0, unix.EFD_NONBLOCK)
	if err != nil {
		return err
	}
	defer unix.Close(ev)
	timer, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK)
	if err != nil {
		return err
	}
	defer unix.Close(timer)
	watch, err := unix.InotifyInit1(unix.IN_NONBLOCK)
	if err != nil {
		return err
	}
	defer unix.Close(watch)
	if _, err := unix.InotifyAddWatch(watch, "/tmp", unix.IN_CREATE); err != nil {
		return err
	}
	for _, fd := range []int{ev, timer, watch} {
		if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
			return err
		}
	}
	if _, err := unix.Write(ev, []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
		return err
	}
	if err := unix.TimerfdSettime(timer, 0, &unix.ItimerSpec{Value: unix.Timespec{Nsec: 1e6}}, nil); err != nil {
		return err
	}
	seen := map[int32]bool{}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		list := make([]unix.EpollEvent, 8)
		n, err := unix.EpollWait(ep, list, 1000)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		for _, e := range list[:max(n, 0)] {
			seen[e.Fd] = true
		}
		if seen[int32(ev)] && seen[int32(timer)] {
			return nil
		}
	}
	return errors.New("an event did not come")
}

// namespaces makes a process with all namespaces of its own.
func namespaces(n int) error {
	cmd := exec.Command("/proc/self/exe", child)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWCGROUP,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}},
	}
	text := content(n, 5000)
	cmd.Stdin = bytes.NewReader(text)
	out, err := cmd.Output()
	if err == nil && !bytes.Equal(out, text) {
		err = errors.New("a child sent something else back")
	}
	return err
}
