// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/order"
	"github.com/tsugi-project/tsugi/internal/strict"
)

// IndexFormat is the number of this version of the index.
const IndexFormat = 1

// maxIndex bounds the bytes of an index.
const maxIndex = 4 << 20

// DefaultPolicy is the policy of machines whose group has no other. In an
// index, a path and on the wire it is "": so it was before there were others.
const DefaultPolicy = "default"

// Index is what a tier holds for one kernel, or one package, and the machines of one policy. It
// is a TUF target of the tier's role, TIER/BUILDID.json, or
// TIER/BUILDID.POLICY.json where the policy is not the default one, and with
// it what a machine may load is signed, fresh and whole: the agent decides by
// it alone (package policy).
type Index struct {
	Format int    `json:"format"`
	Tier   string `json:"tier"`
	// Policy is whose selections of fixes these live patches are; "" is the
	// default policy's. An index is never taken for that of another policy.
	Policy string `json:"policy,omitempty"`
	// SwapUnused lets machines replace a module that is loaded and not in use
	// by its fixed build.
	SwapUnused bool `json:"swap_unused,omitempty"`
	// Sequence grows with each index of this tier, kernel and policy. A machine
	// never goes back to a smaller one.
	Sequence int64      `json:"sequence"`
	Target   IndexRef   `json:"target"`
	Patches  []Offer    `json:"patches"` // ordered by version
	Blocked  []BlockRef `json:"blocked,omitempty"`
	// Revert, if not nil, authorises going to an older live patch.
	Revert *Revert `json:"revert,omitempty"`
}

// IndexRef names the kernel, or the package.
type IndexRef struct {
	Name    string `json:"name"`
	Release string `json:"release"` // "" for a package
	Arch    string `json:"arch"`
	BuildID string `json:"build_id"` // livepatch.TargetRef.ID
}

// Offer is one live patch of the tier.
type Offer struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Version int    `json:"version"`
	// Digest and Size are of the .tsugi file; the encrypted file is the TUF
	// target TIER/ID.tsugi.age.
	Digest string   `json:"sha256"`
	Size   int64    `json:"size"`
	CVEs   []string `json:"cves,omitempty"`
}

// BlockRef is a live patch that must not be loaded any more. With Recall set,
// a machine that has it takes it out: it goes back to the newest version
// below it that is not blocked, or to none.
type BlockRef struct {
	ID      string `json:"id"`
	Version int    `json:"version"`
	Reason  string `json:"reason"`
	Recall  bool   `json:"recall,omitempty"`
}

// Revert authorises machines to go from any version above To to To; 0 is no
// live patch at all. Versions above To up to Below stay forbidden.
type Revert struct {
	To     int    `json:"to"`
	Below  int    `json:"below"` // the highest version that is reverted
	Reason string `json:"reason"`
	By     string `json:"by"`
}

var (
	tierForm = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)
	// policyForm is that of package selection.
	policyForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)
	idForm     = regexp.MustCompile(`^[a-z0-9][A-Za-z0-9.+~_-]{0,159}$`)
)

// TierName reports whether a tier may have this name.
func TierName(s string) bool { return tierForm.MatchString(s) }

// PolicyName reports whether a policy may have this name.
func PolicyName(s string) bool { return policyForm.MatchString(s) }

// PolicyWord is a policy as indexes, paths and the wire name it: "" for the
// default one.
func PolicyWord(name string) string {
	if name == DefaultPolicy {
		return ""
	}
	return name
}

// PatchID is the id of a live patch: its target and version in a form that
// fits files, URLs and command lines.
func PatchID(target string, version int) string {
	return fmt.Sprintf("%s-v%d", strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '+', r == '~', r == '_', r == '-':
			return r
		}
		return '-'
	}, target), version)
}

// ValidPatchID reports whether a live patch may have this id.
func ValidPatchID(id string) bool { return idForm.MatchString(id) }

// IndexPath is the TUF target path of an index; "" is the default policy.
func IndexPath(tier, buildID, policy string) string {
	if policy = PolicyWord(policy); policy != "" {
		return tier + "/" + buildID + "." + policy + ".json"
	}
	return tier + "/" + buildID + ".json"
}

// PatchPath is the TUF target path of an encrypted live patch.
func PatchPath(tier, id string) string { return tier + "/" + id + ".tsugi.age" }

// ProvenancePath is the TUF target path of its provenance, a DSSE envelope.
func ProvenancePath(tier, id string) string { return tier + "/" + id + ".intoto.json" }

// TierRole is the name of the TUF role that a tier is delegated to.
func TierRole(tier string) string { return "tier-" + tier }

// Check holds for every index that is written or read.
func (x *Index) Check() error {
	switch {
	case x.Format != IndexFormat:
		return badIndex("format %d, this program knows %d", x.Format, IndexFormat)
	case !TierName(x.Tier):
		return badIndex("tier %q", x.Tier)
	case x.Policy != "" && (!PolicyName(x.Policy) || x.Policy == DefaultPolicy):
		return badIndex("policy %q", x.Policy)
	case x.Sequence < 1:
		return badIndex("sequence %d: less than 1", x.Sequence)
	case x.Target.Name == "" || x.Target.Arch == "" || !isHex(x.Target.BuildID, 8, 64):
		return badIndex("target: name, architecture and build-id are needed")
	case x.Revert != nil && (x.Revert.To < 0 || x.Revert.Below <= x.Revert.To || x.Revert.Reason == ""):
		return badIndex("revert to %d, below %d: versions in order and a reason are needed", x.Revert.To, x.Revert.Below)
	}
	for i, p := range x.Patches {
		if !idForm.MatchString(p.ID) || p.Version < 1 || p.Size < 1 || !isHex(p.Digest, 32, 32) || p.Name == "" {
			return badIndex("live patch %q: bad id, name, version, size or digest", p.ID)
		}
		if i > 0 && x.Patches[i-1].Version >= p.Version {
			return badIndex("live patch %q: version %d twice or out of order", p.ID, p.Version)
		}
	}
	for _, b := range x.Blocked {
		if !idForm.MatchString(b.ID) || b.Version < 1 || b.Reason == "" {
			return badIndex("block of %q: an id, a version and a reason are needed", b.ID)
		}
	}
	return nil
}

// Bytes is the canonical JSON of an index.
func (x *Index) Bytes() ([]byte, error) {
	order.Sort(x.Patches, func(a, b Offer) int { return cmp.Compare(a.Version, b.Version) })
	order.Sort(x.Blocked, func(a, b BlockRef) int { return cmp.Compare(a.Version, b.Version) })
	if err := x.Check(); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(x)
	return b.Bytes(), err
}

// ParseIndex reads an index and checks it. Whose it is has to be known
// already: it does not verify signatures.
func ParseIndex(b []byte) (*Index, error) {
	if len(b) > maxIndex {
		return nil, badIndex("%d bytes, more than %d", len(b), maxIndex)
	}
	var x Index
	if err := strict.JSON(b, &x); err != nil {
		return nil, badIndex("not readable").With(err)
	}
	if err := x.Check(); err != nil {
		return nil, err
	}
	return &x, nil
}

func badIndex(format string, args ...any) *code.Problem {
	return code.New("TS7101", "", fmt.Sprintf(format, args...))
}

func isHex(s string, low, high int) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) >= low && len(b) <= high && s == strings.ToLower(s)
}
