// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/testenv/need"
)

func TestReplacedFilesAreSummedUp(t *testing.T) {
	t.Parallel()
	of := map[string][]string{"aa": {"ssl"}, "bb": {"ssl", "other"}}
	sum, packages := stale([]Outdated{
		{PID: 1, Name: "nginx", Files: []string{"/usr/lib/libcrypto.so.3", "/usr/lib/libssl.so.3"}, builds: []string{"aa", "bb"}},
		{PID: 2, Name: "apache2", Files: []string{"/usr/lib/libssl.so.3", "/usr/lib/libssl.so.3"}, builds: []string{"bb", "bb"}},
		{PID: 3, Name: "mine", Files: []string{"/home/me/mine"}, builds: []string{""}},
		{PID: 4, Name: "e\x1bvil", Files: []string{"/opt/" + strings.Repeat("ä", 400) + "\n"}, builds: []string{""}},
	}, of)
	qt.Check(t, qt.DeepEquals(packages, map[string]int{"ssl": 2, "other": 2}))
	qt.Check(t, qt.Equals(sum.Processes, 3)) // what people keep in their homes is theirs
	qt.Check(t, qt.Equals(sum.More, 0))
	qt.Assert(t, qt.HasLen(sum.Files, 3))
	qt.Check(t, qt.DeepEquals(sum.Files[1:], []api.StaleFile{
		{Path: "/usr/lib/libcrypto.so.3", BuildID: "aa", Processes: 1, Program: "nginx"},
		{Path: "/usr/lib/libssl.so.3", BuildID: "bb", Processes: 2, Program: "apache2"},
	}))
	qt.Check(t, qt.Equals(sum.Files[0].Path, "/opt/"+strings.Repeat("ä", 249)+"…"))
	qt.Check(t, qt.Equals(sum.Files[0].Program, "e?vil"))
}

func TestOfManyReplacedFilesTheMostUsedAreTold(t *testing.T) {
	t.Parallel()
	var all []Outdated
	for i := range 50 {
		name := fmt.Sprintf("/usr/lib/lib%02d.so", i)
		for range 1 + i/40*6 { // the last ten are in seven processes each
			all = append(all, Outdated{Name: "d", Files: []string{name}, builds: []string{"aa"}})
		}
	}
	sum, _ := stale(all, nil)
	qt.Assert(t, qt.HasLen(sum.Files, api.MaxStaleFiles))
	qt.Check(t, qt.Equals(sum.More, 50-api.MaxStaleFiles))
	qt.Check(t, qt.Equals(sum.Processes, 40+70))
	qt.Check(t, qt.Equals(sum.Files[0].Path, "/usr/lib/lib00.so"))
	qt.Check(t, qt.Equals(sum.Files[21].Path, "/usr/lib/lib21.so"))
	qt.Check(t, qt.Equals(sum.Files[22].Path, "/usr/lib/lib40.so"))
	// A process more or less changes no choice.
	more, _ := stale(append(all, all[len(all)-1]), nil)
	for i := range sum.Files {
		qt.Check(t, qt.Equals(more.Files[i].Path, sum.Files[i].Path))
	}
}

// TestAReplacedFileOfAProcessIsFound: a package is upgraded under a process, in a
// mount namespace where that hurts nobody.
func TestAReplacedFileOfAProcessIsFound(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root mounts")
	}
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "sh", "-c", "mount -t tmpfs none /opt && cp /bin/sleep /opt/daemon && exec /opt/daemon 60")
	out, err := exec.CommandContext(t.Context(), "unshare", "--mount", "sh", "-c", "mount -t tmpfs none /opt").CombinedOutput()
	if err != nil {
		need.Allowed(t, "no namespaces here: ", string(out))
	}
	qt.Assert(t, qt.IsNil(cmd.Start()))
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	opt := fmt.Sprintf("/proc/%d/root/opt/", cmd.Process.Pid)
	exe := fmt.Sprintf("/proc/%d/exe", cmd.Process.Pid)
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if now, err := os.Readlink(exe); err == nil && now == "/opt/daemon" {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the program does not start")
		}
	}
	found := func() *Outdated {
		all, err := Host{}.Outdated(t.Context())
		qt.Assert(t, qt.IsNil(err))
		for i := range all {
			if all[i].PID == cmd.Process.Pid {
				return &all[i]
			}
		}
		return nil
	}
	qt.Check(t, qt.IsNil(found()))
	qt.Assert(t, qt.IsNil(os.WriteFile(opt+"new", []byte("another program"), 0o755)))
	qt.Assert(t, qt.IsNil(os.Rename(opt+"new", opt+"daemon")))
	o := found()
	for range 20 { // a machine that has much to do may not answer within staleEach
		if o != nil {
			break
		}
		o = found()
	}
	qt.Assert(t, qt.IsNotNil(o))
	qt.Check(t, qt.DeepEquals(o.Files, []string{"/opt/daemon"}))
	sum, _ := stale([]Outdated{*o}, nil)
	qt.Assert(t, qt.HasLen(sum.Files, 1))
	qt.Check(t, qt.Equals(sum.Files[0].Program, "daemon"))
	qt.Check(t, qt.Not(qt.Equals(sum.Files[0].BuildID, "")))
	// The same build put there again is no other.
	qt.Assert(t, qt.IsNil(os.Remove(opt+"daemon")))
	same, err := os.ReadFile("/bin/sleep")
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(os.WriteFile(opt+"daemon", same, 0o755)))
	qt.Check(t, qt.IsNil(found()))
}
