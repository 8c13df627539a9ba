// SPDX-License-Identifier: Apache-2.0

package livepatch

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/order"
)

// FileRef is one ELF file that a live patch of a package changes: the processes
// that map it get the splice.
type FileRef struct {
	BuildID string `json:"build_id"` // GNU build-id, hex: what processes are found by
	Name    string `json:"name"`     // DT_SONAME, or the program's name
	Path    string `json:"path"`     // where the package installs it
	Package string `json:"package"`  // the binary package that ships it
	// Splice is what processes get, as package splice encodes it.
	Splice Payload `json:"splice"`
}

var (
	fileForm    = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.+~-]{0,126}$`)
	packageForm = regexp.MustCompile(`^[a-z0-9][a-z0-9.+-]{1,99}$`)
)

// ID is what indexes, their policies' lines of versions and rollouts know the
// target by: the build-id of a kernel; of a package, which has a build-id for
// each of its ELF files, the SHA-256 of its name and architecture in hex.
func (t TargetRef) ID() string {
	if t.Release != "" {
		return t.BuildID
	}
	h := sha256.Sum256([]byte(t.Name + " " + t.Arch))
	return hex.EncodeToString(h[:])
}

// Userland reports whether it is a live patch of a package's processes, and not
// of a kernel.
func (m *Manifest) Userland() bool { return len(m.Files) > 0 }

// NewUserland makes a live patch of a package. It fills in the format number,
// the order of functions and files, and all payloads: splices holds the encoded
// splice of each file by build-id, diffs the text of each fix by its id.
func NewUserland(m Manifest, splices, diffs map[string][]byte) (*Patch, error) {
	p := &Patch{Manifest: m, blobs: map[string][]byte{}}
	p.Manifest.Format = Format
	p.Manifest.Files = slices.Clone(m.Files)
	order.Sort(p.Manifest.Files, compareFiles)
	for i := range p.Manifest.Files {
		f := &p.Manifest.Files[i]
		b, ok := splices[f.BuildID]
		if !ok {
			return nil, invalid("file %s: no splice", f.Name)
		}
		f.Splice = p.put(fileName(f.Name)+".splice", b)
	}
	if len(p.Manifest.Files) == 0 {
		return nil, invalid("no files")
	}
	if err := p.finish(diffs); err != nil {
		return nil, err
	}
	return p, nil
}

func compareFiles(a, b FileRef) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.BuildID, b.BuildID))
}

// Splice returns the encoded splice of a file.
func (p *Patch) Splice(f FileRef) ([]byte, bool) { return p.Payload(f.Splice) }

// object reports whether functions may be said to be in something of that name.
func (m *Manifest) object(name string) bool {
	if !m.Userland() {
		return objectForm.MatchString(name)
	}
	return slices.ContainsFunc(m.Files, func(f FileRef) bool { return f.Name == name })
}

// checkUserland holds for live patches of packages: what only kernels have is
// not in them, and every file has a name, a build-id and a function.
func (m *Manifest) checkUserland() error {
	switch {
	case m.Target.Name == "" || m.Target.PackageVersion == "" || m.Target.Arch == "":
		return invalid("target: name, version and architecture are needed")
	case m.Target.Release != "" || m.Target.BuildID != "" || m.Target.ConfigDigest != "":
		return invalid("target: a package has no release, build-id or configuration of a kernel")
	case m.Module != (Payload{}) || len(m.Callbacks)+len(m.Modules)+len(m.Replacements)+len(m.States)+len(m.Members) > 0:
		return invalid("a live patch of a package has no module")
	case len(m.Functions) == 0:
		return invalid("no functions")
	}
	ids := map[string]bool{}
	for i, f := range m.Files {
		if !fileForm.MatchString(f.Name) || !packageForm.MatchString(f.Package) || i > 0 && compareFiles(m.Files[i-1], f) >= 0 {
			return invalid("file %q: bad name or package, twice or out of order", f.Name)
		}
		if !isHex(f.BuildID, 8, 64) || ids[f.BuildID] {
			return invalid("file %s: build-id %q: not 8 to 64 bytes of hex, or another file's", f.Name, f.BuildID)
		}
		if !strings.HasPrefix(f.Path, "/") || path.Clean(f.Path) != f.Path || strings.ContainsAny(f.Path, "\x00\n") {
			return invalid("file %s: path %q is not absolute and clean", f.Name, f.Path)
		}
		if !slices.ContainsFunc(m.Functions, func(x Function) bool { return x.Object == f.Name }) {
			return invalid("file %s: no function of it changes", f.Name)
		}
		ids[f.BuildID] = true
	}
	return nil
}
