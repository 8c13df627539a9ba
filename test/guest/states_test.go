// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"strconv"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/testenv"
	"github.com/tsugi-project/tsugi/test/guest/inside"
)

// TestDistributionKernel: all that one boot of a kernel can show. The last steps
// can't be taken back.
func TestDistributionKernel(t *testing.T) {
	m := boot(t, testenv.Demo, "", apparmorPolicy(t)...)
	all(t, m)
}

func TestOtherKernel(t *testing.T) {
	testenv.Long(t, "it boots the other kernel")
	m := boot(t, testenv.IBT, "", apparmorPolicy(t)...)
	all(t, m)
}

func all(t *testing.T, m *machine) {
	mountGroups(t, m)
	t.Run("plain", func(t *testing.T) { m.start(t, "states", nil).roundTrip() })
	t.Run("static", func(t *testing.T) { static(t, m) })
	t.Run("32 bits", func(t *testing.T) { m.start(t, "bits32", nil).named("states").refused("unprotected", "TS9603") })
	t.Run("io_uring", func(t *testing.T) { rings(t, m) })
	t.Run("seccomp", func(t *testing.T) { filters(t, m) })
	t.Run("not dumpable", func(t *testing.T) { notDumpable(t, m) })
	t.Run("setuid", func(t *testing.T) { setuid(t, m) })
	t.Run("namespaces", func(t *testing.T) { namespaces(t, m) })
	t.Run("memory limits", func(t *testing.T) { memoryLimits(t, m) })
	t.Run("mapping limits", func(t *testing.T) { mappingLimits(t, m) })
	t.Run("as it starts", func(t *testing.T) { starts(t, m) })
	t.Run("AppArmor", func(t *testing.T) { apparmor(t, m) })
	t.Run("Yama", func(t *testing.T) { yama(t, m) })
	t.Run("lockdown", func(t *testing.T) {
		m.write(t, "/sys/kernel/security/lockdown", "confidentiality")
		m.start(t, "states", nil).roundTrip()
	})
	t.Run("Yama forbids all", func(t *testing.T) { yamaForbids(t, m) })
}

// named takes another program's patch.
func (p *program) named(of string) *program {
	p.patch = patchOf(of)
	return p
}

// static programs are patched where they are what the patch is for. Of others it
// is said that nothing can be told.
func static(t *testing.T, m *machine) {
	p := m.start(t, "still", nil)
	p.roundTrip()
	of := func(patch string) inside.Found {
		for _, f := range m.ask(t, inside.Request{Do: "find", Patch: patchOf(patch)}).Found {
			if f.PID == p.pid {
				return f
			}
		}
		return inside.Found{}
	}
	qt.Check(t, qt.Equals(of("still"), inside.Found{PID: p.pid}))
	qt.Check(t, qt.Equals(of("states"), inside.Found{PID: p.pid, Static: true, Code: "TS9608"}))
}

func filters(t *testing.T, m *machine) {
	for _, c := range []struct {
		name, line string
		code       string // "": it goes in
	}{
		{"another call kills", "call kill_on " + strconv.Itoa(unix.SYS_PTRACE), ""},
		{"mmap kills", "call kill_on " + strconv.Itoa(unix.SYS_MMAP), "TS9616"},
		{"mmap fails", "call fail_on " + strconv.Itoa(unix.SYS_MMAP), ""},
		{"the return from signals kills", "call kill_on " + strconv.Itoa(unix.SYS_RT_SIGRETURN), "TS9616"},
		{"strict", "call strict 0", "TS9616"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := m.start(t, "states", nil)
			qt.Assert(t, qt.Equals(p.do("%s", c.line), 0))
			if c.code == "" {
				p.roundTrip()
				return
			}
			p.refused("unprotected", c.code)
			qt.Check(t, qt.Equals(p.do("call f 3"), 4))
		})
	}
}

func notDumpable(t *testing.T, m *machine) {
	p := m.start(t, "states", func(r *inside.Request) { r.User = 1000 })
	qt.Assert(t, qt.Equals(p.do("call dumpable 0"), 0))
	p.roundTrip()
	// Its own user may not.
	r := p.by(inside.Who{User: 1000}, "apply")
	qt.Check(t, qt.Equals(r.State+" "+r.Code, "pending TS9607"), qt.Commentf("%s", r.Why))
}

// setuid: a program that ordinary users run as root.
func setuid(t *testing.T, m *machine) {
	m.script(t, "cp /bin/states /bin/raised && chmod 4755 /bin/raised")
	p := m.start(t, "raised", func(r *inside.Request) { r.User = 1000 }).named("states")
	qt.Check(t, qt.Equals(p.do("call user 0"), 0))
	p.roundTrip()
	r := p.by(inside.Who{User: 1000}, "apply")
	qt.Check(t, qt.Equals(r.State+" "+r.Code, "pending TS9607"), qt.Commentf("%s", r.Why))
	// One that gives its rights away.
	q := m.start(t, "states", nil)
	qt.Assert(t, qt.Equals(q.do("call become 1000"), 0))
	q.roundTrip()
}

// namespaces: of a container, and of one within it.
func namespaces(t *testing.T, m *machine) {
	p := m.start(t, "states", func(r *inside.Request) { r.Spaces = true })
	p.roundTrip()
	q := m.start(t, "states", func(r *inside.Request) {
		r.Spaces = true
		r.Argv = []string{"/bin/unshare", "-U", "-r", "-p", "-f", "-m", "/bin/states"}
	})
	var pids []string
	for _, f := range m.ask(t, inside.Request{Do: "find", Patch: q.patch}).Found {
		if spaces := m.script(t, "grep NSpid /proc/"+strconv.Itoa(f.PID)+"/status"); len(strings.Fields(spaces)) == 4 {
			pids = append(pids, strings.TrimSpace(spaces))
			q.pid = f.PID
		}
	}
	qt.Assert(t, qt.HasLen(pids, 1), qt.Commentf("%v", pids))
	q.roundTrip()
}
