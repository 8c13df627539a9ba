// SPDX-License-Identifier: Apache-2.0

package livepatch

import (
	"bytes"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
)

func packageSample() (m Manifest, splices, diffs map[string][]byte) {
	crypto, ssl := strings.Repeat("c1", 20), strings.Repeat("55", 20)
	m = Manifest{
		Name: "libssl3_1", Version: 1,
		Target: TargetRef{Name: "debian:libssl3=3.0.20-1~deb12u2", PackageVersion: "3.0.20-1~deb12u2", Arch: "x86_64"},
		Fixes:  []FixRef{{ID: "CVE-2026-45447", CVEs: []string{"CVE-2026-45447"}}},
		Functions: []Function{
			{Object: "libssl.so.3", Name: "SSL_free", Change: "changed"},
			{Object: "libcrypto.so.3", Name: "aes_ocb_cipher", SymPos: 2, Change: "changed"},
		},
		Files: []FileRef{
			{BuildID: ssl, Name: "libssl.so.3", Path: "/usr/lib/x86_64-linux-gnu/libssl.so.3", Package: "libssl3"},
			{BuildID: crypto, Name: "libcrypto.so.3", Path: "/usr/lib/x86_64-linux-gnu/libcrypto.so.3", Package: "libssl3"},
		},
	}
	return m, map[string][]byte{ssl: []byte("one"), crypto: []byte("two")}, map[string][]byte{"CVE-2026-45447": []byte("diff")}
}

func TestALivePatchOfAPackageIsWrittenAndRead(t *testing.T) {
	p, err := NewUserland(packageSample())
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(p.Manifest.Format, 3))
	b, err := p.Bytes()
	qt.Assert(t, qt.IsNil(err))
	q, err := Read(b)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(q.Manifest.Userland()))
	qt.Check(t, qt.DeepEquals(q.Manifest.Objects(), []string{"libcrypto.so.3", "libssl.so.3"}))
	for i, want := range []string{"two", "one"} {
		got, ok := q.Splice(q.Manifest.Files[i])
		qt.Check(t, qt.IsTrue(ok && string(got) == want))
	}
	qt.Check(t, qt.IsFalse(bytes.Contains(b, []byte(`"module"`)) || bytes.Contains(b, []byte(`"release"`))))
}

func TestKernelsAreWrittenAsEver(t *testing.T) {
	b, err := build(t, sample(), []byte("ko")).Bytes()
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(bytes.Contains(b, []byte(`{"format":2,"name":"tsugi_ext4","version":3,"target":{"name":"debian:6.1.0-55-amd64","release":"6.1.0-55-amd64",`))))
	qt.Check(t, qt.IsFalse(bytes.Contains(b, []byte(`"files"`))))
}

func TestLivePatchesOfPackagesThatBreakARuleAreRefused(t *testing.T) {
	for name, edit := range map[string]func(*Manifest){
		"no version of the package": func(m *Manifest) { m.Target.PackageVersion = "" },
		"a kernel's release":        func(m *Manifest) { m.Target.Release = "6.1.0-55-amd64" },
		"a kernel's state":          func(m *Manifest) { m.States = []State{{ID: 1, Version: 1}} },
		"callbacks":                 func(m *Manifest) { m.Callbacks = []string{"libssl.so.3"} },
		"no functions":              func(m *Manifest) { m.Functions = nil },
		"a file unchanged":          func(m *Manifest) { m.Functions = m.Functions[:1] },
		"a function of no file":     func(m *Manifest) { m.Functions[0].Object = "libz.so.1" },
		"one build twice":           func(m *Manifest) { m.Files[0].BuildID = m.Files[1].BuildID },
		"a build that is none":      func(m *Manifest) { m.Files[0].Name = "../x" },
		"a relative path":           func(m *Manifest) { m.Files[0].Path = "usr/lib/x" },
		"a path with a way back":    func(m *Manifest) { m.Files[0].Path = "/usr/../lib/x" },
		"no package":                func(m *Manifest) { m.Files[0].Package = "" },
		"no fixes":                  func(m *Manifest) { m.Fixes = nil },
	} {
		t.Run(name, func(t *testing.T) {
			m, splices, diffs := packageSample()
			edit(&m)
			_, err := NewUserland(m, splices, diffs)
			qt.Assert(t, qt.Equals(code.Of(err), "TS7003"), qt.Commentf("%v", err))
		})
	}
	m, splices, diffs := packageSample()
	delete(splices, m.Files[0].BuildID)
	_, err := NewUserland(m, splices, diffs)
	qt.Check(t, qt.Equals(code.Of(err), "TS7003"))
	m.Files = nil
	_, err = NewUserland(m, splices, diffs)
	qt.Check(t, qt.Equals(code.Of(err), "TS7003"))
}

func TestAFormatThatDoesNotGoWithItsContentsIsRefused(t *testing.T) {
	m, splices, diffs := packageSample()
	p, err := NewUserland(m, splices, diffs)
	qt.Assert(t, qt.IsNil(err))
	p.Manifest.Format = 2
	_, err = p.Bytes()
	qt.Check(t, qt.Equals(code.Of(err), "TS7003"))
	k := build(t, sample(), []byte("ko"))
	k.Manifest.Format = 3
	_, err = k.Bytes()
	qt.Check(t, qt.Equals(code.Of(err), "TS7003"))
}
