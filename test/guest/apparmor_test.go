// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"bytes"
	"os"
	"os/exec"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/testenv/need"
	"github.com/tsugi-project/tsugi/internal/vm"
	"github.com/tsugi-project/tsugi/test/guest/inside"
)

// profiles are those of the tests, by AppArmor's language. A confined process may
// be traced by an unconfined root, and what it maps without a file is not
// mediated: the first is as narrow as the program can live with.
const profiles = `
profile narrow {
  /bin/states rm,
  /lib/** rm,
  /lib64/** rm,
}
profile traceable {
  /** rwlkm,
  ptrace (tracedby, readby),
}
profile patcher {
  /** rwlkm,
  capability,
  ptrace,
}
profile reader {
  /** rwlkm,
  capability,
}
`

const apparmorParser = "/sbin/apparmor_parser"

// apparmorPolicy compiles the profiles as the kernel takes them: AppArmor's
// parser of this machine, with the features that the parser's own release names.
func apparmorPolicy(t *testing.T) []vm.File {
	t.Helper()
	const features = "/etc/apparmor.d/abi/3.0"
	if _, err := os.Stat(apparmorParser); err != nil {
		return nil
	}
	cmd := exec.Command(apparmorParser, "--stdout", "--skip-cache", "--skip-read-cache", "--features-file", features)
	cmd.Stdin = bytes.NewBufferString(profiles)
	policy, err := cmd.Output()
	qt.Assert(t, qt.IsNil(err))
	return []vm.File{{Path: "/policy", Data: policy}}
}

// apparmor: what confines a process does not forbid to patch it, what confines
// Tsugi does.
func apparmor(t *testing.T, m *machine) {
	need.File(t, apparmorParser)
	m.script(t, "dd if=/policy of=/sys/kernel/security/apparmor/.replace bs=1M")
	narrow := m.start(t, "states", func(r *inside.Request) { r.Label = "narrow" })
	qt.Check(t, qt.Equals(m.label(t, narrow), "narrow (enforce)\n"))
	narrow.roundTrip()
	qt.Check(t, qt.Equals(narrow.do("call executable 0"), 0))
	for _, c := range []struct {
		engine, program string
		works           bool
	}{
		{"reader", "", false},
		{"reader", "traceable", false},
		{"patcher", "", true},
		{"patcher", "narrow", false},
		{"patcher", "traceable", true},
	} {
		t.Run(c.engine+" and "+c.program, func(t *testing.T) {
			p := m.start(t, "states", func(r *inside.Request) { r.Label = c.program })
			r := p.by(inside.Who{Label: c.engine}, "apply")
			if c.works {
				qt.Check(t, qt.Equals(r.State, "applied"))
				return
			}
			qt.Check(t, qt.Equals(r.State+" "+r.Code, "pending TS9607"))
			qt.Check(t, qt.StringContains(r.Why, `AppArmor confines Tsugi by the profile "`+c.engine+` (enforce)"`))
			qt.Check(t, qt.Equals(p.do("call f 3"), 4))
		})
	}
}

// label is what a security module confines a program by.
func (m *machine) label(t *testing.T, p *program) string {
	t.Helper()
	return m.ask(t, inside.Request{Do: "label", Name: p.name}).Text
}
