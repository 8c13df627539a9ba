// SPDX-License-Identifier: Apache-2.0

package hostinfo

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/tsugi-project/tsugi/internal/order"
)

// Module is a loaded module.
type Module struct {
	Name       string   `json:"name"`
	BuildID    string   `json:"build_id,omitempty"` // hex; "" when its note is not there
	State      string   `json:"state"`              // Live, Loading, Unloading
	Taints     string   `json:"taints,omitempty"`   // letters, such as "OE"
	Size       int64    `json:"size"`
	RefCount   int      `json:"refcount"`
	Users      []string `json:"users,omitempty"` // modules that need it
	SrcVersion string   `json:"srcversion,omitempty"`
}

// Live tells whether the module is there for good, and not on its way in or
// out.
func (m Module) Live() bool { return m.State == "Live" }

// ParseModule reads a line of /proc/modules, "name size refcount users state
// address (taints)", as m_show of kernel/module/procfs.c writes it.
func ParseModule(line string) (Module, error) {
	f := strings.Fields(line)
	bad := func(what string) (Module, error) { return Module{}, fmt.Errorf("module line %.80q: %s", line, what) }
	if len(f) < 5 {
		return bad("fewer than five fields")
	}
	m := Module{Name: f[0], State: f[4]}
	if !isName(m.Name) {
		return bad("its name is not a module's")
	}
	var err error
	if m.Size, err = strconv.ParseInt(f[1], 10, 64); err != nil || m.Size < 0 {
		return bad("its size is not a number")
	}
	// A kernel without CONFIG_MODULE_UNLOAD counts no references and shows "-".
	if f[2] != "-" {
		if m.RefCount, err = strconv.Atoi(f[2]); err != nil {
			return bad("its references are not a number")
		}
	}
	for u := range strings.SplitSeq(f[3], ",") {
		if u != "" && u != "-" && u != "[permanent]" {
			m.Users = append(m.Users, u)
		}
	}
	if last := f[len(f)-1]; len(f) > 5 && strings.HasPrefix(last, "(") && strings.HasSuffix(last, ")") {
		m.Taints = strings.Trim(last, "()+-")
	}
	return m, nil
}

// isName: what may be a directory of /sys/module. Dashes are underscores
// there, but nothing is lost by letting them pass.
func isName(s string) bool {
	return s != "" && len(s) < 64 && s != "." && s != ".." && !strings.ContainsAny(s, "/\x00")
}

// modules lists what /proc/modules shows with the build-ids of the notes.
func (r *Reader) modules() []Module {
	const list = "proc/modules"
	b, err := r.bytes(list, maxLarge)
	if err != nil {
		if !absent(err) { // a kernel without CONFIG_MODULES has no list
			r.note(list, err)
		}
		return nil
	}
	var out []Module
	for l := range strings.Lines(string(b)) {
		m, err := ParseModule(l)
		if err == nil && len(out) >= maxItems {
			err = errTooMany
		}
		if err != nil {
			r.note(list, err)
			break
		}
		r.describe(&m)
		out = append(out, m)
	}
	order.Sort(out, func(a, b Module) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// describe adds what sysfs has of a module.
func (r *Reader) describe(m *Module) {
	dir := path.Join("sys/module", m.Name)
	if b, err := r.bytes(path.Join(dir, "notes/.note.gnu.build-id"), maxSmall); err == nil {
		if m.BuildID, err = ParseBuildID(b); err != nil {
			r.note(path.Join(dir, "notes/.note.gnu.build-id"), err)
		}
	} else if !absent(err) {
		r.note(path.Join(dir, "notes/.note.gnu.build-id"), err)
	}
	m.SrcVersion = r.optional(path.Join(dir, "srcversion"))
}
