// SPDX-License-Identifier: Apache-2.0

package hostinfo_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/hostinfo"
)

// TestInUse: a driver with a device is in use although its count is 0, and a
// count of 0 alone says nothing.
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
	write("proc/sys/kernel/osrelease", "6.1.0-55-amd64\n")
	write("lib/modules/6.1.0-55-amd64/modules.alias", `# Aliases extracted from modules themselves.
alias fs-ext4 idle
alias pci:v00008086d0000100Esv*sd*bc*sc*i* driver
alias usb:v7591p7591d*dc*dsc*dp*ic*isc*ip*in* spare
alias crypto-aes cipher
alias aes cipher
alias cpu:type:x86,ven*fam*mod*:feature:*0099* cipher
alias rtnl-link-veth veth
alias rtnl-link-wireguard mixed
alias usb:v1p1d* mixed
alias char-major-10-200 tun
alias fs-btrfs btrfs
alias devname:btrfs-control btrfs
alias usb:v2p2d* hidden
`)
	write("proc/modules", `cipher 4096 0 - Live 0x0
veth 4096 0 - Live 0x0
mixed 4096 0 - Live 0x0
tun 4096 0 - Live 0x0
btrfs 4096 0 - Live 0x0
hidden 4096 0 - Live 0x0
zram 4096 0 - Live 0x0
idle 4096 0 - Live 0x0
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
		"forever": "it can't be unloaded", "nounload": "it can't be unloaded", "going": "it is on its way in or out", "absent": "it is not loaded", "cipher": "",
		// Their count is 0 while interfaces are up, or a RAM disk is full.
		"veth":   "it may be in use: the interfaces of network devices of its kind hold no reference to it",
		"mixed":  "it may be in use: the interfaces of network devices of its kind hold no reference to it",
		"tun":    "it may be in use: the kernel does not count who uses it as char-major-10-200",
		"btrfs":  "it may be in use: the kernel does not count who uses it as devname:btrfs-control",
		"hidden": "it may be in use: the kernel does not show which devices its drivers have",
		"zram":   "it may be in use: the kernel does not count who uses a module of its kind",
	} {
		qt.Check(t, qt.Equals(hostinfo.InUse(root, name), want), qt.Commentf("%s", name))
	}
	qt.Assert(t, qt.IsNil(os.Remove(filepath.Join(root, "lib/modules/6.1.0-55-amd64/modules.alias"))))
	qt.Check(t, qt.StringContains(hostinfo.InUse(root, "spare"), "it may be in use"))
}
