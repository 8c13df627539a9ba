// SPDX-License-Identifier: Apache-2.0

package server

import (
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
)

// TestAMachineIsToldByItsWorstPart: one that is protected in its kernel and has
// processes with the old code of a library is not called protected anywhere.
func TestAMachineIsToldByItsWorstPart(t *testing.T) {
	t.Parallel()
	s := calm(t, "")
	ctx := t.Context()
	kernel, p := s.publishVersion(1), s.publishPackage(openssl, 1, 1)
	token := s.token().Secret
	healthy := api.Patch{ID: kernel.ID, Name: kernel.Name, Version: 1, State: api.Healthy}
	made := unpatched(postgres) // nothing is published for it
	for name, c := range map[string]struct {
		kernel             api.Patch
		packages           []api.Package
		whole, ofIts       api.Protection
		reason, kernelSays string
	}{
		"both":     {healthy, []api.Package{with(openssl, p, api.Processes{Protected: 3})}, api.Protected, api.Protected, "version 1", "version 1"},
		"lacks":    {healthy, []api.Package{with(openssl, p, api.Processes{Protected: 3, Unprotected: 3})}, api.Partly, api.Protected, openssl.Name + ": ", "version 1"},
		"has-none": {healthy, []api.Package{unpatched(openssl)}, api.Unprotected, api.Protected, openssl.Name + ": ", "version 1"},
		"made-up":  {healthy, []api.Package{made}, api.Protected, api.Protected, "version 1", "version 1"},
		"old":      {api.Patch{}, []api.Package{with(openssl, p, api.Processes{Protected: 3})}, api.Unprotected, api.Unprotected, "", ""},
		"both-bad": {api.Patch{}, []api.Package{with(openssl, p, api.Processes{Protected: 3, Pending: 1})}, api.Unprotected, api.Unprotected, "", ""},
	} {
		h := s.enroll(token, name)
		h.report.Patch, h.report.Packages = c.kernel, c.packages
		h.checkIn(t)
		m, err := s.admin.Machine(ctx, h.enrolled.Machine)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(m.Protection, c.whole), qt.Commentf("%s: %s", name, m.Reason))
		qt.Check(t, qt.Equals(m.KernelProtection, c.ofIts), qt.Commentf("%s", name))
		qt.Check(t, qt.IsTrue(strings.HasPrefix(m.Reason, c.reason)), qt.Commentf("%s: %s", name, m.Reason))
		qt.Check(t, qt.IsTrue(strings.HasPrefix(m.KernelReason, c.kernelSays)), qt.Commentf("%s: %s", name, m.KernelReason))
	}
	// No live patch is there for this one's kernel: the rest is well, and that is said.
	h := s.enroll(token, "other-kernel")
	h.report.Kernel.BuildID = strings.Repeat("ef", 20)
	h.report.Packages = []api.Package{with(openssl, p, api.Processes{Protected: 3})}
	h.checkIn(t)
	m, err := s.admin.Machine(ctx, h.enrolled.Machine)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(m.Protection, api.Protected))
	qt.Check(t, qt.Equals(m.KernelProtection, api.NotCovered))
	qt.Check(t, qt.StringContains(m.Reason, "; its kernel is not covered: "))

	s.recount()
	o, err := s.admin.Overview(ctx)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(o.Protections, map[api.Protection]int{
		api.Protected: 3, api.Partly: 1, api.Unprotected: 3, api.Outdated: 0, api.NotCovered: 0, api.Failing: 0, api.Silent: 0,
	}))
	for word, n := range map[api.Protection]int{api.Partly: 1, api.Protected: 3, api.Unprotected: 3} {
		list, err := s.admin.Machines(ctx, client.MachineFilter{Protection: word})
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(list.Items, n), qt.Commentf("%s", word))
		for _, m := range list.Items {
			qt.Check(t, qt.Equals(m.Protection, word))
		}
	}
	qt.Check(t, qt.Equals(counted(t, s, `tsugi_machines{protection="partly"}`), 1.0))
}
