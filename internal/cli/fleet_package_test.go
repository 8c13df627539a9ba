// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"os"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/splice"
)

// mkspliced VERSION FILE: writes a live patch of a package, for a library that
// no machine has.
func mkspliced(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mkspliced VERSION FILE")
	}
	version, err := strconv.Atoi(args[0])
	ts.Check(err)
	const name, path = "libsample.so.1", "/usr/lib/x86_64-linux-gnu/libsample.so.1"
	id := strings.Repeat("5a", 20)
	payload, err := (&splice.File{
		Format: splice.Format, BuildID: id, Name: name, Path: path,
		Segments:  []splice.Segment{{Vaddr: 0x1000, Memsz: 0x1000, Filesz: 0x1000, Flags: 5}},
		Text:      bytes.Repeat([]byte{0xc3}, 16),
		Functions: []splice.Function{{Name: "f", Old: 0x1100, Size: 32, Room: 32, SHA256: strings.Repeat("0", 64), NewSize: 16, Policy: splice.Quiescent}},
	}).Encode()
	ts.Check(err)
	p, err := livepatch.NewUserland(livepatch.Manifest{
		Name: "libsample", Version: version,
		Target:    livepatch.TargetRef{Name: "debian:libsample1=1.2-3", PackageVersion: "1.2-3", Arch: "x86_64"},
		Fixes:     []livepatch.FixRef{{ID: "sample", Title: "lib: check the length", CVEs: []string{"CVE-2026-54321"}}},
		Functions: []livepatch.Function{{Object: name, Name: "f", Change: "other code at +0x10"}},
		Files:     []livepatch.FileRef{{BuildID: id, Name: name, Path: path, Package: "libsample1"}},
	}, map[string][]byte{id: payload}, map[string][]byte{"sample": []byte("--- a/x\n")})
	ts.Check(err)
	b, err := p.Bytes()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), b, 0o644))
}
