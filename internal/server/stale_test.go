// SPDX-License-Identifier: Apache-2.0

package server

import (
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
)

// replaced is what a machine tells whose libssl was upgraded under three processes.
func replaced() *api.Stale {
	return &api.Stale{Processes: 3, Files: []api.StaleFile{
		{Path: "/usr/lib/x86_64-linux-gnu/libcrypto.so.3", BuildID: strings.Repeat("ab", 20), Processes: 2, Program: "nginx"},
		{Path: "/usr/lib/x86_64-linux-gnu/libssl.so.3", BuildID: strings.Repeat("cd", 20), Processes: 3, Program: "nginx"},
	}}
}

// TestReplacedFilesAreSeenByOperators: of the machine, in lists and counts, and with
// what is open in the package.
func TestReplacedFilesAreSeenByOperators(t *testing.T) {
	t.Parallel()
	s := calm(t, "")
	ctx := t.Context()
	p := s.publishPackage(openssl, 1, 1)
	token := s.token(func(in *api.NewToken) { in.Group = "web" }).Secret
	h := s.enroll(token, "web-1")
	a := h.checkIn(t)
	qt.Assert(t, qt.IsNotNil(a))
	qt.Check(t, qt.IsTrue(slices.Contains(a.Want, api.WantStale))) // an agent that knows it tells from now on
	other := s.enroll(token, "web-2")
	other.checkIn(t)
	pack := with(openssl, p, api.Processes{Protected: 1, Pending: 2})
	pack.Stale = 2
	h.report.Packages, h.report.Stale = []api.Package{pack}, replaced()
	h.checkIn(t)
	s.recount()

	m, err := s.admin.Machine(ctx, h.enrolled.Machine)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(m.Stale, replaced()))
	qt.Assert(t, qt.HasLen(m.Packages, 1))
	qt.Check(t, qt.Equals(m.Packages[0].Stale, 2))
	qt.Check(t, qt.IsTrue(strings.HasSuffix(m.Packages[0].Reason, "; 2 processes run files that are not on the disk any more: a restart gives them the version that is")), qt.Commentf("%s", m.Packages[0].Reason))
	qt.Assert(t, qt.HasLen(m.Open, 1))
	qt.Check(t, qt.IsTrue(strings.HasSuffix(m.Open[0].Why, m.Packages[0].Reason[strings.LastIndex(m.Packages[0].Reason, ";"):])), qt.Commentf("%s", m.Open[0].Why))
	m, err = s.admin.Machine(ctx, other.enrolled.Machine)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsNil(m.Stale)) // it has not told, which is not none

	list, err := s.admin.Machines(ctx, client.MachineFilter{Stale: true})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(list.Items, 1))
	qt.Check(t, qt.Equals(list.Items[0].Hostname, "web-1"))
	qt.Check(t, qt.DeepEquals(list.Items[0].Stale, &api.Stale{Processes: 3})) // files with one machine only
	o, err := s.admin.Overview(ctx)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(o.Stale, 1))
	qt.Check(t, qt.Equals(counted(t, s, "tsugi_machines_stale"), 1.0))
	for _, x := range read[api.List[api.TargetInfo]](s, "/v1/targets").Items {
		if x.Target == openssl.Name {
			qt.Check(t, qt.Equals(x.Stale, 1))
		}
	}

	// Processes come and go: the latest counts are told and nothing is written down.
	saved := counted(t, s, `tsugi_check_ins_total{outcome="stored"}`)
	h.report.Stale.Processes, h.report.Stale.Files[1].Processes, h.report.Stale.Files[0].Program = 9, 9, "haproxy"
	h.report.Packages[0].Stale = 8
	h.checkIn(t)
	qt.Check(t, qt.Equals(counted(t, s, `tsugi_check_ins_total{outcome="stored"}`), saved))
	m, err = s.admin.Machine(ctx, h.enrolled.Machine)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(m.Stale.Processes, 9))
	qt.Check(t, qt.Equals(m.Stale.Files[1].Processes, 9))
	qt.Check(t, qt.Equals(m.Packages[0].Stale, 8))

	// They were started anew.
	h.report.Stale, h.report.Packages[0].Stale = &api.Stale{}, 0
	h.checkIn(t)
	s.recount()
	qt.Check(t, qt.Equals(counted(t, s, `tsugi_check_ins_total{outcome="stored"}`), saved+1))
	m, err = s.admin.Machine(ctx, h.enrolled.Machine)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(m.Stale, &api.Stale{}))
	list, err = s.admin.Machines(ctx, client.MachineFilter{Stale: true})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(list.Items, 0))
	// A server that begins knows it by what is written down.
	h.report.Stale = replaced()
	h.checkIn(t)
	f := newFleet()
	qt.Assert(t, qt.IsNil(f.load(ctx, s.store)))
	had := f.byID(h.enrolled.Machine).stale
	qt.Assert(t, qt.IsNotNil(had))
	qt.Check(t, qt.Equals(had.all, 3))
	qt.Check(t, qt.DeepEquals(had.files, []int{2, 3}))
}

func TestReplacedFilesThatBreakARuleAreRefused(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*api.Stale){
		"less than no process":      func(s *api.Stale) { s.Processes = -1 },
		"more than Linux has":       func(s *api.Stale) { s.Processes = 1 << 23 },
		"files of nobody":           func(s *api.Stale) { s.Processes = 0 },
		"too many files":            func(s *api.Stale) { s.Files = make([]api.StaleFile, api.MaxStaleFiles+1) },
		"less than no file":         func(s *api.Stale) { s.More = -1 },
		"no path":                   func(s *api.Stale) { s.Files[0].Path = "" },
		"a path without end":        func(s *api.Stale) { s.Files[0].Path = "/" + strings.Repeat("x", api.MaxStalePath) },
		"a path with an escape":     func(s *api.Stale) { s.Files[0].Path = "/usr/\x1b[2J" },
		"a build-id that is no hex": func(s *api.Stale) { s.Files[0].BuildID = "<b>" },
		"a file in no process":      func(s *api.Stale) { s.Files[0].Processes = 0 },
		"a program without end":     func(s *api.Stale) { s.Files[0].Program = strings.Repeat("x", 65) },
	} {
		in := checkInOf("a")
		in.Stale = replaced()
		qt.Assert(t, qt.IsNil(checkCheckIn(&in)))
		edit(in.Stale)
		qt.Check(t, qt.IsNotNil(checkCheckIn(&in)), qt.Commentf("%s", name))
	}
	in := checkInOf("a")
	in.Packages = []api.Package{{ID: openssl.ID(), Target: openssl.Name, Stale: -1}}
	qt.Check(t, qt.IsNotNil(checkCheckIn(&in)))
}
