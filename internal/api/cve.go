// SPDX-License-Identifier: Apache-2.0

package api

// Coverage says how a vulnerability stands on a target, for a policy.
type Coverage string

// The words of coverage, the gravest for an operator first.
const (
	CoverReboot   Coverage = "reboot"       // no live patch can do it: see Code and Why
	CoverBuild    Coverage = "build"        // it can be live, and no live patch has it yet
	CoverExcluded Coverage = "excluded"     // the policy leaves it out: see Excluded and Why
	CoverPossible Coverage = "possible"     // a live patch has a fix that is only possibly its own
	CoverModule   Coverage = "module"       // fixed modules beside the live patch bring it
	CoverLive     Coverage = "live"         // a live patch has it
	CoverNone     Coverage = "not-affected" // nothing that the target runs is changed by its fix
)

// Coverages are all of them, in this order.
func Coverages() []Coverage {
	return []Coverage{CoverReboot, CoverBuild, CoverExcluded, CoverPossible, CoverModule, CoverLive, CoverNone}
}

// Leaves is an exclusion with the policy that has it.
type Leaves struct {
	Policy string `json:"policy"`
	Exclusion
}

// TargetCVE is a cell of the matrix: a vulnerability on a target.
type TargetCVE struct {
	Target string   `json:"target"`
	State  Coverage `json:"state"`
	Code   string   `json:"code,omitempty"`
	Why    string   `json:"why,omitempty"`
	Patch  string   `json:"patch,omitempty"` // LivePatch.ID, the newest of the policy that says something of it
	Tiers  []string `json:"tiers,omitempty"` // where that is
	// Excluded are exclusions of any policy that leave it out of this target.
	Excluded []Leaves `json:"excluded,omitempty"`
	// Open counts the machines with this kernel on which it is open, of all
	// policies, by what would end it.
	Open map[Need]int `json:"open,omitempty"`
}

// CVE is a line of the matrix.
type CVE struct {
	CVE       string      `json:"cve"`
	Severity  string      `json:"severity,omitempty"` // the worst that a fix of it has
	Exploited bool        `json:"exploited,omitempty"`
	Title     string      `json:"title,omitempty"` // of a fix
	Targets   []TargetCVE `json:"targets"`         // those of which anything is known, in the order of CVEList.Targets
	Machines  int         `json:"machines"`        // on which it is open and somebody should do something
}

// CVEList is a page of the matrix.
type CVEList struct {
	Items   []CVE    `json:"items"`
	Next    string   `json:"next,omitempty"`
	Total   int      `json:"total"`   // that were asked about
	Targets []string `json:"targets"` // the columns: all of which anything is known
	// States counts what was asked about, State aside, by the gravest word of its
	// targets.
	States  map[Coverage]int `json:"states"`
	Policy  string           `json:"policy"`
	Counted int64            `json:"counted"` // when machines were looked at
}

// CVEFix is a fix of a vulnerability on a target.
type CVEFix struct {
	Target     string   `json:"target"`
	ID         string   `json:"id"`
	Title      string   `json:"title,omitempty"`
	CVEs       []string `json:"cves,omitempty"`
	Severity   string   `json:"severity,omitempty"`
	CVSS       string   `json:"cvss,omitempty"`
	Exploited  bool     `json:"exploited,omitempty"`
	Origin     string   `json:"origin,omitempty"`
	Update     string   `json:"update,omitempty"` // source version that brought it
	FirstSeen  string   `json:"first_seen,omitempty"`
	Subsystem  string   `json:"subsystem,omitempty"`
	Confidence string   `json:"confidence,omitempty"` // of the attribution: stated, certain, likely or possible
	Entry      string   `json:"entry,omitempty"`      // of the changelog
	Requires   []string `json:"requires,omitempty"`
	Files      []string `json:"files,omitempty"`
	Functions  []string `json:"functions,omitempty"`
	Verdict    string   `json:"verdict,omitempty"` // of the survey: live, reboot, not-affected or error; "": nobody has looked
	Code       string   `json:"code,omitempty"`
	Why        string   `json:"why,omitempty"`
	Diff       string   `json:"diff,omitempty"`
	Cut        bool     `json:"cut,omitempty"` // Diff is longer than MaxDiff and was cut
}

// MaxDiff bounds a diff in an answer.
const MaxDiff = 512 << 10

// CVEDetail is all that is known of a vulnerability.
type CVEDetail struct {
	CVE
	Policy string   `json:"policy"`
	Fixes  []CVEFix `json:"fixes"`
	// Patches are the live patches that have a fix of it, the newest first.
	Patches []LivePatch `json:"patches"`
	// Open counts machines by what would end it, Silent those of them that are
	// not heard of, and Unknown the machines of which nobody can say anything: no
	// live patch and no update is there for the kernel, or none for the machine.
	Open map[Need]int `json:"open"`
	// Protected counts the machines on which a live patch has it, and NotAffected
	// those with a kernel that its fix changes nothing of, or of which no update
	// names it.
	Protected   int   `json:"protected"`
	NotAffected int   `json:"not_affected"`
	Silent      int   `json:"silent"`
	Unknown     int   `json:"unknown"`
	Fleet       int   `json:"fleet"` // machines that were looked at
	Counted     int64 `json:"counted"`
}

