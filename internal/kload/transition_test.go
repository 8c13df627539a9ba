// SPDX-License-Identifier: Apache-2.0

package kload_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/kload"
	"github.com/tsugi-project/tsugi/internal/testenv"
)

// host is a machine with a live patch in transition that three tasks hold:
// its own, one in the replacement of an older live patch, and one of which
// nothing is seen. A fourth has switched, a fifth takes no part.
const host = `
-- sys/kernel/livepatch/tsugi_p/enabled --
1
-- sys/kernel/livepatch/tsugi_p/transition --
1
-- sys/kernel/livepatch/tsugi_p/ext4/ext4_rmdir,1/ --
-- sys/kernel/livepatch/tsugi_p/vmlinux/do_it,2/ --
-- sys/kernel/livepatch/tsugi_older/enabled --
1
-- sys/kernel/livepatch/tsugi_older/transition --
0
-- sys/kernel/livepatch/tsugi_older/vmlinux/do_it,1/ --
-- sys/module/tsugi_p/refcnt --
1
-- proc/7/task/7/patch_state --
0
-- proc/7/task/7/comm --
a) S 1 (b
-- proc/7/task/7/stat --
7 (a) S 1 (b) S 1 7 7 0 -1 4194560 188 116 0 0
-- proc/7/task/7/stack --
[<0>] vfs_rmdir+0x60/0x90
-- proc/8/task/9/patch_state --
0
-- proc/8/task/9/comm --
rm
-- proc/8/task/9/stat --
9 (rm) D 1 8 8 0 -1 4194560 188 116 0 0
-- proc/8/task/9/stack --
[<0>] schedule+0x5a/0xd0
[<0>] do_it+0x10/0x20 [ext4]
[<0>] ext4_rmdir+0x60/0x90 [ext4]
[<0>] do_it+0x10/0x20
-- proc/12/task/12/patch_state --
0
-- proc/12/task/12/comm --
kworker/0:1
-- proc/12/task/12/stat --
12 (kworker/0:1) I 2 0 0 0 -1 69238880 0 0 0 0
-- proc/12/task/12/stack --
[<0>] helper+0x1/0x2 [tsugi_older]
-- proc/20/task/20/patch_state --
1
-- proc/20/task/20/comm --
done
-- proc/21/task/21/patch_state --
-1
-- proc/21/task/21/comm --
none
-- dev/kmsg --
`

// system fakes the system calls of modules.
type system struct {
	insert, remove error
	busy           int // times that remove fails first
	removed        []string
}

func (s *system) Insert([]byte, string) error { return s.insert }

func (s *system) Remove(name string) error {
	if s.busy > 0 {
		s.busy--
		return unix.EAGAIN
	}
	s.removed = append(s.removed, name)
	return s.remove
}

func loader(t testing.TB, sys *system, more ...string) (*kload.Loader, string) {
	root := testenv.Tree(t, append([]string{host}, more...)...)
	return kload.New(kload.Options{Root: root, System: sys}), root
}

func write(t testing.TB, root, path, text string) {
	t.Helper()
	qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(root, path), []byte(text), 0o644)))
}

const dir = "sys/kernel/livepatch/tsugi_p"

func TestATransitionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, root := loader(t, &system{})
		go func() {
			time.Sleep(2500 * time.Millisecond)
			write(t, root, dir+"/transition", "0\n")
		}()
		tr, err := l.Watch(t.Context(), "tsugi-p", kload.Patched, kload.WatchOptions{})
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsTrue(tr.Done))
		qt.Check(t, qt.IsTrue(tr.Duration >= 2500*time.Millisecond && tr.Duration <= 2520*time.Millisecond), qt.Commentf("%v", tr.Duration))
		qt.Check(t, qt.HasLen(tr.Slow, 0))
	})
}

func TestATransitionThatTasksHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := loader(t, &system{})
		var ticks []kload.Transition
		tr, err := l.Watch(t.Context(), "tsugi_p", kload.Patched, kload.WatchOptions{OnTick: func(x kload.Transition) { ticks = append(ticks, x) }})
		qt.Assert(t, qt.Equals(code.Of(err), "TS9309"))
		qt.Check(t, qt.Equals(tr.Duration.Round(time.Second), time.Minute))
		qt.Check(t, qt.HasLen(ticks, 12)) // after 4 s, and each 5 s from then
		qt.Check(t, qt.HasLen(ticks[0].Slow, 3))
		qt.Check(t, qt.Equals(tr.Waiting, 3))
		qt.Check(t, qt.IsFalse(tr.Hidden()))
		qt.Check(t, qt.DeepEquals(tr.Holders, []kload.Task{
			{
				PID: 8, TID: 9, Comm: "rm", State: "D", Function: "ext4_rmdir",
				Stack: []string{"[<0>] schedule+0x5a/0xd0", "[<0>] do_it+0x10/0x20 [ext4]", "[<0>] ext4_rmdir+0x60/0x90 [ext4]", "[<0>] do_it+0x10/0x20"},
			},
			{PID: 12, TID: 12, Comm: "kworker/0:1", State: "I", Kernel: true, Function: "helper", Stack: []string{"[<0>] helper+0x1/0x2 [tsugi_older]"}},
			{PID: 7, TID: 7, Comm: "a) S 1 (b", State: "S", Stack: []string{"[<0>] vfs_rmdir+0x60/0x90"}},
		}))
		qt.Check(t, qt.StringContains(err.Error(), "rm (9) is in ext4_rmdir, waiting for a device or a server"))
	})
}

func TestATransitionThatNobodyIsSeenToHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, root := loader(t, &system{})
		for _, p := range []string{"7/task/7", "8/task/9", "12/task/12"} {
			write(t, root, "proc/"+p+"/patch_state", "1\n")
		}
		tr, err := l.Watch(t.Context(), "tsugi_p", kload.Patched, kload.WatchOptions{Limit: 10 * time.Second})
		qt.Assert(t, qt.Equals(code.Of(err), "TS9309"))
		qt.Check(t, qt.IsTrue(tr.Hidden()))
		qt.Check(t, qt.StringContains(err.Error(), "idle task"))
	})
}

func TestATransitionBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, root := loader(t, &system{})
		// Who is in the live patch's own module holds the way back.
		write(t, root, dir+"/enabled", "0\n")
		write(t, root, "proc/20/task/20/stack", "[<0>] do_it+0x1/0x2\n[<0>] new_do_it+0x1/0x2 [tsugi_p]\n")
		tr, err := l.Watch(t.Context(), "tsugi_p", kload.Unpatched, kload.WatchOptions{Limit: 10 * time.Second})
		qt.Assert(t, qt.Equals(code.Of(err), "TS9309"))
		qt.Assert(t, qt.HasLen(tr.Holders, 1))
		qt.Check(t, qt.Equals(tr.Holders[0].Comm, "done"))
		qt.Check(t, qt.Equals(tr.Holders[0].Function, "new_do_it"))
	})
}

func TestWhoTurnsATransitionRoundIsSeen(t *testing.T) {
	for _, c := range []struct {
		name string
		want kload.Direction
		do   func(t testing.TB, root string)
	}{
		{"disabled", kload.Patched, func(t testing.TB, root string) { write(t, root, dir+"/enabled", "0\n") }},
		{"gone", kload.Patched, func(t testing.TB, root string) { qt.Check(t, qt.IsNil(os.RemoveAll(filepath.Join(root, dir)))) }},
		{"enabled again", kload.Unpatched, func(testing.TB, string) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, root := loader(t, &system{})
				go func() { time.Sleep(time.Second); c.do(t, root) }()
				_, err := l.Watch(t.Context(), "tsugi_p", c.want, kload.WatchOptions{})
				qt.Check(t, qt.Equals(code.Of(err), "TS9311"))
				synctest.Wait()
				time.Sleep(2 * time.Second)
			})
		})
	}
}

func TestAWatchEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := loader(t, &system{})
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		tr, err := l.Watch(ctx, "tsugi_p", kload.Patched, kload.WatchOptions{})
		qt.Check(t, qt.ErrorIs(err, context.DeadlineExceeded))
		qt.Check(t, qt.IsFalse(tr.Done))
	})
}

func TestALivePatchIsReverted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := &system{busy: 20}
		l, root := loader(t, sys)
		go func() {
			time.Sleep(time.Second)
			b, err := os.ReadFile(filepath.Join(root, dir, "enabled"))
			qt.Check(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(strings.TrimSpace(string(b[:1])), "0"))
			qt.Check(t, qt.IsNil(os.RemoveAll(filepath.Join(root, dir))))
		}()
		tr, err := l.Revert(t.Context(), "tsugi-p", kload.WatchOptions{})
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsTrue(tr.Done))
		qt.Check(t, qt.DeepEquals(sys.removed, []string{"tsugi_p"}))
		// The module is what is left when the last Revert was interrupted.
		_, err = l.Revert(t.Context(), "tsugi_p", kload.WatchOptions{})
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.IsNil(os.RemoveAll(filepath.Join(root, "sys/module/tsugi_p"))))
		_, err = l.Revert(t.Context(), "tsugi_p", kload.WatchOptions{})
		qt.Check(t, qt.Equals(code.Of(err), "TS9310"))
	})
}

