// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"bytes"
	"cmp"
	"encoding/json"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/order"
	"github.com/tsugi-project/tsugi/internal/strict"
)

// PackagesFormat is the number of this version of Packages.
const PackagesFormat = 1

// maxPackages bounds the bytes of Packages.
const maxPackages = 16 << 20

// Packages says which ELF files a tier has live patches for, and of which
// packages they are. It is a TUF target of the tier's role, TIER/packages.json.
// A machine sees build-ids in its processes; by this it knows whose index to
// ask for.
type Packages struct {
	Format int    `json:"format"`
	Tier   string `json:"tier"`
	// Sequence grows with each list of this tier, as an index's does: a machine
	// takes none below one that it has seen. 0 is a list from before it was there.
	Sequence int64     `json:"sequence,omitempty"`
	Packages []Package `json:"packages"` // ordered by target
}

// Package is one exact package, and its files that any live patch of the tier
// changes.
type Package struct {
	Target string    `json:"target"` // "debian:libssl3=3.0.20-1~deb12u2"
	Arch   string    `json:"arch"`
	ID     string    `json:"id"`    // where an index has a kernel's build-id: see livepatch.TargetRef
	Files  []ELFFile `json:"files"` // ordered by build-id
}

// ELFFile is one exact ELF file.
type ELFFile struct {
	BuildID string `json:"build_id"` // GNU build-id, hex
	Name    string `json:"name"`     // DT_SONAME, or the program's name
}

// PackagesPath is the TUF target path of a tier's Packages.
func PackagesPath(tier string) string { return tier + "/packages.json" }

// Check holds for all that is written or read.
func (p *Packages) Check() error {
	switch {
	case p.Format != PackagesFormat:
		return badPackages("format %d, this program knows %d", p.Format, PackagesFormat)
	case !TierName(p.Tier):
		return badPackages("tier %q", p.Tier)
	case p.Packages == nil:
		return badPackages("it has no list")
	case p.Sequence < 0:
		return badPackages("sequence %d: less than 0", p.Sequence)
	}
	ids := map[string]bool{}
	for i, k := range p.Packages {
		if k.Target == "" || k.Arch == "" || !isHex(k.ID, 8, 64) || len(k.Files) == 0 {
			return badPackages("package %q: target, architecture, id and files are needed", k.Target)
		}
		if ids[k.ID] || i > 0 && p.Packages[i-1].Target > k.Target {
			return badPackages("package %q: twice or out of order", k.Target)
		}
		ids[k.ID] = true
		for n, f := range k.Files {
			if !isHex(f.BuildID, 8, 64) || f.Name == "" || n > 0 && k.Files[n-1].BuildID >= f.BuildID {
				return badPackages("package %q: file %q: no name or build-id, twice or out of order", k.Target, f.Name)
			}
		}
	}
	return nil
}

// Bytes is the canonical JSON.
func (p *Packages) Bytes() ([]byte, error) {
	order.Sort(p.Packages, func(a, b Package) int { return cmp.Or(cmp.Compare(a.Target, b.Target), cmp.Compare(a.ID, b.ID)) })
	for _, k := range p.Packages {
		order.Sort(k.Files, func(a, b ELFFile) int { return cmp.Compare(a.BuildID, b.BuildID) })
	}
	if err := p.Check(); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(p)
	return b.Bytes(), err
}

// ParsePackages reads Packages and checks them. Whose they are has to be known
// already: it does not verify signatures.
func ParsePackages(b []byte) (*Packages, error) {
	if len(b) > maxPackages {
		return nil, badPackages("%d bytes, more than %d", len(b), maxPackages)
	}
	var p Packages
	if err := strict.JSON(b, &p); err != nil {
		return nil, badPackages("not readable").With(err)
	}
	if err := p.Check(); err != nil {
		return nil, err
	}
	return &p, nil
}

func badPackages(format string, args ...any) *code.Problem {
	p := badIndex(format, args...)
	p.Where = "packages.json"
	return p
}
