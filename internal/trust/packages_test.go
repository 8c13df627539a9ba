// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"bytes"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
)

func samplePackages() *Packages {
	id := func(s string) string { return strings.Repeat(s, 32) }
	file := func(s, name string) ELFFile { return ELFFile{BuildID: strings.Repeat(s, 20), Name: name} }
	return &Packages{Format: PackagesFormat, Tier: "edge", Packages: []Package{
		{Target: "debian:libssl3=3.0.20-1~deb12u2", Arch: "x86_64", ID: id("0a"), Files: []ELFFile{file("c1", "libcrypto.so.3"), file("d1", "libssl.so.3")}},
		{Target: "debian:postgresql-15=15.18-0+deb12u1", Arch: "x86_64", ID: id("01"), Files: []ELFFile{file("aa", "postgres")}},
	}}
}

func TestAListOfPackagesIsWrittenInOneFormAndRead(t *testing.T) {
	b, err := samplePackages().Bytes()
	qt.Assert(t, qt.IsNil(err))
	p, err := ParsePackages(b)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(p, samplePackages()))
	shuffled := samplePackages()
	shuffled.Packages[0], shuffled.Packages[1] = shuffled.Packages[1], shuffled.Packages[0]
	f := shuffled.Packages[1].Files
	f[0], f[1] = f[1], f[0]
	again, err := shuffled.Bytes()
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(bytes.Equal(again, b)))
	qt.Check(t, qt.Equals(PackagesPath("edge"), "edge/packages.json"))
}

func TestAListOfPackagesThatBreaksARuleIsRefused(t *testing.T) {
	for name, change := range map[string]func(p *Packages){
		"a later format":          func(p *Packages) { p.Format = 2 },
		"no list":                 func(p *Packages) { p.Packages = nil },
		"a number below 0":        func(p *Packages) { p.Sequence = -1 },
		"no tier":                 func(p *Packages) { p.Tier = "" },
		"no target":               func(p *Packages) { p.Packages[0].Target = "" },
		"no architecture":         func(p *Packages) { p.Packages[0].Arch = "" },
		"no id":                   func(p *Packages) { p.Packages[0].ID = "" },
		"an id in capitals":       func(p *Packages) { p.Packages[0].ID = strings.ToUpper(p.Packages[0].ID) },
		"an id that is a path":    func(p *Packages) { p.Packages[0].ID = "../../etc" },
		"an id twice":             func(p *Packages) { p.Packages[1].ID = p.Packages[0].ID },
		"out of order":            func(p *Packages) { p.Packages[0].Target = "z" },
		"no files":                func(p *Packages) { p.Packages[0].Files = nil },
		"a file without a name":   func(p *Packages) { p.Packages[0].Files[0].Name = "" },
		"a file of no build-id":   func(p *Packages) { p.Packages[0].Files[0].BuildID = "x" },
		"a file twice":            func(p *Packages) { p.Packages[0].Files[1] = p.Packages[0].Files[0] },
		"files out of order":      func(p *Packages) { f := p.Packages[0].Files; f[0], f[1] = f[1], f[0] },
		"a build-id of 200 bytes": func(p *Packages) { p.Packages[0].Files[1].BuildID = strings.Repeat("ff", 200) },
	} {
		p := samplePackages()
		change(p)
		qt.Check(t, qt.Equals(code.Of(p.Check()), "TS7101"), qt.Commentf(name))
	}
	good, err := samplePackages().Bytes()
	qt.Assert(t, qt.IsNil(err))
	for name, b := range map[string]string{
		"nothing":        "",
		"another field":  strings.Replace(string(good), `{"format"`, `{"x":1,"format"`, 1),
		"something more": string(good) + "{}",
		"an index":       `{"format":1,"tier":"edge","sequence":1}`,
		"too long":       string(good) + strings.Repeat(" ", maxPackages),
	} {
		p, err := ParsePackages([]byte(b))
		qt.Check(t, qt.Equals(code.Of(err), "TS7101"), qt.Commentf(name))
		qt.Check(t, qt.IsNil(p))
	}
}

// FuzzParsePackages checks that what is read can be written, and reads the same
// again.
func FuzzParsePackages(f *testing.F) {
	good, err := samplePackages().Bytes()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"format":1,"tier":"edge","packages":null}`))
	f.Add([]byte(`{"format":1,"tier":"edge","packages":[{"target":"a","arch":"b","id":"0011223344556677","files":[null]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePackages(b)
		if err != nil {
			if code.Of(err) != "TS7101" || p != nil {
				t.Fatalf("%v, %v", p, err)
			}
			return
		}
		one, err := p.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		q, err := ParsePackages(one)
		if err != nil {
			t.Fatal(err)
		}
		two, err := q.Bytes()
		if err != nil || !bytes.Equal(one, two) {
			t.Fatalf("%s\n%s\n%v", one, two, err)
		}
	})
}
