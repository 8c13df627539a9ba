// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/testenv"
	"github.com/tsugi-project/tsugi/internal/testenv/need"
	"github.com/tsugi-project/tsugi/internal/vm"
	"github.com/tsugi-project/tsugi/test/guest/inside"
)

// selinuxRules are a policy of SELinux's as small as it can be, in its
// intermediate language: it mediates three permissions of processes, and allows
// all else. Tsugi runs as kernel_t, as all does that nobody has given a context.
const selinuxRules = `
(handleunknown allow)
(mls false)
(class process (ptrace execmem transition dyntransition))
(classorder (process))
(sid kernel) (sid security) (sid unlabeled)
(sidorder (kernel security unlabeled))
(user u) (role r) (userrole u r)
(sensitivity s0) (sensitivityorder (s0))
(userlevel u (s0)) (userrange u ((s0) (s0)))
(type kernel_t) (type plain_t) (type narrow_t) (type untraced_t)
(typeattribute every)
(typeattributeset every (kernel_t plain_t narrow_t untraced_t))
(roletype r every)
(sidcontext kernel (u r kernel_t ((s0) (s0))))
(sidcontext security (u r kernel_t ((s0) (s0))))
(sidcontext unlabeled (u r kernel_t ((s0) (s0))))
(allow kernel_t every (process (transition)))
(allow kernel_t kernel_t (process (ptrace execmem)))
(allow kernel_t plain_t (process (ptrace)))
(allow kernel_t narrow_t (process (ptrace)))
(allow plain_t plain_t (process (execmem)))
(allow untraced_t untraced_t (process (execmem)))
`

// TestSELinux: an enforcing kernel. What it forbids is named, with both contexts.
func TestSELinux(t *testing.T) {
	testenv.Long(t, "it boots a kernel with another security module")
	compiler := need.Program(t, "secilc")
	rules, policy := filepath.Join(t.TempDir(), "rules"), filepath.Join(t.TempDir(), "policy")
	qt.Assert(t, qt.IsNil(os.WriteFile(rules, []byte(selinuxRules), 0o644)))
	cmd := exec.Command(compiler, "--mls", "false", "--policyvers", "33", "--output", policy, "--filecontext", "/dev/null", rules)
	out, err := cmd.CombinedOutput()
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", out))
	m := boot(t, testenv.Demo, "security=selinux enforcing=1", vm.File{Path: "/policy", From: policy})
	m.script(t, "mount -t selinuxfs selinuxfs /sys/fs/selinux && (dd if=/policy of=/sys/fs/selinux/load bs=1M || { dmesg | grep -i selinux; false; })")
	qt.Assert(t, qt.Equals(m.script(t, "cat /sys/fs/selinux/enforce"), "1"))

	in := func(label string) *program {
		p := m.start(t, "states", func(r *inside.Request) { r.Label = "u:r:" + label })
		qt.Assert(t, qt.Equals(m.label(t, p), "u:r:"+label+"\x00"))
		return p
	}
	t.Run("allowed", func(t *testing.T) {
		p := in("plain_t")
		p.t = t
		p.roundTrip()
	})
	t.Run("no execmem", func(t *testing.T) {
		p := in("narrow_t")
		p.t = t
		qt.Check(t, qt.Equals(p.do("call executable 0"), -13))
		r := p.refused("pending", "TS9641")
		qt.Check(t, qt.StringContains(r.Why, "execmem"))
		qt.Check(t, qt.Equals(p.do("call f 3"), 4))
	})
	t.Run("no ptrace", func(t *testing.T) {
		p := in("untraced_t")
		p.t = t
		r := p.refused("pending", "TS9607")
		qt.Check(t, qt.StringContains(r.Why, `SELinux has Tsugi in the context "u:r:kernel_t", the process in "u:r:untraced_t"`))
		qt.Check(t, qt.Equals(p.do("call f 3"), 4))
	})
}
