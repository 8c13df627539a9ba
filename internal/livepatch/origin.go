// SPDX-License-Identifier: Apache-2.0

package livepatch

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/order"
)

// Kinds of OpenFix.
const (
	OpenReboot   = "reboot"   // it can't be live on this target
	OpenExcluded = "excluded" // the policy leaves it out, or one that it needs
)

var pathForm = regexp.MustCompile(`^[A-Za-z0-9_.+/-]+\.ko$`)

// SeverityRank orders the severities that a manifest may hold; -1 is none of
// them, and "" the lowest.
func SeverityRank(severity string) int {
	return slices.Index([]string{"", "low", "medium", "high", "critical"}, severity)
}

// checkLeft holds for what the live patch does not do by itself: open fixes
// and replacements. fixes are the ids that it holds.
func (m *Manifest) checkLeft(fixes map[string]bool) error {
	if m.Format == 1 && (m.Selection != nil || m.Open != nil || m.Replacements != nil || m.States != nil || m.Members != nil || m.Inputs != nil) {
		return invalid("format 1 knows no selection, open fixes, replacements, states, members and inputs")
	}
	for i, o := range m.Open {
		if o.ID == "" || fixes[o.ID] || i > 0 && m.Open[i-1].ID >= o.ID {
			return invalid("open fix %q: no id, one that is held, twice or out of order", o.ID)
		}
		if o.Kind != OpenReboot && o.Kind != OpenExcluded || SeverityRank(o.Severity) < 0 {
			return invalid("open fix %s: bad kind or severity", o.ID)
		}
		for _, c := range o.CVEs {
			if !cveForm.MatchString(c) {
				return invalid("open fix %s: %q is not a CVE id", o.ID, c)
			}
		}
		if !within(o.Possible, o.CVEs) {
			return invalid("open fix %s: possible CVEs that it has not, twice or out of order", o.ID)
		}
	}
	names := map[string]bool{}
	objects := m.Objects()
	for i, r := range m.Replacements {
		if _, live := slices.BinarySearch(objects, r.Name); live {
			// Its positions and bytes are those of the shipped build.
			return invalid("replacement %s: the live patch changes that module as well", r.Name)
		}
		if !objectForm.MatchString(r.Name) || i > 0 && m.Replacements[i-1].Name >= r.Name {
			return invalid("replacement %q: not a module, twice or out of order", r.Name)
		}
		if !pathForm.MatchString(r.Path) || path.Clean(r.Path) != r.Path || strings.HasPrefix(r.Path, "/") || strings.HasPrefix(r.Path, "../") ||
			strings.ReplaceAll(strings.TrimSuffix(path.Base(r.Path), ".ko"), "-", "_") != r.Name {
			return invalid("replacement %s: path %q is not that of the module below /lib/modules/RELEASE", r.Name, r.Path)
		}
		if r.BuildID != "" && !isHex(r.BuildID, 8, 64) || len(r.Fixes) == 0 || !slices.IsSorted(r.Fixes) {
			return invalid("replacement %s: bad build-id or fixes", r.Name)
		}
		for _, id := range r.Fixes {
			if !fixes[id] {
				return invalid("replacement %s: there is no fix %q", r.Name, id)
			}
		}
		names[r.Name] = true
	}
	for _, f := range m.Fixes {
		if SeverityRank(f.Severity) < 0 || !slices.IsSorted(f.Modules) {
			return invalid("fix %s: bad severity or modules", f.ID)
		}
		for _, n := range f.Modules {
			if !names[n] {
				return invalid("fix %s: there is no replacement of module %q", f.ID, n)
			}
		}
	}
	return nil
}

// checkOrigin holds for what the live patch was made from, and for its states.
func (m *Manifest) checkOrigin() error {
	if s := m.Selection; s != nil && !isHex(s.Digest, 32, 32) {
		return invalid("selection: digest %q", s.Digest)
	}
	for i, s := range m.States {
		if i > 0 && m.States[i-1].ID >= s.ID {
			return invalid("state %d: twice or out of order", s.ID)
		}
	}
	if err := m.checkMembers(); err != nil {
		return err
	}
	for i, in := range m.Inputs {
		if in.Name == "" || !isHex(in.Digest, 32, 32) || i > 0 && m.Inputs[i-1].Name >= in.Name {
			return invalid("input %q: no name, a bad digest, twice or out of order", in.Name)
		}
	}
	return nil
}

// AddReplacement puts the fixed build of a module into the file. Its payload
// is filled in.
func (p *Patch) AddReplacement(r Replacement, ko []byte) error {
	r.Module = p.put(r.Name+".ko", ko)
	p.Manifest.Replacements = append(p.Manifest.Replacements, r)
	order.Sort(p.Manifest.Replacements, func(a, b Replacement) int { return strings.Compare(a.Name, b.Name) })
	return p.Manifest.Check()
}

// Supersedes says why this live patch can't replace another one that is
// loaded, or "". The kernel refuses a replacing live patch that does not know
// every state of the loaded one, in a version that is not lower
// (klp_is_state_compatible in kernel/livepatch/state.c). That members of structs
// lie where others lay is what the kernel can't see.
func (m *Manifest) Supersedes(old *Manifest) string {
	for _, s := range old.States {
		i := slices.IndexFunc(m.States, func(n State) bool { return n.ID == s.ID })
		switch {
		case i < 0:
			return fmt.Sprintf("it does not know state %d of %s", s.ID, old.Name)
		case m.States[i].Version < s.Version:
			return fmt.Sprintf("it has version %d of state %d, %s has %d", m.States[i].Version, s.ID, old.Name, s.Version)
		}
	}
	return Clash(m.Members, old.Members)
}
