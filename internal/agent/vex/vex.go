// SPDX-License-Identifier: Apache-2.0

// Package vex says what is fixed live on a machine in the two forms that
// scanners read: OpenVEX and CSAF's VEX profile. The kernel's package keeps
// its version, so that a scanner finds the vulnerabilities that it has on
// disk; these documents tell it which of them the running kernel has not. So do
// they for packages and the processes that map their files.
package vex

import (
	"fmt"
	"slices"
	"strings"

	"github.com/package-url/packageurl-go"

	"github.com/tsugi-project/tsugi/internal/agent"
	"github.com/tsugi-project/tsugi/internal/order"
)

// Author of the documents.
const Author = "Tsugi agent"

// Product is the package URL of the machine's kernel, or "" when the live
// patch does not say which package it is.
func Product(f *agent.Fixed) string {
	distro, _, ok := strings.Cut(f.Target, ":")
	if !ok || f.Version == "" || distro != "debian" && distro != "ubuntu" {
		return ""
	}
	return packageurl.NewPackageURL(packageurl.TypeDebian, distro, "linux-image-"+f.Kernel.Release, f.Version, qualifiers(f, distro, f.Kernel.Arch), "").ToString()
}

// vuln is a vulnerability with the fixes that end it.
type vuln struct {
	id      string
	titles  []string
	modules []string // whose fixed builds it takes
	// doubtful: something was fixed, and it is not sure that it is this.
	doubtful bool
}

func vulns(f *agent.Fixed) []vuln {
	var out []vuln
	for _, fix := range f.Fixes {
		for _, id := range fix.CVEs {
			if f.IsOpen(id) {
				continue // another of its fixes is not here
			}
			i := slices.IndexFunc(out, func(v vuln) bool { return v.id == id })
			if i < 0 {
				i = len(out)
				out = append(out, vuln{id: id, doubtful: f.Doubtful(id)})
			}
			if fix.Title != "" && !slices.Contains(out[i].titles, fix.Title) {
				out[i].titles = append(out[i].titles, fix.Title)
			}
			for _, m := range fix.Modules {
				if !slices.Contains(out[i].modules, m) {
					out[i].modules = append(out[i].modules, m)
				}
			}
		}
	}
	order.Sort(out, func(a, b vuln) int { return strings.Compare(a.id, b.id) })
	return out
}

// note says how it was fixed.
func note(f *agent.Fixed, v vuln) string {
	s := fmt.Sprintf("fixed in the running kernel by the live patch %s (version %d)", f.Patch.ID, f.Patch.Version)
	if v.doubtful {
		s = fmt.Sprintf("possibly fixed in the running kernel by the live patch %s (version %d): its entry in the changelog fits a fix that is applied, and others too", f.Patch.ID, f.Patch.Version)
	}
	if len(v.modules) > 0 {
		s += ", with the fixed build of module " + strings.Join(v.modules, ", ") + " in the place of the shipped one"
	}
	if len(v.titles) > 0 {
		s += ": " + strings.Join(v.titles, "; ")
	}
	return s
}
