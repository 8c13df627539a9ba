// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// maxReport bounds what comes beside an artifact.
const maxReport = 16 << 20

// proofRecord is what is needed of a proof.json (package proof).
type proofRecord struct {
	Format  int    `json:"format"`
	Verdict string `json:"verdict"`
	Patch   struct {
		Digest       string `json:"sha256"`
		ModuleDigest string `json:"module_sha256"`
	} `json:"patch"`
	Kernel struct {
		BuildID string `json:"build_id"`
	} `json:"kernel"`
	Target  livepatch.TargetRef `json:"target"`
	Package *struct {
		Files []provenFile `json:"files"`
	} `json:"package"`
}

type provenFile struct {
	BuildID string `json:"build_id"`
}

// about tells what keeps a record from being about a live patch.
func (p *proofRecord) about(artifact string, m *livepatch.Manifest) string {
	switch {
	case p.Patch.Digest != "" && p.Patch.Digest != artifact, p.Patch.ModuleDigest != m.Module.Digest:
		return "it is about another live patch"
	case !m.Userland() && p.Kernel.BuildID != "" && p.Kernel.BuildID != m.Target.BuildID:
		return "it ran on another kernel"
	case !m.Userland():
		return ""
	case p.Patch.Digest == "" || p.Package == nil || p.Target.ID() != m.Target.ID():
		return "it is not about this package" // whose live patch has no module to know it by
	}
	for _, f := range m.Files {
		if !slices.Contains(p.Package.Files, provenFile{f.BuildID}) {
			return "it shows nothing of " + f.Name
		}
	}
	return ""
}

// checkProof says whether a proof came and holds for this very artifact. One
// that does not is refused: whoever sent it meant to prove something.
func checkProof(b []byte, artifact string, m *livepatch.Manifest) (bool, error) {
	if b == nil {
		return false, nil
	}
	if len(b) > maxReport {
		return false, code.New("TS7704", "", fmt.Sprintf("%d bytes, more than %d", len(b), maxReport))
	}
	var p proofRecord
	if err := json.Unmarshal(b, &p); err != nil {
		return false, code.New("TS7704", "", "not readable").With(err)
	}
	switch {
	case p.Format != 1:
		return false, code.New("TS7704", "", fmt.Sprintf("format %d, this program knows 1", p.Format))
	case p.Verdict != "proved":
		return false, code.New("TS7704", "", "its verdict is "+strconv.Quote(p.Verdict))
	}
	if why := p.about(artifact, m); why != "" {
		return false, code.New("TS7704", "", why)
	}
	return true, nil
}

// makeProvenance gathers what is known about how a live patch came to be.
func makeProvenance(m *livepatch.Manifest, id string, q PublishRequest) (*trust.Provenance, error) {
	p := &trust.Provenance{
		BuildDefinition: trust.BuildDefinition{
			BuildType: trust.BuildType,
			ExternalParameters: trust.Parameters{
				Name: m.Name, Version: m.Version,
				Target: trust.IndexRef{Name: m.Target.Name, Release: m.Target.Release, Arch: m.Target.Arch, BuildID: m.Target.ID()},
			},
		},
		RunDetails: trust.RunDetails{Builder: trust.Builder{ID: trust.BuildType + "/builder"}, Metadata: trust.Metadata{InvocationID: q.Job}},
	}
	d := &p.BuildDefinition
	for _, f := range m.Fixes {
		d.ExternalParameters.Fixes = append(d.ExternalParameters.Fixes, f.ID)
		r := trust.Resource{Name: "fix:" + f.ID, URI: f.Origin, Digest: map[string]string{"sha256": f.Diff.Digest}, Annotations: map[string]string{}}
		if f.Title != "" {
			r.Annotations["title"] = f.Title
		}
		for i, c := range f.CVEs {
			r.Annotations[fmt.Sprintf("cve.%d", i+1)] = c
		}
		d.ResolvedDependencies = append(d.ResolvedDependencies, r)
	}
	d.ResolvedDependencies = append(d.ResolvedDependencies, patched(m)...)
	if m.Target.ConfigDigest != "" {
		d.ResolvedDependencies = append(d.ResolvedDependencies, trust.Resource{Name: "config", Digest: map[string]string{"sha256": m.Target.ConfigDigest}})
	}
	if m.Compiler != "" {
		d.ResolvedDependencies = append(d.ResolvedDependencies, trust.Resource{Name: "compiler", Annotations: map[string]string{"version": m.Compiler}})
	}
	if m.Builder != "" {
		p.RunDetails.Builder.Version = map[string]string{"tsugi": m.Builder}
	}
	by := &p.RunDetails.Byproducts
	if !m.Userland() {
		*by = append(*by, trust.Resource{Name: m.Module.Name, Digest: map[string]string{"sha256": m.Module.Digest}})
	}
	for _, f := range m.Files {
		*by = append(*by, trust.Resource{Name: f.Splice.Name, Digest: map[string]string{"sha256": f.Splice.Digest}})
	}
	if q.Proof != nil {
		*by = append(*by, trust.Resource{Name: "proof.json", Digest: map[string]string{"sha256": digest(q.Proof)}, Annotations: map[string]string{"verdict": "proved"}})
	}
	if q.Report != nil {
		if len(q.Report) > maxReport || !json.Valid(q.Report) {
			return nil, code.New("TS7717", id, "")
		}
		*by = append(*by, trust.Resource{Name: "report.json", Digest: map[string]string{"sha256": digest(q.Report)}})
	}
	return p, nil
}

// patched is the kernel, or the package and each of its ELF files, that a live
// patch is for.
func patched(m *livepatch.Manifest) []trust.Resource {
	if !m.Userland() {
		return []trust.Resource{{
			Name: "kernel:" + m.Target.Name, Annotations: map[string]string{"package_version": m.Target.PackageVersion, "build_id": m.Target.BuildID},
		}}
	}
	out := []trust.Resource{{Name: "package:" + m.Target.Name, Annotations: map[string]string{"package_version": m.Target.PackageVersion}}}
	for _, f := range m.Files {
		out = append(out, trust.Resource{Name: "file:" + f.Path, Annotations: map[string]string{"build_id": f.BuildID, "package": f.Package}})
	}
	return out
}