// LivePatchContents is what a live patch is made of, by its manifest.
type LivePatchContents struct {
	ID             string             `json:"id"`
	PackageVersion string             `json:"package_version"`
	Update         string             `json:"update,omitempty"` // source version up to which fixes were taken
	Selection      string             `json:"selection,omitempty"`
	Fixes          []PatchFix         `json:"fixes"`
	Open           []LeftFix          `json:"open"` // what the update changes and this live patch does not
	Functions      []PatchFunction    `json:"functions"`
	Callbacks      []string           `json:"callbacks,omitempty"` // objects
	Modules        []Module           `json:"modules,omitempty"`   // among the objects, with the build that it was made for
	Replacements   []PatchReplacement `json:"replacements,omitempty"`
	Risks          []Problem          `json:"risks"`
	Inputs         []NamedDigest      `json:"inputs,omitempty"`
	Module         PatchFile          `json:"module"`          // of a kernel
	Files          []PatchedFile      `json:"files,omitempty"` // of a package
	Size           int64              `json:"size"`            // of the .tsugi file
	CipherSize     int64              `json:"cipher_size"`     // of what machines fetch
	Provenance     string             `json:"provenance"`      // digest of the statement
	Compiler       string             `json:"compiler,omitempty"`
	Builder        string             `json:"builder,omitempty"`
	CreatedBy      string             `json:"created_by,omitempty"`
	Published      map[string]int64   `json:"published"` // by tier, since when
	States         []PatchState       `json:"states,omitempty"`
	Members        int                `json:"members,omitempty"` // of structs, that it brings
}

// PatchFix is a fix in a live patch. Its diff is asked for by itself.
type PatchFix struct {
	ID        string   `json:"id"`
	Title     string   `json:"title,omitempty"`
	Origin    string   `json:"origin,omitempty"`
	CVEs      []string `json:"cves,omitempty"`
	Possible  []string `json:"possible,omitempty"`
	Severity  string   `json:"severity,omitempty"`
	Exploited bool     `json:"exploited,omitempty"`
	Modules   []string `json:"modules,omitempty"` // fixed modules without which it is not whole
	Size      int64    `json:"size"`              // of the diff
}

// PatchFunction is a function that a live patch replaces.
type PatchFunction struct {
	Object string `json:"object"`
	Name   string `json:"name"`
	Change string `json:"change"`
	Source string `json:"source,omitempty"`
}

// PatchReplacement is a fixed module that comes with a live patch.
type PatchReplacement struct {
	Name  string   `json:"name"`
	Path  string   `json:"path"`
	Fixes []string `json:"fixes"`
	Size  int64    `json:"size"`
}

// PatchFile is a file in a live patch.
type PatchFile struct {
	Name   string `json:"name"`
	Digest string `json:"sha256"`
	Size   int64  `json:"size"`
}

// PatchedFile is an ELF file that a live patch of a package changes.
type PatchedFile struct {
	Name    string `json:"name"`     // DT_SONAME, or the program's name
	BuildID string `json:"build_id"` // GNU build-id, hex
	Path    string `json:"path"`     // where the package installs it
	Package string `json:"package"`  // the binary package
	Size    int64  `json:"size"`     // of what processes get
}

// NamedDigest is one thing that a live patch was built from.
type NamedDigest struct {
	Name   string `json:"name"`
	Digest string `json:"sha256"`
}

// PatchState is a klp_state of the module.
type PatchState struct {
	ID      uint64 `json:"id"`
	Version uint32 `json:"version"`
}

// FixDiff is the diff of a fix as it went into a live patch.
type FixDiff struct {
	Fix  string `json:"fix"`
	Diff string `json:"diff"`
	Cut  bool   `json:"cut,omitempty"`
}

// PatchProof is the record of the proof that came with a live patch, as
// package proof writes it, and what its machines said on their consoles.
type PatchProof struct {
	Digest   string         `json:"sha256"`
	Proof    map[string]any `json:"proof"`
	Consoles []Console      `json:"consoles"`
}

// Console is what a virtual machine wrote.
type Console struct {
	Run    string `json:"run"` // before: without the live patch; after: with it
	Digest string `json:"sha256"`
	Kept   bool   `json:"kept"` // Text is it; else only its digest is known
	Text   string `json:"text,omitempty"`
	Cut    bool   `json:"cut,omitempty"` // Text is its end
}

// PatchProvenance is the statement of how a live patch was made.
type PatchProvenance struct {
	Digest    string         `json:"sha256"`
	Statement map[string]any `json:"statement"`
}
