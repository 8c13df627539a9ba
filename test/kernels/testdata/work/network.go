// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// loopback sends through TCP and UDP, IPv4 and IPv6.
func loopback(n int) error {
	for _, host := range []string{"127.0.0.1", "::1"} {
		text := content(n, 300_000)
		if err := stream("tcp", net.JoinHostPort(host, "0"), text); err != nil {
			return fmt.Errorf("tcp %s: %w", host, err)
		}
		if err := packets(host, text[:1200]); err != nil {
			return fmt.Errorf("udp %s: %w", host, err)
		}
	}
	return nil
}

func unixSockets(n int) error {
	path := filepath.Join(os.TempDir(), fmt.Sprintf("work%d", n))
	defer os.Remove(path)
	return stream("unix", path, content(n, 100_000))
}

// stream sends a text to who sends it back.
func stream(network, address string, text []byte) error {
	l, err := net.Listen(network, address)
	if err != nil {
		return err
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		b := make([]byte, len(text))
		if _, err := io.ReadFull(c, b); err == nil {
			_, _ = c.Write(b)
		}
	}()
	c, err := net.Dial(network, l.Addr().String())
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		return err
	}
	if _, err := c.Write(text); err != nil {
		return err
	}
	back := make([]byte, len(text))
	if _, err := io.ReadFull(c, back); err != nil {
		return err
	}
	if !bytes.Equal(back, text) {
		return errors.New("something else came back")
	}
	return nil
}

func packets(host string, text []byte) error {
	a, err := net.ListenPacket("udp", net.JoinHostPort(host, "0"))
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := net.Dial("udp", a.LocalAddr().String())
	if err != nil {
		return err
	}
	defer b.Close()
	if _, err := b.Write(text); err != nil {
		return err
	}
	if err := a.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		return err
	}
	got := make([]byte, 2000)
	n, _, err := a.ReadFrom(got)
	if err == nil && !bytes.Equal(got[:n], text) {
		err = errors.New("another packet came")
	}
	return err
}

// dummy makes an interface with addresses, sends into it and takes it away.
func dummy(int) error {
	if err := addLink("work0", "dummy", nil); err != nil {
		return absent(err)
	}
	defer func() { _ = delLink("work0") }()
	i, err := net.InterfaceByName("work0")
	if err != nil {
		return err
	}
	if err := errors.Join(addAddress(i, net.IPv4(10, 99, 0, 1).To4(), 24), addAddress(i, net.ParseIP("fd99::1"), 64), setUp("work0")); err != nil {
		return err
	}
	for _, to := range []string{"10.99.0.7:9", "[fd99::7]:9"} {
		c, err := net.Dial("udp", to)
		if err != nil {
			return err
		}
		_, err = c.Write([]byte("nobody hears this"))
		c.Close()
		if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, unix.ENETUNREACH) && !errors.Is(err, unix.EHOSTUNREACH) {
			return err
		}
	}
	return delLink("work0")
}

// veth sends frames from one end to the other.
func veth(n int) error {
	if err := addPair("workv0", "workv1"); err != nil {
		return absent(err)
	}
	defer func() { _ = delLink("workv0") }()
	if err := errors.Join(setUp("workv0"), setUp("workv1")); err != nil {
		return err
	}
	return frames("workv0", "workv1", n)
}

// bridge joins two pairs and sends frames through.
func bridge(n int) error {
	if err := addLink("workb0", "bridge", nil); err != nil {
		return absent(err)
	}
	defer func() { _ = delLink("workb0") }()
	for _, p := range []string{"workc", "workd"} {
		if err := addPair(p+"0", p+"1"); err != nil {
			return absent(err)
		}
		defer func() { _ = delLink(p + "0") }()
		if err := errors.Join(setMaster(p+"0", "workb0"), setUp(p+"0"), setUp(p+"1")); err != nil {
			return err
		}
	}
	if err := setUp("workb0"); err != nil {
		return err
	}
	return frames("workc1", "workd1", n)
}

