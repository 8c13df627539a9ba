// SPDX-License-Identifier: Apache-2.0

// Package livepatch is the artifact: one file NAME.tsugi per target, selection
// of fixes and version. It is pure: bytes in, values out, and back.
//
// # The file
//
// A POSIX ustar archive with nothing in it that varies: no owner, time 0,
// mode 0644. Its members are
//
//	manifest.json    a Manifest as canonical JSON, always first
//	manifest.sha256  the SHA-256 of manifest.json in hex and a line end
//	sha256/HEX       the payloads, named by the SHA-256 of their bytes,
//	                 in the order of their names, each one once
//
// Canonical JSON is what encoding/json writes for a Manifest with HTML
// escaping off and no indentation, and one line end. Two blocks of zeros end
// the archive and nothing follows them.
//
// There is exactly one file for given contents: Read accepts only bytes that
// Bytes would write. A digest of the file is therefore a digest of what it
// says, and a signature over it cannot be moved to a file that reads the same.
//
// Read refuses what is damaged (TS7001), a payload that is missing or is not
// what its name says (TS7002), a manifest that breaks the rules of Check
// (TS7003) and a format number that it does not know (TS7004).
package livepatch

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/order"
	"github.com/tsugi-project/tsugi/internal/strict"
)

// Format is the number of this version of the file format: that of live patches
// of libraries and programs, which hold a splice for each ELF file and no
// module. Those of kernels are written in format 2, as ever; files of format 1,
// which know no selection, replacements, states and inputs, are read too.
const Format = 3

const kernelFormat = 2

// Vmlinux is the Object of functions that are not in a module.
const Vmlinux = "vmlinux"

// Manifest says what a live patch is for and what it changes.
type Manifest struct {
	Format int `json:"format"`
	// Name is the kernel's name of the live patch: the module's name and the
	// directory in /sys/kernel/livepatch.
	Name string `json:"name"`
	// Version grows with every live patch of the same target: a higher one
	// supersedes all lower ones.
	Version   int        `json:"version"`
	Target    TargetRef  `json:"target"`
	Fixes     []FixRef   `json:"fixes"`
	Functions []Function `json:"functions"` // ordered by Object, Name, SymPos
	// Callbacks are the objects with patch callbacks, ordered. A live patch may
	// have callbacks and replace nothing.
	Callbacks []string `json:"callbacks,omitempty"`
	// Modules are the target's modules among the objects, ordered by name, each
	// with the build that the live patch was made for. One that has no build-id
	// is left out.
	Modules []ModuleRef `json:"modules,omitempty"`
	// Selection says what the fixes were chosen from.
	Selection *Selection `json:"selection,omitempty"`
	// Open is what the update changes and this live patch does not, ordered by ID.
	Open []OpenFix `json:"open,omitempty"`
	// Replacements are fixed modules for machines that have not loaded the
	// module, ordered by name.
	Replacements []Replacement `json:"replacements,omitempty"`
	// States are the klp_states of the module, ordered by ID: a live patch that
	// replaces another must know its states, in versions that are not lower.
	States []State `json:"states,omitempty"`
	// Members are those that structs have got, by this live patch or by those
	// that it comes after, ordered by place.
	Members []Member `json:"members,omitempty"`
	// Inputs are what it was built from, ordered by name: the same inputs give
	// the same bytes.
	Inputs []Input `json:"inputs,omitempty"`
	Risks  []Risk  `json:"risks,omitempty"`
	Module Payload `json:"module,omitzero"` // the .ko file of a kernel's live patch
	// Files are the ELF files that a live patch of a package changes, ordered by
	// name and build-id. Functions name them as their Object.
	Files    []FileRef `json:"files,omitempty"`
	Compiler string    `json:"compiler,omitempty"`
	Builder  string    `json:"builder,omitempty"` // the program and its version
}

// TargetRef names one exact kernel, or one exact package.
type TargetRef struct {
	Name           string `json:"name"`               // "debian:6.1.0-55-amd64"
	Release        string `json:"release,omitempty"`  // uname -r; none for a package
	PackageVersion string `json:"package_version"`    // "6.1.192-1"
	Arch           string `json:"arch"`               // "x86_64"
	BuildID        string `json:"build_id,omitempty"` // GNU build-id of vmlinux, hex; see FileRef for packages
	ConfigDigest   string `json:"config_digest,omitempty"`
}

// ByItself begins the Change of a function that is replaced by its own code:
// the kernel then waits for tasks in what lies behind it. That it runs proves
// nothing.
const ByItself = "replaced by itself"

// ModuleRef names one exact module of the target.
type ModuleRef struct {
	Name    string `json:"name"`     // as the kernel knows it, "ext4"
	BuildID string `json:"build_id"` // GNU build-id, hex
}

