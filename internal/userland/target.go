// SPDX-License-Identifier: Apache-2.0

package userland

import (
	"path"
	"path/filepath"
	"strings"

	"github.com/tsugi-project/tsugi/internal/kernel"
)

// targetFormat is the version of target.json.
const targetFormat = 1

// Target is one exact binary package, prepared for making live patches. All
// its paths are absolute and on the host unless told otherwise; what other
// packages change of a build they change in a Scratch, never here.
type Target struct {
	Format        int
	Name          string // "debian:libssl3=3.0.20-1~deb12u2"
	Package       string // "libssl3"
	Version       string // "3.0.20-1~deb12u2"
	Source        string // name of the source package, "openssl"
	SourceVersion string
	Arch          string // "amd64"
	Compiler      string // first line of gcc --version in the root

	// Packages are the binary and source package files that it was made of, ordered by name.
	Packages []kernel.Input

	Root      string   // the build root's directory: /usr with build dependencies
	Build     string   // directory that is BuildPath in the root: source, configured and built
	BuildPath string   // in the root: "/build/reproducible-path/openssl-3.0.20"
	Env       []string // environment of the build

	Files []Shipped // ELF files that map code, by Path

	home     string
	commands *Commands
	binds    []bind // over Root, in tests
}

// Shipped is one ELF file of the package.
type Shipped struct {
	Path    string // where the package installs it: "/usr/lib/x86_64-linux-gnu/libcrypto.so.3"
	File    string // the shipped bytes
	BuildID string // hex
	Name    string // DT_SONAME, else the last part of Path
	Size    int64
	SHA256  string // hex, of the file

	// Rebuilt is the file built again, with its symbols; "" when it was not.
	Rebuilt string `json:",omitempty"`
	// RebuiltInside is Rebuilt's path in the root, as the build's links name it.
	RebuiltInside string `json:",omitempty"`
	// Identical tells that Rebuilt has all bytes that a process maps of the
	// shipped file, but for the build-id where Differs says so: sources,
	// commands and symbols are then proven. Where it is false, each function to
	// be replaced is to be compared byte by byte.
	Identical bool
	// Differs says how Rebuilt differs, or why there is none.
	Differs string `json:",omitempty"`

	// Symbols is where Symbols come from, SymbolFile the file with them.
	SymbolsFrom SymbolSource
	SymbolFile  string
}

// SymbolSource is how the functions of a shipped file are known.
type SymbolSource string

// Sources of symbols, the best first.
const (
	SymbolsRebuilt SymbolSource = "rebuilt"    // .symtab of the identical rebuilt file
	SymbolsDebug   SymbolSource = "debug file" // .symtab of the distribution's debug file of this build-id
	SymbolsList    SymbolSource = "nm list"    // names and addresses, as mariadb-server ships for mariadbd
	SymbolsDynamic SymbolSource = "dynsym"     // only what the file exports
)

// Command is one run of a compiler that made one object of one source. Paths
// are those of the root, absolute.
type Command struct {
	Argv   []string // as called: "gcc", "-I.", …
	Dir    string
	Source string // "/build/reproducible-path/openssl-3.0.20/crypto/pkcs7/pk7_smime.c"
	Object string // ".../crypto/pkcs7/libcrypto-shlib-pk7_smime.o"
}

// Link is one run of the linker or of ar: what was made of what.
type Link struct {
	Argv   []string
	Dir    string
	Output string   // absolute, in the root
	Inputs []string // objects and archives, absolute, in the root
}

// Home is the directory of the store that the target was opened from.
func (t *Target) Home() string { return t.home }

// Commands are the recorded commands of the build.
func (t *Target) Commands() *Commands { return t.commands }

// HostPath gives the place on the host of a path in the root.
func (t *Target) HostPath(inside string) string {
	inside = path.Clean("/" + inside)
	if rest, ok := strings.CutPrefix(inside, t.BuildPath); ok && (rest == "" || rest[0] == '/') {
		return filepath.Join(t.Build, rest)
	}
	return filepath.Join(t.Root, inside)
}

// ByBuildID finds a file by its build-id.
func (t *Target) ByBuildID(id string) (*Shipped, bool) {
	for i := range t.Files {
		if t.Files[i].BuildID == id {
			return &t.Files[i], true
		}
	}
	return nil, false
}
