// SPDX-License-Identifier: Apache-2.0

package hostinfo_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/hostinfo"
)

// TestInUse: a driver with a device is in use although its count is 0.
func TestInUse(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		p := filepath.Join(root, name)
		qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Dir(p), 0o755)))
		qt.Assert(t, qt.IsNil(os.WriteFile(p, []byte(text), 0o644)))
	}
	link := func(name, to string) {
		p := filepath.Join(root, name)
		qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Dir(p), 0o755)))
		qt.Assert(t, qt.IsNil(os.Symlink(to, p)))
	}
	write("proc/modules", `idle 4096 0 - Live 0x0
driver 4096 0 - Live 0x0
spare 4096 0 - Live 0x0
counted 4096 2 - Live 0x0
needed 4096 0 counted, Live 0x0
forever 4096 0 [permanent], Live 0x0
nounload 4096 - - Live 0x0
going 4096 0 - Unloading 0x0
`)
	link("sys/module/driver/drivers/pci:e1000", "../../../bus/pci/drivers/e1000")
	link("sys/bus/pci/drivers/e1000/0000:00:03.0", "../../../devices/x")
	link("sys/bus/pci/drivers/e1000/module", "../../../../module/driver")
	link("sys/module/spare/drivers/usb:spare", "../../../bus/usb/drivers/spare")
	link("sys/bus/usb/drivers/spare/module", "../../../../module/spare")
	write("sys/bus/usb/drivers/spare/bind", "")
	for name, want := range map[string]string{
		"idle": "", "spare": "", "driver": "driver of 0000:00:03.0", "counted": "it has 2 users", "needed": "needed by counted",
		"forever": "it can't be unloaded", "nounload": "it can't be unloaded", "going": "it is on its way in or out", "absent": "it is not loaded",
	} {
		qt.Check(t, qt.Equals(hostinfo.InUse(root, name), want), qt.Commentf("%s", name))
	}
}