func TestModulesThatDoNotLeave(t *testing.T) {
	for _, c := range []struct {
		sys  system
		want code.Code
	}{
		{system{busy: 1 << 30}, "TS9313"},
		{system{remove: unix.EPERM}, "TS9307"},
		{system{remove: unix.EINVAL}, "TS9313"},
		{system{remove: unix.ENOENT}, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			l, _ := loader(t, &c.sys)
			start := time.Now()
			qt.Check(t, qt.Equals(code.Of(l.Remove(t.Context(), "tsugi_p")), c.want))
			qt.Check(t, qt.IsTrue(time.Since(start) < 11*time.Second))
		})
	}
}

// A module without exit function is left where it is: it does nothing, and
// can't be loaded again.
func TestAModuleThatStays(t *testing.T) {
	const modules = "-- proc/modules --\ntsugi_other 16384 0 [permanent], Live 0x0000000000000000 (OEK)\ntsugi_p 16384 0 %s Live 0x0000000000000000 (OEK)\n"
	for stays, users := range map[bool]string{true: "[permanent],", false: "-"} {
		synctest.Test(t, func(t *testing.T) {
			l, root := loader(t, &system{insert: unix.EEXIST, remove: unix.EBUSY}, fmt.Sprintf(modules, users))
			qt.Check(t, qt.Equals(l.Stays("tsugi-p"), stays))
			qt.Check(t, qt.IsFalse(l.Stays("tsugi_none")))
			start := time.Now()
			err := l.Remove(t.Context(), "tsugi-p")
			qt.Check(t, qt.Equals(err == nil, stays), qt.Commentf("%v", err))
			qt.Check(t, qt.Equals(time.Since(start) == 0, stays))
			err = l.Load(t.Context(), []byte("ko"), "tsugi-p")
			qt.Check(t, qt.Equals(code.Of(err), "TS9306"))
			qt.Check(t, qt.Equals(strings.Contains(err.Error(), "until the next one"), stays), qt.Commentf("%v", err))
			qt.Assert(t, qt.IsNil(os.RemoveAll(filepath.Join(root, dir))))
			_, err = l.Revert(t.Context(), "tsugi-p", kload.WatchOptions{})
			qt.Check(t, qt.Equals(err == nil, stays), qt.Commentf("%v", err))
		})
	}
}

func TestWhatCanBeReversed(t *testing.T) {
	l, root := loader(t, &system{})
	read := func() string {
		b, err := os.ReadFile(filepath.Join(root, dir, "enabled"))
		qt.Assert(t, qt.IsNil(err))
		return string(b[:1])
	}
	qt.Check(t, qt.IsNil(l.Reverse(t.Context(), "tsugi_p")))
	qt.Check(t, qt.Equals(read(), "0"))
	qt.Check(t, qt.IsNil(l.Disable(t.Context(), "tsugi_p"))) // it is on its way
	qt.Check(t, qt.IsNil(l.Reverse(t.Context(), "tsugi_p")))
	qt.Check(t, qt.Equals(read(), "1"))
	qt.Check(t, qt.Equals(code.Of(l.Reverse(t.Context(), "tsugi_older")), "TS9312"))
	qt.Check(t, qt.Equals(code.Of(l.Reverse(t.Context(), "tsugi_none")), "TS9310"))
	qt.Check(t, qt.Equals(code.Of(l.Disable(t.Context(), "tsugi_none")), "TS9310"))
	p, ok, err := l.Get("tsugi-p")
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(ok && p.Transition))
	_, err = kload.New(kload.Options{Root: t.TempDir()}).Loaded()
	qt.Check(t, qt.Equals(code.Of(err), "TS9202"))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	qt.Check(t, qt.ErrorIs(l.Reverse(ended, "tsugi_p"), context.Canceled))
	qt.Check(t, qt.ErrorIs(l.Load(ended, nil, "tsugi_p"), context.Canceled))
}

