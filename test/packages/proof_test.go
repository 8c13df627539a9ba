// SPDX-License-Identifier: Apache-2.0

package packages

import (
	"os"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

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

// proved proves a live patch of a library by a reproducer of testdata.
func proved(t *testing.T, of *userland.Target, patch, older *livepatch.Patch, script string) *proof.Proof {
	t.Helper()
	k := testenv.Kernel(t, testenv.Demo)
	text, err := os.ReadFile("testdata/" + script)
	qt.Assert(t, qt.IsNil(err))
	r, err := proof.FromPackage(patch, of, k)
	qt.Assert(t, qt.IsNil(err))
	if older != nil {
		qt.Assert(t, qt.IsNil(r.Supersedes(older)))
	}
	var n proof.Needs
	qt.Assert(t, qt.IsNil(n.Read(script, string(text))))
	n.Apply(&r)
	r.Reproducer, r.Probe, r.Cycles = string(text), `test "$(ask nonces)" != broken`, 2
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
	p := proved(t, old, other, nil, "CVE-2026-45445.sh")
	qt.Check(t, qt.Equals(codesOf(p), "TS6106 TS6119"))
	qt.Check(t, qt.Equals(p.Verdict, proof.Failed))
	qt.Check(t, qt.Equals(p.Before.Reproducer.Output, "the same\n"))
	qt.Check(t, qt.Equals(p.After.Reproducer.Output, "the same\n"))

	p = proved(t, old, of(2, "CVE-2026-45445"), other, "CVE-2026-45445.sh")
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
