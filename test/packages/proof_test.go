// SPDX-License-Identifier: Apache-2.0

package packages

import (
	"os"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/proof"
	"github.com/tsugi-project/tsugi/internal/proof/guest"
	"github.com/tsugi-project/tsugi/internal/testenv"
	"github.com/tsugi-project/tsugi/internal/userland"
	"github.com/tsugi-project/tsugi/internal/userland/build"
)

var (
	initDir   string
	buildInit = testenv.Static(&initDir, "../../internal/proof/testdata/init")
)

func TestMain(m *testing.M) {
	guest.Main() // a job's worker proves with its own program as process 1
	testenv.Main(m, &initDir)
}

// proved proves a live patch of a package by a reproducer.
func proved(t *testing.T, of *userland.Target, patch, older *livepatch.Patch, script, probe string) *proof.Proof {
	t.Helper()
	k := testenv.Kernel(t, testenv.Demo)
	r, err := proof.FromPackage(patch, of, k)
	qt.Assert(t, qt.IsNil(err))
	if older != nil {
		qt.Assert(t, qt.IsNil(r.Supersedes(older)))
	}
	var n proof.Needs
	qt.Assert(t, qt.IsNil(n.Read("reproducer", script)))
	n.Apply(&r)
	r.Reproducer, r.Probe, r.Cycles = script, probe, 2
	r.Init, err = buildInit()
	qt.Assert(t, qt.IsNil(err))
	p, err := proof.Prove(t.Context(), r, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	for _, c := range p.Checks {
		t.Logf("%-12s %s %d ms %s", c.ID, c.Status, c.MS, c.Detail)
	}
	t.Logf("proof of %s: boot %d ms, whole %d ms", patch.Manifest.Name, p.After.BootMS, p.Elapsed)
	return p
}

// scriptOf reads a reproducer of testdata.
func scriptOf(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	qt.Assert(t, qt.IsNil(err))
	return string(b)
}

// codesOf are the problems of a proof.
func codesOf(p *proof.Proof) string {
	var out []string
	for _, q := range p.Problems {
		out = append(out, string(q.Code))
	}
	return strings.Join(out, " ")
}

// A fix of OpenSSL is proved in a virtual machine that has Debian's own libssl3;
// one of something else does not cure what the reproducer shows, which the proof
// says; and the fix takes its place in the processes.
func TestAFixOfOpenSSLIsProvedInAVirtualMachine(t *testing.T) {
	old, with := target(t, vulnerable), target(t, repaired)
	of := func(version int, cve string) *livepatch.Patch {
		r := requested(t, build.Request{
			Target: old, Version: version,
			Fixes: fixesOf(t, old, with, func(c string) bool { return c == cve }),
		})
		return r.Artifact
	}
	other := of(1, "CVE-2026-42770")
	script, probe := scriptOf(t, "CVE-2026-45445.sh"), `test "$(ask nonces)" != broken`
	p := proved(t, old, other, nil, script, probe)
	qt.Check(t, qt.Equals(codesOf(p), "TS6106 TS6119"))
	qt.Check(t, qt.Equals(p.Verdict, proof.Failed))
	qt.Check(t, qt.Equals(p.Before.Reproducer.Output, "the same\n"))
	qt.Check(t, qt.Equals(p.After.Reproducer.Output, "the same\n"))

	p = proved(t, old, of(2, "CVE-2026-45445"), other, script, probe)
	qt.Check(t, qt.Equals(codesOf(p), ""))
	qt.Check(t, qt.Equals(p.Verdict, proof.Proved))
	qt.Check(t, qt.Equals(p.Target.Name, vulnerable))
	qt.Check(t, qt.Equals(p.After.Reproducer.Output, "different\n"))
	for _, c := range p.Checks {
		qt.Check(t, qt.Equals(c.Status, proof.Pass), qt.Commentf("%s", c.ID))
	}
	b, err := p.Bytes()
	qt.Assert(t, qt.IsNil(err))
	_, err = proof.Read(b)
	qt.Check(t, qt.IsNil(err))
}

// shownFixed checks that a proof holds, and what the reproducer said without the
// live patch and with it. That it fails again once it is out is one of the checks.
func shownFixed(t *testing.T, p *proof.Proof, vulnerable, fixed string) {
	t.Helper()
	qt.Check(t, qt.Equals(codesOf(p), ""))
	qt.Assert(t, qt.Equals(p.Verdict, proof.Proved))
	qt.Check(t, qt.Equals(p.Before.Reproducer.Output, vulnerable))
	qt.Check(t, qt.Equals(p.After.Reproducer.Output, fixed))
	for _, c := range p.Checks {
		qt.Check(t, qt.IsTrue(c.Status == proof.Pass || c.ID == proof.CheckReplaced), qt.Commentf("%s", c.ID))
	}
}

// Two CVEs of glibc are shown in a program whose threads use what they are in all
// the time; the machine has no other libc.
func TestFixesOfGlibcAreProvedInAVirtualMachine(t *testing.T) {
	old := target(t, "debian:libc6=2.36-9+deb12u7")
	var fixes []*fix.Fix
	for _, x := range glibc {
		fixes = append(fixes, glibcFix(t, x.cve, x.file, x.function))
	}
	script := `#!/bin/sh
# tsugi: c glibc -lpthread
# tsugi: talk glibc 8
a=$(ask CVE-2025-8058) b=$(ask CVE-2026-0861)
echo "$a, $b"
test "$a, $b" = "fixed, fixed"

exit $?
: <<'glibc.c'
` + scriptOf(t, "glibc.c") + "glibc.c\n"
	p := proved(t, old, live(t, old, fixes...).Artifact, nil, script, `ask work | grep -q ' done, 0 wrong$'`)
	shownFixed(t, p, "vulnerable: 1 blocks were freed twice, vulnerable: signal 11\n", "fixed, fixed\n")
}

// A change of PostgreSQL goes into the server and all that it has started.
func TestAChangeOfPostgreSQLIsProvedInAVirtualMachine(t *testing.T) {
	of := target(t, postgres)
	p := proved(t, of, postgresChange(t, of, 1).Artifact, nil, scriptOf(t, "postgresql.sh"),
		`test "$(psql -h /tmp -U nobody -X -A -t -q -c 'select 1 + 1' postgres)" = 2`)
	shownFixed(t, p, "ERROR:  integer out of range\n", "ERROR:  integer out of range, change 1\n")
}

// And one of MariaDB, whose client comes from the archive, as its libraries do.
func TestAChangeOfMariaDBIsProvedInAVirtualMachine(t *testing.T) {
	of := target(t, mariadb)
	dir := place(t)
	unpacked(t, of, dir, "mariadb-client", "mariadb-client-core", "libmariadb3")
	t.Setenv("PATH", dir+"/usr/bin:"+os.Getenv("PATH"))
	t.Setenv("LD_LIBRARY_PATH", dir+"/usr/lib/x86_64-linux-gnu")
	p := proved(t, of, mariadbChange(t, of, 1, crc32Change).Artifact, nil, scriptOf(t, "mariadb.sh"),
		`test "$(mariadb --no-defaults -S /run/db/socket -N -B -e 'select 1 + 1')" = 2`)
	shownFixed(t, p, "70417764242\t4279382087\n", "70417764243\t42\n")
}
