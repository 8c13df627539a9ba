// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"slices"

	"github.com/tsugi-project/tsugi/internal/api"
)

// Fixed is what is fixed on this machine without a reboot: what tsugi cves and
// the VEX documents are made of.
type Fixed struct {
	Kernel api.Kernel `json:"kernel"`
	// Package is that of the kernel, as its distribution names it; "" when no
	// live patch says it.
	Target  string     `json:"target,omitempty"`  // "debian:6.1.0-55-amd64"
	Version string     `json:"version,omitempty"` // of the kernel's package
	Distro  string     `json:"distro,omitempty"`  // "debian-12"
	Patch   *api.Patch `json:"patch,omitempty"`   // nil: none is applied
	Fixes   []Fix      `json:"fixes"`             // those that are whole on this machine
	// Open are the vulnerabilities of the same update that this machine has. One
	// that a fix of Fixes has too is not fixed by it alone.
	Open []OpenVulnerability `json:"open,omitempty"`
	// Packages are those that a live patch is applied of.
	Packages []FixedPackage `json:"packages,omitempty"`
}

// FixedPackage is what of a package is fixed in the processes of this machine.
type FixedPackage struct {
	Target  string    `json:"target"`  // "debian:libssl3=3.0.20-1~deb12u2"
	Version string    `json:"version"` // of the package on the disk that processes have mapped
	Arch    string    `json:"arch"`
	Names   []string  `json:"names"` // of the binary packages
	Patch   api.Patch `json:"patch"`
	Fixes   []Fix     `json:"fixes"`
	// Open are what the live patch does not fix, or not all of: it may hold one
	// fix of a vulnerability and lack another.
	Open []OpenVulnerability `json:"open,omitempty"`
	// Processes are those that map its files. While some of them are not protected
	// the machine is not either.
	Processes api.Processes       `json:"processes"`
	Reasons   []api.ProcessReason `json:"reasons,omitempty"`
	// Problem is why Processes are not known to be so any more.
	Problem *api.Problem `json:"problem,omitempty"`
}

// Whole reports whether every process that maps its files is protected, and those
// that start now are.
func (p *FixedPackage) Whole() bool {
	return p.Processes.Pending+p.Processes.Unprotected == 0 && p.Problem == nil
}

// Fix is one fix that this machine has.
type Fix struct {
	ID    string   `json:"id"`
	Title string   `json:"title,omitempty"`
	CVEs  []string `json:"cves"`
	// Possible are those of CVEs of which it is not sure that this is their fix.
	Possible []string `json:"possible,omitempty"`
	Severity string   `json:"severity,omitempty"`
	// Modules are the fixed modules that it needs, each on the disk or loaded.
	// A fix with some and none of its functions replaced is had by them alone.
	Modules []string `json:"modules,omitempty"`
}

// Fixed goes by what the kernel runs, and would load, and not by what it
// should.
func (a *Agent) Fixed() (*Fixed, error) {
	s, _ := a.journal.view()
	a.mu.Lock()
	m := a.now
	a.mu.Unlock()
	if m.host == nil {
		return nil, m.hostErr
	}
	out := &Fixed{Kernel: m.host.Kernel, Distro: m.host.Distro, Fixes: []Fix{}, Packages: a.fixedPackages(s, &m)}
	if a.current(s, m.host) == 0 {
		return out, nil
	}
	c, err := a.card(s.Current.Patch.ID)
	if err != nil {
		return nil, err
	}
	out.Patch = &s.Current.Patch
	if c == nil {
		return out, nil
	}
	out.Target, out.Version = c.Target.Name, c.Target.PackageVersion
	modules := replacements(c, s, &m)
	out.Open = coverage(c, modules).Open
	for _, f := range c.Fixes {
		if lacking(f, modules) == "" {
			out.Fixes = append(out.Fixes, Fix{ID: f.ID, Title: f.Title, CVEs: append([]string{}, f.CVEs...), Possible: f.Possible, Severity: f.Severity, Modules: f.Modules})
		}
	}
	return out, nil
}

// Doubtful reports whether it is not sure of any fix here that it is that of a
// vulnerability.
func (f *Fixed) Doubtful(cve string) bool {
	some := false
	for _, x := range f.Fixes {
		if slices.Contains(x.CVEs, cve) {
			if some = true; !slices.Contains(x.Possible, cve) {
				return false
			}
		}
	}
	return some
}

// IsOpen reports whether this machine has a vulnerability.
func (f *Fixed) IsOpen(cve string) bool {
	return slices.ContainsFunc(f.Open, func(o OpenVulnerability) bool { return o.CVE == cve })
}
