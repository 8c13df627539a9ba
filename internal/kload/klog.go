// SPDX-License-Identifier: Apache-2.0

package kload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Record is one record of the kernel's log.
type Record struct {
	Level  int           // syslog: 0 emergency to 7 debug
	Kernel bool          // said by the kernel and not by a program
	Seq    uint64        // counts all records since boot
	Time   time.Duration // since boot
	Caller string        // "T123" or "C0" where the kernel tells (CONFIG_PRINTK_CALLER)
	Text   string
}

// ParseRecord reads what one read(2) of /dev/kmsg returns,
// "PRIO,SEQ,MICROSECONDS,FLAGS[,caller=ID];TEXT\n KEY=VALUE\n…"
// (Documentation/ABI/testing/dev-kmsg). Only the text is kept.
func ParseRecord(b []byte) (Record, error) {
	head, text, ok := strings.Cut(string(b), ";")
	if !ok {
		return Record{}, fmt.Errorf("log record %.80q: no text", b)
	}
	f := strings.Split(head, ",")
	if len(f) < 3 {
		return Record{}, fmt.Errorf("log record %.80q: fewer than three fields", b)
	}
	prio, err1 := strconv.ParseUint(f[0], 10, 31)
	seq, err2 := strconv.ParseUint(f[1], 10, 64)
	us, err3 := strconv.ParseInt(f[2], 10, 64)
	if err := errors.Join(err1, err2, err3); err != nil {
		return Record{}, fmt.Errorf("log record %.80q: %w", b, err)
	}
	const tooLong = int64(1<<63-1) / int64(time.Microsecond)
	if us < 0 || us > tooLong {
		return Record{}, fmt.Errorf("log record %.80q: its time", b)
	}
	r := Record{Level: int(prio & 7), Kernel: prio>>3 == 0, Seq: seq, Time: time.Duration(us) * time.Microsecond}
	for _, x := range f[3:] {
		if c, ok := strings.CutPrefix(x, "caller="); ok {
			r.Caller = c
		}
	}
	r.Text, _, _ = strings.Cut(text, "\n")
	return r, nil
}

// Klog follows the kernel's log. Each has a place of its own in the log, and
// one goroutine at a time may read.
type Klog struct {
	fd   int
	wake int // an eventfd that ends a wait
	lost int // times that records were overwritten before they were read
}

// Klog opens the log behind its last record.
func (l *Loader) Klog() (*Klog, error) {
	return l.klog(unix.SEEK_END)
}

// KlogFromStart opens the log at the oldest record that the kernel still has.
func (l *Loader) KlogFromStart() (*Klog, error) { return l.klog(unix.SEEK_SET) }

func (l *Loader) klog(whence int) (*Klog, error) {
	path := filepath.Join(l.root, "dev/kmsg")
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, code.New("TS9314", path, "").With(err)
	}
	if _, err := unix.Seek(fd, 0, whence); err != nil {
		unix.Close(fd)
		return nil, code.New("TS9314", path, "").With(err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("kernel log: eventfd: %w", err)
	}
	return &Klog{fd: fd, wake: wake}, nil
}

// Close ends it. No Next may be under way.
func (k *Klog) Close() error { return errors.Join(unix.Close(k.fd), unix.Close(k.wake)) }

// Lost counts how often records were overwritten before they were read.
func (k *Klog) Lost() int { return k.lost }

// Next waits for a record. It ends with the context's error, or io.EOF where
// the log is a plain file. While nothing comes it hardly takes any time.
func (k *Klog) Next(ctx context.Context) (Record, error) {
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(woken)
		_, _ = unix.Write(k.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	})
	defer func() {
		if !stop() {
			<-woken // so that it does not write to a descriptor that is closed
			_, _ = unix.Read(k.wake, make([]byte, 8))
		}
	}()
	for {
		if ctx.Err() != nil {
			return Record{}, ctx.Err()
		}
		r, ok, err := k.read()
		if err != nil || ok {
			return r, err
		}
		p := []unix.PollFd{{Fd: int32(k.fd), Events: unix.POLLIN}, {Fd: int32(k.wake), Events: unix.POLLIN}}
		// A limit all the same: what is not told of by the poll is found then.
		if _, err := unix.Poll(p, 1000); err != nil && !errors.Is(err, unix.EINTR) {
			return Record{}, code.New("TS9314", "/dev/kmsg", "").With(err)
		}
	}
}

// Read returns what there is without waiting.
func (k *Klog) Read() ([]Record, error) {
	var out []Record
	for len(out) < 1<<16 {
		r, ok, err := k.read()
		if errors.Is(err, io.EOF) || err == nil && !ok {
			break
		}
		if err != nil {
			return out, err
		}
		out = append(out, r)
	}
	return out, nil
}

// read takes one record; ok is false when there is none yet.
func (k *Klog) read() (r Record, ok bool, err error) {
	buf := make([]byte, 16<<10) // a record has at most 8 KiB, escapes included
	for {
		n, err := unix.Read(k.fd, buf)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return r, false, nil
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EPIPE):
			k.lost++
			continue
		case err != nil:
			return r, false, code.New("TS9314", "/dev/kmsg", "").With(err)
		case n == 0:
			return r, false, io.EOF
		}
		if r, err := ParseRecord(buf[:n]); err == nil {
			return r, true, nil
		}
	}
}

// about returns what the kernel has said since the log was opened about
// loading a live patch, as one line.
func (k *Klog) about(module string) string {
	records, _ := k.Read()
	var out []string
	for _, r := range records {
		if !r.Kernel || r.Level > 5 || len(out) >= 4 || strings.HasPrefix(r.Text, "livepatch: enabling patch ") {
			continue
		}
		if strings.HasPrefix(r.Text, module+": ") || strings.HasPrefix(r.Text, "livepatch: ") ||
			strings.HasPrefix(r.Text, "Loading of ") || strings.HasPrefix(r.Text, "Lockdown: ") ||
			strings.HasPrefix(r.Text, "module: ") || strings.HasPrefix(r.Text, "PKCS") {
			out = append(out, r.Text)
		}
	}
	return strings.Join(out, "; ")
}