func TestErrorNumbersHaveMeanings(t *testing.T) {
	yes := func(v bool) *bool { return &v }
	for _, c := range []struct {
		err  error
		s    kload.Situation
		want code.Code
		why  string
	}{
		{unix.EKEYREJECTED, kload.Situation{Said: "Loading of unsigned module is rejected"}, "TS9302", "carries no signature"},
		{unix.EKEYREJECTED, kload.Situation{Said: "Loading of module with unavailable key is rejected"}, "TS9302", "none of the kernel's keyrings"},
		{unix.EKEYREJECTED, kload.Situation{SigEnforce: yes(true)}, "TS9302", "demands a signature"},
		{unix.ENOKEY, kload.Situation{}, "TS9302", ""},
		{unix.EBADMSG, kload.Situation{}, "TS9302", "damaged"},
		{unix.ENOPKG, kload.Situation{}, "TS9302", "cannot verify"},
		{unix.EKEYREVOKED, kload.Situation{}, "TS9302", "revoked"},
		{unix.EPERM, kload.Situation{Lockdown: "integrity"}, "TS9302", "locked down (integrity)"},
		{unix.EPERM, kload.Situation{Disabled: true, Lockdown: "integrity"}, "TS9204", "modules_disabled"},
		{unix.EPERM, kload.Situation{Lockdown: "none"}, "TS9307", ""},
		{unix.ENOEXEC, kload.Situation{Said: "tsugi_p: disagrees about version of symbol module_layout"}, "TS9303", "module_layout"},
		{unix.EEXIST, kload.Situation{}, "TS9306", ""},
		{unix.ENOMEM, kload.Situation{}, "TS9308", ""},
		{unix.ENODEV, kload.Situation{}, "TS9202", ""},
		{unix.EBUSY, kload.Situation{Transition: "tsugi_q", FtraceEnabled: yes(false)}, "TS9304", "tsugi_q"},
		{unix.EBUSY, kload.Situation{FtraceEnabled: yes(false)}, "TS9206", "ftrace_enabled"},
		{unix.EBUSY, kload.Situation{FtraceEnabled: yes(true)}, "TS9305", ""},
		{unix.EINVAL, kload.Situation{Said: "livepatch: symbol 'f' not found in symbol table"}, "TS9301", "'f' not found"},
		{unix.ENOENT, kload.Situation{}, "TS9301", ""},
		{errors.New("no number"), kload.Situation{}, "TS9301", "no number"},
	} {
		p := kload.Meaning("tsugi_p", c.err, c.s)
		qt.Check(t, qt.Equals(p.Code, c.want), qt.Commentf("%v %+v", c.err, c.s))
		qt.Check(t, qt.StringContains(p.Error(), c.why), qt.Commentf("%v %+v", c.err, c.s))
		qt.Check(t, qt.ErrorIs(p, c.err))
		qt.Check(t, qt.Not(qt.Equals(p.Fix, "")))
	}
}

// TestTheSituationIsLookedAt: what is not in the error number is in /proc and
// /sys.
func TestTheSituationIsLookedAt(t *testing.T) {
	const quiet = "-- sys/kernel/livepatch/tsugi_p/transition --\n0\n"
	for _, c := range []struct {
		name, tree string
		err        error
		want       code.Code
	}{
		{"another transition", "", unix.EBUSY, "TS9304"},
		{"the tracer is off", quiet + "-- proc/sys/kernel/ftrace_enabled --\n0\n", unix.EBUSY, "TS9206"},
		{"someone else", quiet + "-- proc/sys/kernel/ftrace_enabled --\n1\n", unix.EBUSY, "TS9305"},
		{"locked down", "-- sys/kernel/security/lockdown --\nnone [integrity] confidentiality\n", unix.EPERM, "TS9302"},
		{"no more modules", "-- proc/sys/kernel/modules_disabled --\n1\n", unix.EPERM, "TS9204"},
		{"it is well", "", nil, ""},
	} {
		l, _ := loader(t, &system{insert: c.err}, c.tree)
		err := l.Load(t.Context(), nil, "tsugi_p")
		qt.Check(t, qt.Equals(code.Of(err), c.want), qt.Commentf("%s: %v", c.name, err))
	}
}

// TestAWaitForTheLogEnds where the log is a file.
func TestAWaitForTheLogEnds(t *testing.T) {
	l, root := loader(t, &system{}, "-- dev/kmsg --\n4,1,2,-;one record\n")
	log, err := l.KlogFromStart()
	qt.Assert(t, qt.IsNil(err))
	r, err := log.Next(t.Context())
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(r.Text, "one record"))
	_, err = log.Next(t.Context())
	qt.Check(t, qt.ErrorIs(err, io.EOF))
	qt.Check(t, qt.IsNil(log.Close()))

	path := filepath.Join(root, "dev/kmsg")
	qt.Assert(t, qt.IsNil(os.Remove(path)))
	_, err = l.Klog()
	qt.Check(t, qt.Equals(code.Of(err), "TS9314"))
}
