// SPDX-License-Identifier: Apache-2.0

package preflight_test

import (
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/preflight"
)

// TestAFixedModuleMustLoad: what may be risked with a live patch, which the
// kernel refuses without harm, is not risked with a module that the machine
// needs.
func TestAFixedModuleMustLoad(t *testing.T) {
	type R = preflight.Request
	r := livepatch.Replacement{Name: "option", Path: "kernel/drivers/usb/serial/option.ko"}
	good := preflight.ModuleFile{Name: "option", Vermagic: "6.1.0-55-amd64 SMP preempt mod_unload modversions "}
	for _, c := range []struct {
		name string
		edit func(r *R, m *preflight.ModuleFile)
		code code.Code
	}{
		{"as it should be", func(*R, *preflight.ModuleFile) {}, ""},
		{"another module", func(_ *R, m *preflight.ModuleFile) { m.Name = "usbserial" }, "TS9219"},
		{"another release", func(_ *R, m *preflight.ModuleFile) { m.Vermagic = "6.1.0-54-amd64 SMP" }, "TS9219"},
		{"a live patch", func(_ *R, m *preflight.ModuleFile) { m.Livepatch = true }, "TS9219"},
		{"signatures are demanded", func(r *R, _ *preflight.ModuleFile) { enforced(r) }, "TS9207"},
		{"signed by a stranger", func(r *R, m *preflight.ModuleFile) { enforced(r); m.Signer = &preflight.Signer{Name: "Stranger"} }, "TS9208"},
		{"nobody knows what is demanded", func(r *R, _ *preflight.ModuleFile) { r.Host.SigEnforce, r.Host.Config = nil, nil }, "TS9243"},
		{"module loading has ended", func(r *R, _ *preflight.ModuleFile) { r.Host.ModulesDisabled = ptr(true) }, "TS9204"},
	} {
		t.Run(c.name, func(t *testing.T) {
			req, m := healthy(), good
			c.edit(req, &m)
			problems := preflight.Problems(preflight.Replacement(req.Host, r, m))
			if c.code == "" {
				qt.Check(t, qt.HasLen(problems, 0))
				return
			}
			qt.Assert(t, qt.HasLen(problems, 1))
			qt.Check(t, qt.Equals(problems[0].Code, c.code))
		})
	}
}