// FixRef is one source fix that the live patch contains.
type FixRef struct {
	ID     string   `json:"id"`
	Title  string   `json:"title,omitempty"`
	Origin string   `json:"origin,omitempty"`
	CVEs   []string `json:"cves,omitempty"`
	// Possible are those of CVEs, ordered, of which it is not sure that this is
	// their fix: a changelog's entry fits it, and others too.
	Possible   []string `json:"possible,omitempty"`
	Advisories []string `json:"advisories,omitempty"`
	Severity   string   `json:"severity,omitempty"`  // low, medium, high or critical
	Exploited  bool     `json:"exploited,omitempty"` // known to be exploited
	// Modules lists, ordered, the replacements without which the fix is not
	// whole; a fix with Modules and no function is served by them alone.
	Modules []string `json:"modules,omitempty"`
	Diff    Payload  `json:"diff"` // the source diff as it was applied
}

// Selection says what the fixes of a live patch were chosen from.
type Selection struct {
	Update string `json:"update,omitempty"` // source version up to which fixes were taken, "6.1.192-1"
	Digest string `json:"sha256"`           // of the chosen fixes (package series)
}

// OpenFix is a fix that the live patch does not hold.
type OpenFix struct {
	ID        string    `json:"id"`
	Title     string    `json:"title,omitempty"`
	CVEs      []string  `json:"cves,omitempty"`
	Possible  []string  `json:"possible,omitempty"` // as a FixRef has them
	Severity  string    `json:"severity,omitempty"`
	Exploited bool      `json:"exploited,omitempty"`
	Kind      string    `json:"kind"` // reboot or excluded
	Code      code.Code `json:"code,omitempty"`
	Why       string    `json:"why,omitempty"`
}

// Replacement is the fixed build of one of the target's modules. It takes the
// module's place on disk, for machines that load it later.
type Replacement struct {
	Name    string   `json:"name"`               // as the kernel knows it, "ext4"
	Path    string   `json:"path"`               // below /lib/modules/RELEASE, "kernel/fs/ext4/ext4.ko"
	BuildID string   `json:"build_id,omitempty"` // of the module that it replaces
	Fixes   []string `json:"fixes"`              // ids, ordered
	Module  Payload  `json:"module"`
}

// State is one klp_state of the module.
type State struct {
	ID      uint64 `json:"id"`
	Version uint32 `json:"version"`
}

// Input is one thing that the live patch was built from.
type Input struct {
	Name   string `json:"name"` // "linux-source-6.1_6.1.190-1_all.deb", "gcc-12"
	Digest string `json:"sha256"`
}

// Function is one function that the live patch replaces.
type Function struct {
	Object string `json:"object"` // "vmlinux" or a module's name
	Name   string `json:"name"`
	SymPos int    `json:"sympos"` // 0: the name is unique in the object
	Change string `json:"change"` // what changed, in the differ's words
	Source string `json:"source,omitempty"`
}

// Risk is advice that came with the verdict.
type Risk struct {
	Code  code.Code `json:"code"`
	What  string    `json:"what"`
	Where string    `json:"where,omitempty"`
	Why   string    `json:"why,omitempty"`
}

// Payload points at bytes in the file.
type Payload struct {
	Name   string `json:"name"` // what a person calls it, such as "tsugi_ext4.ko"
	Digest string `json:"sha256"`
	Size   int64  `json:"size"`
}

var (
	// scripts/livepatch and kernel/module/livepatch.c: MODULE_NAME_LEN is 56
	// with the NUL, and the name becomes part of symbol and section names.
	nameForm   = regexp.MustCompile(`^[A-Za-z0-9_]{1,55}$`)
	objectForm = regexp.MustCompile(`^[A-Za-z0-9_]{1,55}$`)
	cveForm    = regexp.MustCompile(`^CVE-\d{4}-\d{4,}$`)
)

// Check holds for every manifest that is written or read.
func (m *Manifest) Check() error {
	switch {
	case m.Format < 1 || m.Format > Format:
		return code.New("TS7004", "manifest.json", fmt.Sprintf("format %d, this program knows 1 to %d", m.Format, Format))
	case (m.Format == Format) != m.Userland():
		return invalid("format %d: only one of format %d holds files of packages, and it does", m.Format, Format)
	case !nameForm.MatchString(m.Name):
		return invalid("name %q: not a module name of at most 55 letters, digits and underscores", m.Name)
	case m.Version < 1:
		return invalid("version %d: less than 1", m.Version)
	case m.Userland():
		if err := m.checkUserland(); err != nil {
			return err
		}
	case m.Target.Name == "" || m.Target.Release == "" || m.Target.Arch == "":
		return invalid("target: name, release and architecture are needed")
	case !isHex(m.Target.BuildID, 8, 64):
		return invalid("target: build-id %q: not 8 to 64 bytes of hex", m.Target.BuildID)
	case len(m.Functions) == 0 && len(m.Callbacks) == 0:
		return invalid("no functions and no callbacks")
	}
	if len(m.Fixes) == 0 {
		return invalid("no fixes")
	}
	for i, o := range m.Callbacks {
		if !objectForm.MatchString(o) || i > 0 && m.Callbacks[i-1] >= o {
			return invalid("callbacks of %q: not an object, twice or out of order", o)
		}
	}
	if err := m.checkFunctions(); err != nil {
		return err
	}
	if err := m.checkModules(); err != nil {
		return err
	}
	ids := map[string]bool{}
	for _, f := range m.Fixes {
		if f.ID == "" || ids[f.ID] {
			return invalid("fix %q: no id, or one that is taken", f.ID)
		}
		ids[f.ID] = true
		for _, c := range f.CVEs {
			if !cveForm.MatchString(c) {
				return invalid("fix %s: %q is not a CVE id", f.ID, c)
			}
		}
		if !within(f.Possible, f.CVEs) {
			return invalid("fix %s: possible CVEs that it has not, twice or out of order", f.ID)
		}
	}
	if err := m.checkLeft(ids); err != nil {
		return err
	}
	if err := m.checkOrigin(); err != nil {
		return err
	}
	for p := range m.payloads() {
		if !isHex(p.Digest, 32, 32) || p.Size < 0 || p.Name == "" || strings.ContainsAny(p.Name, "/\x00") {
			return invalid("payload %q: bad name, digest or size", p.Name)
		}
	}
	return nil
}

