// SPDX-License-Identifier: Apache-2.0

package hostinfo

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
)

// InUse says what uses a loaded module, or "". A count of references is not
// enough: a driver's devices hold none (a network card works while its driver
// shows 0), so every driver that the module brings is asked for its devices.
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
	for _, d := range r.names(path.Join(dir, "drivers")) {
		for _, dev := range r.names(path.Join(dir, "drivers", d)) {
			// A bound device is a link; "module" is one too, and no device.
			p := path.Join(dir, "drivers", d, dev)
			if st, err := os.Lstat(r.path(p)); err == nil && st.Mode()&os.ModeSymlink != 0 && dev != "module" && dev != "subsystem" {
				return "driver of " + dev
			}
		}
	}
	return ""
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
