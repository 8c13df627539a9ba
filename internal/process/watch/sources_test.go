// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/testenv/need"
)

// tellSources is what the test's own program does in other namespaces.
func tellSources() int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w, err := Start(ctx, Options{Wanted: func(string) bool { return false }})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for _, s := range w.Sources() {
		fmt.Println(s.Source, s.Works, s.Problem != nil && s.Problem.Code == "TS9650")
	}
	return 0
}

func TestWhatDoesNotWorkIsSaid(t *testing.T) {
	t.Parallel()
	for name, flags := range map[string]uintptr{
		"another pid namespace":     unix.CLONE_NEWPID,
		"another network namespace": unix.CLONE_NEWNET,
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = append(os.Environ(), "TSUGI_TEST_SOURCES=1")
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
			out, err := cmd.Output()
			if err != nil && len(out) == 0 {
				need.Allowed(t, "no namespaces here: ", err)
			}
			qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", out))
			qt.Check(t, qt.Equals(string(out), "exec false true\nopen true false\nscan true false\n"))
		})
	}
}

// firstNamespaces skips a test where the kernel's connector is not for us: it
// tells root of the first namespaces, and has a file in the network's alone.
func firstNamespaces(t *testing.T) {
	t.Helper()
	// PROC_PID_INIT_INO and PROC_USER_INIT_INO of include/linux/proc_ns.h
	for file, first := range map[string]string{"pid": "pid:[4026531836]", "user": "user:[4026531837]"} {
		if ns, err := os.Readlink("/proc/self/ns/" + file); err != nil || ns != first {
			t.Skipf("the namespace is %s, %v", ns, err)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("it is for root")
	}
	if _, err := os.Stat("/proc/net/connector"); err != nil {
		t.Skipf("another network namespace, or a kernel without it: %v", err)
	}
}

// TestTheKernelTells where it is asked from the first namespaces.
func TestTheKernelTells(t *testing.T) {
	firstNamespaces(t)
	c, err := openConnector(t.Context(), onlyProcesses())
	qt.Assert(t, qt.IsNil(err))
	c.close()
}

func TestLostEventsAreNoticed(t *testing.T) {
	firstNamespaces(t)
	c, err := openConnector(t.Context(), onlyProcesses())
	qt.Assert(t, qt.IsNil(err))
	defer c.close()
	qt.Assert(t, qt.IsNil(c.conn.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1) // the kernel makes its least of it
	})))
	qt.Assert(t, qt.IsNil(err))
	for range 20 {
		qt.Assert(t, qt.IsNil(exec.Command("/bin/true").Run()))
	}
	// Where others read too, the kernel may need some more to overflow this one.
	qt.Assert(t, qt.IsNil(c.file.SetReadDeadline(time.Now().Add(time.Minute))))
	for {
		h, err := c.next()
		qt.Assert(t, qt.IsNil(err))
		if h.what == lost {
			break
		}
	}
	// And it goes on.
	qt.Assert(t, qt.IsNil(exec.Command("/bin/true").Run()))
	h, err := c.next()
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(h.pid > 0))
}
