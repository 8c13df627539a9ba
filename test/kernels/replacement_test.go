// SPDX-License-Identifier: Apache-2.0

package kernels

import (
	"bytes"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/builder"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/testenv"
)

// A fixed module is the shipped one with its fix and nothing else, and fixes
// that reach further are refused. test/fleet loads one.
func TestFixedModulesOfTheTarget(t *testing.T) {
	t.Parallel()
	k := testenv.Kernel(t, testenv.Demo)
	const wwan, option = "drivers/usb/serial/usb_wwan.c", "drivers/usb/serial/option.c"
	both := editOf(t, k, "both",
		edit{wwan, "int usb_wwan_open(", "\tstruct usb_wwan_port_private *portdata;\n", "\tstruct usb_wwan_port_private *portdata;\n\n\tpr_info_once(\"tsugi e2e\\n\");\n"},
		edit{option, "", "{ USB_DEVICE(OPTION_VENDOR_ID, OPTION_PRODUCT_COLT) },", "{ USB_DEVICE(0x7591, 0x7591) },\n\t{ USB_DEVICE(OPTION_VENDOR_ID, OPTION_PRODUCT_COLT) },"})
	replace := func(f *fix.Fix, modules ...string) ([]builder.Replaced, error) {
		return builder.Replace(t.Context(), builder.ReplaceRequest{
			Target: k, Fixes: []*fix.Fix{f}, Modules: modules,
			Sign: func(ko []byte) ([]byte, error) { return append(ko, "signed"...), nil },
		}, progress.Discard)
	}

	made, err := replace(both, "usb_wwan", "option")
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(made, 2))
	for i, want := range []struct{ name, object string }{{"option", "drivers/usb/serial/option.o"}, {"usb_wwan", "drivers/usb/serial/usb_wwan.o"}} {
		r := made[i]
		qt.Check(t, qt.Equals(r.Name, want.name))
		qt.Check(t, qt.Equals(r.Path, "kernel/"+want.object[:len(want.object)-2]+".ko"))
		qt.Check(t, qt.DeepEquals(r.Changed, []string{want.object}))
		qt.Check(t, qt.DeepEquals(r.Fixes, []string{"both"}))
		id, err := k.ModuleBuildID(want.name)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(r.BuildID, id))
		qt.Check(t, qt.IsTrue(bytes.HasSuffix(r.KO, []byte("signed"))))
	}
	qt.Check(t, qt.IsTrue(bytes.Contains(made[1].KO, []byte("tsugi e2e"))))

	_, err = replace(both, "option")
	qt.Check(t, qt.Equals(code.Of(err), "TS5401"), qt.Commentf("%v", err))
	// A type that grows is one that other modules know too.
	_, err = replace(editOf(t, k, "grows", edit{"drivers/usb/serial/usb-wwan.h", "struct usb_wwan_intf_private {", "\tvoid *private;\n", "\tvoid *private;\n\tint tsugi;\n"}), "option", "usb_wwan")
	qt.Check(t, qt.IsTrue(code.Of(err) == "TS5401" || code.Of(err) == "TS5402"), qt.Commentf("%v", err))
	_, err = replace(editOf(t, k, "x", edit{option, "", "/*", "/* tsugi */\n/*"}), "option")
	qt.Check(t, qt.Equals(code.Of(err), "TS5406"), qt.Commentf("%v", err))
}
