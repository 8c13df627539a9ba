// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The proc connector: Documentation/driver-api/connector.rst and
// include/uapi/linux/cn_proc.h. The kernel multicasts what happens to tasks to
// who listens, in the first network and pid namespaces.
const (
	cnIdxProc = 1
	cnValProc = 1
	cnListen  = 1

	procNone = 0x00000000
	procFork = 0x00000001
	procExec = 0x00000002

	nlHeader     = 16 // struct nlmsghdr
	cnHeader     = 20 // struct cn_msg
	cnAck        = nlHeader + 12
	eventStart   = nlHeader + cnHeader
	eventData    = eventStart + 16 // what, cpu, timestamp_ns
	eventAtLeast = eventData + 8
)

// connector is a socket to the proc connector.
type connector struct {
	file *os.File
	conn syscall.RawConn
}

// openConnector listens for what a filter lets pass, and waits until the kernel has
// said that it will tell.
func openConnector(ctx context.Context, only *unix.SockFprog) (*connector, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_CONNECTOR)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err) // EPROTONOSUPPORT: another network namespace, or not built in
	}
	f := os.NewFile(uintptr(fd), "proc connector")
	c := &connector{file: f}
	if err := c.begin(ctx, fd, only); err != nil {
		f.Close()
		return nil, err
	}
	return c, nil
}

func (c *connector) begin(ctx context.Context, fd int, only *unix.SockFprog) error {
	// Thousands of forks a second happen; what does not fit is told by ENOBUFS.
	const room = 8 << 20
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room) != nil {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, room); err != nil {
			return fmt.Errorf("receive buffer: %w", err)
		}
	}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, only); err != nil {
		return fmt.Errorf("filter: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: cnIdxProc}); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	conn, err := c.file.SyscallConn()
	if err != nil {
		return err
	}
	c.conn = conn
	// Answers go to all who listen. The kernel counts their sequence number
	// itself; ours is known by the other one, to which it adds 1.
	number := rand.Uint32()
	if err := unix.Sendto(fd, request(cnListen, number), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("request: %w", err)
	}
	// In another pid namespace the kernel drops the request without a word.
	deadline := time.Now().Add(time.Second)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := c.file.SetReadDeadline(deadline); err != nil {
		return err
	}
	defer c.file.SetReadDeadline(time.Time{})
	for {
		b, err := c.receive()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return errors.New("the kernel has not confirmed: this is not the first pid namespace, or not its first user namespace")
		}
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			return err
		}
		if len(b) >= eventAtLeast && binary.LittleEndian.Uint32(b[eventStart:]) == procNone && binary.LittleEndian.Uint32(b[cnAck:]) == number+1 {
			if e := binary.LittleEndian.Uint32(b[eventData:]); e != 0 {
				return fmt.Errorf("the kernel has refused: %w", unix.Errno(e))
			}
			return nil
		}
	}
}

// request is the message that turns the multicast on or off. cn_proc_ack of
// drivers/connector/cn_proc.c answers it.
func request(op, number uint32) []byte {
	le := binary.LittleEndian
	b := make([]byte, nlHeader+cnHeader+4)
	le.PutUint32(b, uint32(len(b)))
	le.PutUint16(b[4:], unix.NLMSG_DONE)
	le.PutUint32(b[12:], 0)
	le.PutUint32(b[nlHeader:], cnIdxProc)
	le.PutUint32(b[nlHeader+4:], cnValProc)
	le.PutUint32(b[cnAck:], number)
	le.PutUint16(b[nlHeader+16:], 4)
	le.PutUint32(b[nlHeader+cnHeader:], op)
	return b
}

// What filters in the kernel are made of.
const (
	bpfLoad     = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	bpfLoadByte = unix.BPF_LD | unix.BPF_B | unix.BPF_ABS
	bpfIs       = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	bpfSame     = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_X
	bpfHas      = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
	bpfKeep     = unix.BPF_MISC | unix.BPF_TAX
	bpfReturn   = unix.BPF_RET | unix.BPF_K
)

// host is a number of a message as a filter loads it: loads are big-endian, the
// message is not.
func host(n uint32) uint32 { return bits.ReverseBytes32(n) }

func filter(prog []unix.SockFilter) *unix.SockFprog {
	return &unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
}

// onlyProcesses is a filter in the kernel: execs, forks of whole processes, and
// the answer to the request pass. A storm of threads, or of exits, costs us
// nothing then.
func onlyProcesses() *unix.SockFprog {
	return filter([]unix.SockFilter{
		0: {Code: bpfLoad, K: eventStart},
		1: {Code: bpfIs, K: host(procExec), Jt: 6},
		2: {Code: bpfIs, K: host(procNone), Jt: 5},
		3: {Code: bpfIs, K: host(procFork), Jf: 5},
		4: {Code: bpfLoad, K: eventData + 8}, // the child's number
		5: {Code: bpfKeep},
		6: {Code: bpfLoad, K: eventData + 12}, // and its process's
		7: {Code: bpfSame, Jf: 1},
		8: {Code: bpfReturn, K: 0xffff},
		9: {Code: bpfReturn, K: 0},
	})
}

// receive waits for one message of the kernel. unix.ENOBUFS tells that some
// were lost before it.
func (c *connector) receive() ([]byte, error) {
	buf := make([]byte, 1024)
	var n int
	var inner error
	err := c.conn.Read(func(fd uintptr) bool {
		for {
			var from unix.Sockaddr
			n, from, inner = unix.Recvfrom(int(fd), buf, 0)
			switch {
			case errors.Is(inner, unix.EINTR):
			case errors.Is(inner, unix.EAGAIN):
				return false
			case inner != nil:
				return true
			default:
				// Only the kernel has the number 0: others may send here too.
				if a, ok := from.(*unix.SockaddrNetlink); ok && a.Pid == 0 {
					return true
				}
			}
		}
	})
	if err = errors.Join(err, inner); err != nil {
		return nil, err
	}
	return buf[:n], nil
}

// next waits for the next event.
func (c *connector) next() (happening, error) {
	for {
		b, err := c.receive()
		if errors.Is(err, unix.ENOBUFS) {
			return happening{what: lost}, nil
		}
		if err != nil {
			return happening{}, err
		}
		if h, ok := parseEvent(b); ok {
			h.at = time.Now()
			return h, nil
		}
	}
}

// parseEvent reads one message of the connector.
func parseEvent(b []byte) (happening, bool) {
	le := binary.LittleEndian
	if len(b) < eventData+16 || le.Uint32(b[nlHeader:]) != cnIdxProc || le.Uint32(b[nlHeader+4:]) != cnValProc {
		return happening{}, false
	}
	data := b[eventData:]
	switch le.Uint32(b[eventStart:]) {
	case procExec:
		return happening{what: Exec, pid: int(le.Uint32(data[4:]))}, true
	case procFork:
		return happening{what: Fork, pid: int(le.Uint32(data[12:]))}, true
	}
	return happening{}, false
}

// close ends a next that waits.
func (c *connector) close() error { return c.file.Close() }