// frames sends raw frames from an interface until one comes out of another.
func frames(from, to string, n int) error {
	const protocol = 0x88b5 // IEEE 802: local experimental
	open := func(name string) (int, error) {
		i, err := net.InterfaceByName(name)
		if err != nil {
			return 0, err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(swap(protocol)))
		if err != nil {
			return 0, absent(err)
		}
		return fd, errors.Join(
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 200_000}),
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: swap(protocol), Ifindex: i.Index}))
	}
	out, err := open(from)
	if err != nil {
		return err
	}
	defer unix.Close(out)
	in, err := open(to)
	if err != nil {
		return err
	}
	defer unix.Close(in)
	frame := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1}, byte(protocol>>8), protocol&0xff)
	frame = append(frame, content(n, 400)...)
	for range 300 { // a bridge's port takes its time, and so does a loaded machine
		if _, err := unix.Write(out, frame); err != nil && !errors.Is(err, unix.ENETDOWN) {
			return err
		}
		got := make([]byte, 2000)
		if k, err := unix.Read(in, got); err == nil && bytes.Equal(got[:k], frame) {
			return nil
		}
	}
	return fmt.Errorf("no frame came from %s to %s", from, to)
}

func swap(p uint16) uint16 { return p<<8 | p>>8 }

// attribute of a netlink message (struct nlattr).
func attribute(typ uint16, value []byte) []byte {
	b := binary.LittleEndian.AppendUint16(nil, uint16(4+len(value)))
	b = append(binary.LittleEndian.AppendUint16(b, typ), value...)
	return append(b, make([]byte, -len(b)&3)...)
}

// link is the fixed part of a message about an interface (struct ifinfomsg).
func link(index int, flags, change uint32) []byte {
	b := make([]byte, 16)
	binary.LittleEndian.PutUint32(b[4:], uint32(index))
	binary.LittleEndian.PutUint32(b[8:], flags)
	binary.LittleEndian.PutUint32(b[12:], change)
	return b
}

func addLink(name, kind string, data []byte) error {
	info := attribute(unix.IFLA_INFO_KIND, []byte(kind))
	if data != nil {
		info = append(info, attribute(unix.IFLA_INFO_DATA, data)...)
	}
	body := append(link(0, 0, 0), attribute(unix.IFLA_IFNAME, []byte(name+"\x00"))...)
	return route(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, append(body, attribute(unix.IFLA_LINKINFO, info)...))
}

// vethPeer is VETH_INFO_PEER of linux/veth.h.
const vethPeer = 1

func addPair(a, b string) error {
	return addLink(a, "veth", attribute(vethPeer, append(link(0, 0, 0), attribute(unix.IFLA_IFNAME, []byte(b+"\x00"))...)))
}

func delLink(name string) error {
	return route(unix.RTM_DELLINK, 0, append(link(0, 0, 0), attribute(unix.IFLA_IFNAME, []byte(name+"\x00"))...))
}

func setUp(name string) error {
	return route(unix.RTM_NEWLINK, 0, append(link(0, unix.IFF_UP, unix.IFF_UP), attribute(unix.IFLA_IFNAME, []byte(name+"\x00"))...))
}

func setMaster(name, master string) error {
	m, err := net.InterfaceByName(master)
	if err != nil {
		return err
	}
	body := append(link(0, 0, 0), attribute(unix.IFLA_IFNAME, []byte(name+"\x00"))...)
	return route(unix.RTM_NEWLINK, 0, append(body, attribute(unix.IFLA_MASTER, binary.LittleEndian.AppendUint32(nil, uint32(m.Index)))...))
}

// addAddress gives an interface an address (struct ifaddrmsg).
func addAddress(i *net.Interface, ip net.IP, prefix byte) error {
	family := byte(unix.AF_INET)
	if len(ip) == net.IPv6len {
		family = unix.AF_INET6
	}
	body := binary.LittleEndian.AppendUint32([]byte{family, prefix, 0, 0}, uint32(i.Index))
	body = append(body, attribute(unix.IFA_LOCAL, ip)...)
	return route(unix.RTM_NEWADDR, unix.NLM_F_CREATE, append(body, attribute(unix.IFA_ADDRESS, ip)...))
}

// route sends one message and waits for its answer.
func route(typ, flags uint16, body []byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	b := binary.LittleEndian.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+len(body)))
	b = binary.LittleEndian.AppendUint16(b, typ)
	b = binary.LittleEndian.AppendUint16(b, flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	b = append(append(b, make([]byte, 8)...), body...)
	if err := unix.Sendto(fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 1<<14)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return err
	}
	if n < unix.NLMSG_HDRLEN+4 || binary.LittleEndian.Uint16(answer[4:]) != unix.NLMSG_ERROR {
		return errors.New("netlink: not an answer")
	}
	if e := int32(binary.LittleEndian.Uint32(answer[unix.NLMSG_HDRLEN:])); e != 0 {
		return unix.Errno(-e)
	}
	return nil
}
