// SPDX-License-Identifier: Apache-2.0

package vex

import (
	"fmt"
	"slices"
	"strings"

	"github.com/package-url/packageurl-go"

	"github.com/tsugi-project/tsugi/internal/agent"
	"github.com/tsugi-project/tsugi/internal/order"
)

// ware is what a vulnerability is fixed in: the running kernel, or a binary
// package as processes have it in memory.
type ware struct {
	id   string // in a CSAF document
	name string // for people
	purl string // "" when it is not known
}

// verdict is what holds for a vulnerability in a ware.
type verdict struct {
	cve    string
	titles []string
	in     ware
	status status
	note   string
	action string // of one that is not fixed
}

// verdicts are those of the kernel, and then those of packages.
func verdicts(f *agent.Fixed) []verdict {
	var out []verdict
	for _, v := range vulns(f) {
		out = append(out, verdict{cve: v.id, titles: v.titles, in: kernelWare(f), status: statusOf(v), note: note(f, v)})
	}
	for i := range f.Packages {
		out = append(out, packageVerdicts(f, &f.Packages[i])...)
	}
	return out
}

func kernelWare(f *agent.Fixed) ware {
	return ware{productID, "Linux kernel " + f.Kernel.Release + " build-id " + f.Kernel.BuildID, Product(f)}
}

// packageVerdicts: a package is fixed when all processes that map its files have
// the live patch. As long as one has not, the machine is affected, and so it is
// where the live patch has one fix of a vulnerability and not another.
func packageVerdicts(f *agent.Fixed, p *agent.FixedPackage) []verdict {
	var out []verdict
	titles := map[string][]string{}
	sure := map[string]bool{}
	for _, fix := range p.Fixes {
		for _, cve := range fix.CVEs {
			if fix.Title != "" && !slices.Contains(titles[cve], fix.Title) {
				titles[cve] = append(titles[cve], fix.Title)
			}
			if _, there := titles[cve]; !there {
				titles[cve] = nil
			}
			sure[cve] = sure[cve] || !slices.Contains(fix.Possible, cve)
		}
	}
	open := map[string]agent.OpenVulnerability{}
	for _, o := range p.Open {
		open[o.CVE] = o
		if _, there := titles[o.CVE]; !there {
			titles[o.CVE] = nil
		}
	}
	for cve := range titles {
		v := verdict{cve: cve, titles: titles[cve], status: statusFixed}
		v.note = fmt.Sprintf("fixed in the processes of this machine by the live patch %s (version %d)", p.Patch.ID, p.Patch.Version)
		o, is := open[cve]
		switch {
		case is:
			v.status = statusAffected
			v.note = fmt.Sprintf("the live patch %s (version %d) does not have all of its fix: %s is not in it", p.Patch.ID, p.Patch.Version, o.Fix)
			if o.Why != "" {
				v.note += ": " + o.Why
			}
			v.action = "install the updated package, and restart the processes that use it"
		case p.Problem != nil:
			v.status = statusAffected
			v.note = fmt.Sprintf("the live patch %s (version %d) is applied, and processes that start now do not get it: %s", p.Patch.ID, p.Patch.Version, p.Problem.What)
			v.action = p.Problem.Fix
		case !p.Whole():
			n := p.Processes
			v.status = statusAffected
			v.note = fmt.Sprintf("fixed in %d of %d processes by the live patch %s (version %d)", n.Protected, n.Protected+n.Pending+n.Unprotected, p.Patch.ID, p.Patch.Version)
			v.action = "see which processes are not protected, and why: tsugi status --processes; a restart with an updated package helps"
		case !sure[cve]:
			v.status = statusUnderInvestigation
			v.note = "possibly " + v.note
		}
		if len(v.titles) > 0 {
			v.note += ": " + strings.Join(v.titles, "; ")
		}
		for _, name := range p.Names {
			v.in = packageWare(f, p, name)
			out = append(out, v)
		}
	}
	order.Sort(out, func(a, b verdict) int { return strings.Compare(a.cve+" "+a.in.id, b.cve+" "+b.in.id) })
	return out
}

func packageWare(f *agent.Fixed, p *agent.FixedPackage, name string) ware {
	w := ware{id: "in-memory-" + name, name: name + " " + p.Version + " in the memory of processes"}
	if distro, _, ok := strings.Cut(p.Target, ":"); ok && p.Version != "" && (distro == "debian" || distro == "ubuntu") {
		w.purl = packageurl.NewPackageURL(packageurl.TypeDebian, distro, name, p.Version, qualifiers(f, distro, p.Arch), "").ToString()
	}
	return w
}

// qualifiers of a package URL.
func qualifiers(f *agent.Fixed, distro, machine string) packageurl.Qualifiers {
	arch := map[string]string{"x86_64": "amd64", "aarch64": "arm64"}[machine]
	q := packageurl.Qualifiers{}
	if arch != "" {
		q = append(q, packageurl.Qualifier{Key: "arch", Value: arch})
	}
	if strings.HasPrefix(f.Distro, distro+"-") {
		q = append(q, packageurl.Qualifier{Key: "distro", Value: f.Distro})
	}
	return q
}