func (m *Manifest) checkFunctions() error {
	for i, f := range m.Functions {
		if !m.object(f.Object) || f.Name == "" || len(f.Name) > 511 || strings.ContainsAny(f.Name, ",\x00") || f.SymPos < 0 {
			return invalid("function %s:%s,%d: bad object, name or position", f.Object, f.Name, f.SymPos)
		}
		if i > 0 && compareFunctions(m.Functions[i-1], f) >= 0 {
			return invalid("function %s:%s,%d: twice or out of order", f.Object, f.Name, f.SymPos)
		}
	}
	return nil
}

func (m *Manifest) checkModules() error {
	objects := m.Objects()
	for i, r := range m.Modules {
		if _, ok := slices.BinarySearch(objects, r.Name); !ok || r.Name == Vmlinux || i > 0 && m.Modules[i-1].Name >= r.Name {
			return invalid("module %q: not a module that is changed, twice or out of order", r.Name)
		}
		if !isHex(r.BuildID, 8, 64) {
			return invalid("module %s: build-id %q: not 8 to 64 bytes of hex", r.Name, r.BuildID)
		}
	}
	return nil
}

func compareFunctions(a, b Function) int {
	return cmp.Or(cmp.Compare(a.Object, b.Object), cmp.Compare(a.Name, b.Name), cmp.Compare(a.SymPos, b.SymPos))
}

// SortFunctions puts functions into the order that a manifest has.
func SortFunctions(f []Function) { order.Sort(f, compareFunctions) }

// Objects returns the objects that the live patch changes, in order.
func (m *Manifest) Objects() []string {
	out := slices.Clone(m.Callbacks)
	for _, f := range m.Functions {
		out = append(out, f.Object)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// CVEs returns the CVE ids of all fixes, ordered.
func (m *Manifest) CVEs() []string {
	var out []string
	for _, f := range m.Fixes {
		out = append(out, f.CVEs...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Doubtful lists the CVEs, ordered, that no fix carries for sure: each of those
// that have one may be another's.
func Doubtful(fixes []FixRef) []string {
	sure := map[string]bool{}
	for _, f := range fixes {
		for _, c := range f.CVEs {
			sure[c] = sure[c] || !slices.Contains(f.Possible, c)
		}
	}
	var out []string
	for c, is := range sure {
		if !is {
			out = append(out, c)
		}
	}
	slices.Sort(out)
	return out
}

// within tells whether one list is an ordered part of another.
func within(part, of []string) bool {
	for i, s := range part {
		if i > 0 && part[i-1] >= s || !slices.Contains(of, s) {
			return false
		}
	}
	return true
}

func (m *Manifest) payloads() func(func(Payload) bool) {
	return func(yield func(Payload) bool) {
		if !m.Userland() && !yield(m.Module) {
			return
		}
		for _, f := range m.Files {
			if !yield(f.Splice) {
				return
			}
		}
		for _, r := range m.Replacements {
			if !yield(r.Module) {
				return
			}
		}
		for _, f := range m.Fixes {
			if !yield(f.Diff) {
				return
			}
		}
	}
}

// encode is the canonical JSON of a manifest.
func (m *Manifest) encode() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(m); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// ParseManifest reads a manifest and checks it. It refuses JSON that is not
// in the canonical form.
func ParseManifest(b []byte) (*Manifest, error) {
	var f struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, code.New("TS7001", "manifest.json", "").With(err)
	}
	if f.Format < 1 || f.Format > Format {
		return nil, code.New("TS7004", "manifest.json", fmt.Sprintf("format %d, this program knows 1 to %d", f.Format, Format))
	}
	var m Manifest
	if err := strict.JSON(b, &m); err != nil {
		return nil, code.New("TS7001", "manifest.json", "").With(err)
	}
	if err := m.Check(); err != nil {
		return nil, err
	}
	canon, err := m.encode()
	if err != nil || !bytes.Equal(canon, b) {
		return nil, code.New("TS7001", "manifest.json", "it is not in canonical form")
	}
	return &m, nil
}

func invalid(format string, args ...any) error {
	return code.New("TS7003", "manifest.json", fmt.Sprintf(format, args...))
}

func isHex(s string, low, high int) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) >= low && len(b) <= high && s == strings.ToLower(s)
}
