// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"github.com/tsugi-project/tsugi/internal/api"
)

// Fixed is what is fixed live on this machine: what tsugi cves and the VEX
// documents are made of.
type Fixed struct {
	Kernel api.Kernel `json:"kernel"`
	// Package is that of the kernel, as its distribution names it; "" when no
	// live patch says it.
	Target  string     `json:"target,omitempty"`  // "debian:6.1.0-55-amd64"
	Version string     `json:"version,omitempty"` // of the kernel's package
	Distro  string     `json:"distro,omitempty"`  // "debian-12"
	Patch   *api.Patch `json:"patch,omitempty"`   // nil: none is applied
	Fixes   []Fix      `json:"fixes"`
}

// Fix is one fix of the live patch that is applied.
type Fix struct {
	ID    string   `json:"id"`
	Title string   `json:"title,omitempty"`
	CVEs  []string `json:"cves"`
}

// Fixed goes by what the kernel runs and not by what it should.
func (a *Agent) Fixed() (*Fixed, error) {
	s, _ := a.journal.view()
	var host *Host
	var err error
	a.see(func(m *moment) { host, err = m.host, m.hostErr })
	if host == nil {
		return nil, err
	}
	out := &Fixed{Kernel: host.Kernel, Distro: host.Distro, Fixes: []Fix{}}
	if a.current(s, host) == 0 {
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
	for _, f := range c.Fixes {
		out.Fixes = append(out.Fixes, Fix{f.ID, f.Title, append([]string{}, f.CVEs...)})
	}
	return out, nil
}
