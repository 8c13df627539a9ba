// SPDX-License-Identifier: Apache-2.0

package console

import (
	"bytes"
	"strings"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/splice"
)

// The packages of the fleet.
var (
	libssl = livepatch.TargetRef{Name: "debian:libssl3=3.0.20-1~deb12u2", PackageVersion: "3.0.20-1~deb12u2", Arch: "x86_64"}
	psql   = livepatch.TargetRef{Name: "debian:postgresql-15=15.18-0+deb12u1", PackageVersion: "15.18-0+deb12u1", Arch: "x86_64"}
)

// library is a package with the live patches that are published for it.
type library struct {
	of       livepatch.TargetRef
	patch    *api.LivePatch // in the last tier
	function string
	fix      livepatch.FixRef
	file     livepatch.FileRef
}

func openssl() *library {
	return &library{
		of: libssl, function: "SSL_free",
		fix:  livepatch.FixRef{ID: "ssl-free", Title: "ssl: a session is freed once " + hostile, CVEs: []string{"CVE-2026-45447"}, Severity: "high"},
		file: livepatch.FileRef{BuildID: strings.Repeat("55", 20), Name: "libssl.so.3", Path: "/usr/lib/x86_64-linux-gnu/libssl.so.3", Package: "libssl3"},
	}
}

func postgres() *library {
	return &library{
		of: psql, function: "ExecInitNode",
		fix:  livepatch.FixRef{ID: "executor-depth", Title: "executor: the depth of a plan is bounded", CVEs: []string{"CVE-2026-50110"}, Severity: "critical", Exploited: true},
		file: livepatch.FileRef{BuildID: strings.Repeat("66", 20), Name: "postgres", Path: "/usr/lib/postgresql/15/bin/postgres", Package: "postgresql-15"},
	}
}

// publish publishes a live patch of a package, up to the last tier or only into the
// first.
func (k *library) publish(s *server, version int, last bool) *api.LivePatch {
	raw, err := (&splice.File{
		Format: splice.Format, BuildID: k.file.BuildID, Name: k.file.Name, Path: k.file.Path, Text: bytes.Repeat([]byte{0x90}, 16),
		Segments: []splice.Segment{{Vaddr: 0x1000, Memsz: 0x1000, Filesz: 0x1000, Flags: 5}},
		Functions: []splice.Function{
			{Name: k.function, Old: 0x1100, Size: 32, Room: 32, SHA256: strings.Repeat("0", 64), NewSize: 16, Policy: splice.Quiescent},
		},
	}).Encode()
	qt.Assert(s.t, qt.IsNil(err))
	p, err := livepatch.NewUserland(livepatch.Manifest{
		Name: name("tsugi_package_v%d", version), Version: version, Target: k.of, Fixes: []livepatch.FixRef{k.fix},
		Functions: []livepatch.Function{{Object: k.file.Name, Name: k.function, Change: "other code at +0x10"}}, Files: []livepatch.FileRef{k.file},
	}, map[string][]byte{k.file.BuildID: raw}, map[string][]byte{k.fix.ID: []byte("--- a/x\n")})
	qt.Assert(s.t, qt.IsNil(err))
	b, err := p.Bytes()
	qt.Assert(s.t, qt.IsNil(err))
	lp, err := s.admin.Publish(s.t.Context(), client.Publication{Artifact: b})
	qt.Assert(s.t, qt.IsNil(err))
	if !last {
		return lp
	}
	for _, to := range []string{"beta", "candidate", "stable"} {
		lp, err = s.admin.Promote(s.t.Context(), lp.ID, to)
		qt.Assert(s.t, qt.IsNil(err))
	}
	k.patch = lp
	return lp
}

// bare is what a machine says whose processes map it, and have no live patch.
func (k *library) bare() api.Package {
	return api.Package{ID: k.of.ID(), Target: k.of.Name, Processes: api.Processes{Unprotected: 3}}
}

// whole is a package whose live patch is in all processes.
func (k *library) whole() api.Package {
	x := k.bare()
	x.Patch = api.Patch{ID: k.patch.ID, Name: k.patch.Name, Version: k.patch.Version, State: api.Healthy, Since: time.Now().Add(-2 * time.Hour).UnixMilli()}
	x.Processes = api.Processes{Protected: 12}
	return x
}

// partly is one whose live patch some processes wait for, and others can't have
// before they are started anew.
func (k *library) partly() api.Package {
	x := k.whole()
	x.Processes.Pending, x.Processes.Unprotected, x.Stale = 1, 2, 3
	x.Reasons = []api.ProcessReason{
		{Problem: api.Problem{Code: "TS9608", What: "a seccomp filter forbids it " + hostile}, Processes: 2, Program: "sshd"},
		{Problem: api.Problem{Code: "TS9606", What: "a function is always on a stack"}, Processes: 1, Program: "nginx"},
	}
	return x
}

// upgraded is what a machine says when the package was upgraded under its processes.
func upgraded() *api.Stale {
	return &api.Stale{Processes: 4, More: 7, Files: []api.StaleFile{
		{Path: "/opt/" + hostile, Processes: 1, Program: hostile},
		{Path: "/usr/lib/x86_64-linux-gnu/libcrypto.so.3", BuildID: strings.Repeat("77", 20), Processes: 3, Program: "nginx"},
		{Path: "/usr/lib/x86_64-linux-gnu/libssl.so.3", BuildID: strings.Repeat("55", 20), Processes: 3, Program: "nginx"},
	}}
}

// crashed is one whose live patch was taken out, because a program ended with it.
func (k *library) crashed() api.Package {
	x := k.bare()
	x.Patch = k.whole().Patch
	x.Patch.State = api.Quarantined
	x.Patch.Problem = &api.Problem{Code: "TS9503", What: "a program ended by a signal", Why: "nginx (pid 77) was ended by SIGSEGV 12s after the live patch came into it " + hostile}
	return x
}
