// SPDX-License-Identifier: Apache-2.0

package hostinfo

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
)

// InUse says what uses a loaded module, or may use it; "" is evidence that
// nothing does. A count of references alone is none: the interfaces of software
// network devices (veth, wireguard, bonding) hold no reference to their module
// and go with it, and so do sysctls, hooks and the contents of a RAM disk. It
// is evidence only where the kernel is known to count, or shows what is bound:
// file systems, algorithms of the crypto API, and drivers of buses, of which
// each is asked for its devices (a network card works while its driver shows 0).
func InUse(root, name string) string {
	r := &Reader{Root: root}
	i := -1
	mods := r.modules()
	if i = slices.IndexFunc(mods, func(m Module) bool { return m.Name == name }); i < 0 {
		return "it is not loaded"
	}
	m := mods[i]
	switch {
	case !m.Live():
		return "it is on its way in or out"
	case m.RefCount > 0:
		return fmt.Sprintf("it has %d users", m.RefCount)
	case m.RefCount < 0 || r.permanent(name):
		return "it can't be unloaded"
	case len(m.Users) > 0:
		return "needed by " + strings.Join(m.Users, ", ")
	}
	dir := path.Join("sys/module", name)
	if holders := r.names(path.Join(dir, "holders")); len(holders) > 0 {
		return "held by " + strings.Join(holders, ", ")
	}
	drivers := r.names(path.Join(dir, "drivers"))
	for _, d := range drivers {
		for _, dev := range r.names(path.Join(dir, "drivers", d)) {
			// A bound device is a link; "module" is one too, and no device.
			p := path.Join(dir, "drivers", d, dev)
			if st, err := os.Lstat(r.path(p)); err == nil && st.Mode()&os.ModeSymlink != 0 && dev != "module" && dev != "subsystem" {
				return "driver of " + dev
			}
		}
	}
	return r.uncounted(name, len(drivers) > 0)
}

// uncounted says why a module whose count is 0 may be in use all the same, or
// "". What a module is for is what its aliases say: one that is anything
// beside a file system, an algorithm or a driver, or does not say, may hold
// what nobody counts.
func (r *Reader) uncounted(name string, drivers bool) string {
	const unsure = "it may be in use: "
	aliases, err := r.aliases(name)
	if err != nil {
		return unsure + "what it is for cannot be read: " + err.Error()
	}
	if len(aliases) == 0 {
		return unsure + "the kernel does not count who uses a module of its kind"
	}
	counted, bus := 0, 0
	for _, a := range aliases {
		prefix, _, isBus := strings.Cut(a, ":")
		switch {
		case strings.HasPrefix(a, "rtnl-link-"):
			return unsure + "the interfaces of network devices of its kind hold no reference to it"
		case strings.HasPrefix(a, "fs-"), strings.HasPrefix(a, "crypto-"):
			counted++
		case isBus && slices.Contains(buses(), prefix):
			bus++
		case prefix == "cpu" && isBus: // for which processors it is loaded
		case slices.Contains(aliases, "crypto-"+a): // an algorithm by its bare name
		default:
			return unsure + "the kernel does not count who uses it as " + a
		}
	}
	switch {
	case bus > 0 && !drivers:
		return unsure + "the kernel does not show which devices its drivers have"
	case bus == 0 && drivers, bus == 0 && counted == 0:
		return unsure + "the kernel does not count who uses a module of its kind"
	}
	return ""
}

// buses are those whose drivers are shown with their devices, as the aliases
// of devices name them (scripts/mod/file2alias.c).
func buses() []string {
	return []string{
		"pci", "usb", "virtio", "hid", "i2c", "spi", "platform", "acpi", "of", "pnp", "serio", "sdio", "vmbus", "scsi", "pcmcia", "ssb", "bcma",
		"mei", "auxiliary", "hdaudio", "sdw", "wmi", "tbsvc", "ulpi", "rpmsg", "mdio", "mhi", "typec", "fsl-mc", "i3c", "slimbus", "ipack", "xen",
	}
}

// aliases are those that depmod found in the module's file.
func (r *Reader) aliases(name string) ([]string, error) {
	release, err := r.bytes("proc/sys/kernel/osrelease", maxSmall)
	if err != nil {
		return nil, err
	}
	dir := strings.TrimSpace(string(release))
	if dir == "" || strings.ContainsAny(dir, "/\x00") {
		return nil, fmt.Errorf("%q is not the name of a release", dir)
	}
	b, err := r.bytes("lib/modules/"+dir+"/modules.alias", maxLarge)
	if absent(err) {
		b, err = r.bytes("usr/lib/modules/"+dir+"/modules.alias", maxLarge)
	}
	if err != nil {
		return nil, err
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "alias" && f[2] == name {
			out = append(out, f[1])
		}
	}
	return out, nil
}

// permanent: a module without a way out has "[permanent]" among its users.
func (r *Reader) permanent(name string) bool {
	b, err := r.bytes("proc/modules", maxLarge)
	if err != nil {
		return true
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 3 && f[0] == name {
			return f[2] == "-" || strings.Contains(f[3], "[permanent]")
		}
	}
	return true
}

// names lists a directory; nothing when it is not there.
func (r *Reader) names(dir string) []string {
	entries, err := os.ReadDir(r.path(dir))
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries[:min(len(entries), maxItems)] {
		out = append(out, e.Name())
	}
	return out
}
