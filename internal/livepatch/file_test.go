// SPDX-License-Identifier: Apache-2.0

package livepatch

import (
	"bytes"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tsugi-project/tsugi/internal/code"
)

func sample() Manifest {
	return Manifest{
		Name: "tsugi_ext4", Version: 3,
		Target:    TargetRef{Name: "debian:6.1.0-55-amd64", Release: "6.1.0-55-amd64", PackageVersion: "6.1.192-1", Arch: "x86_64", BuildID: strings.Repeat("a1", 20)},
		Fixes:     []FixRef{{ID: "deb-1154101", Title: "ext4: a < b & \"c\"", CVEs: []string{"CVE-2026-12345"}}},
		Functions: []Function{{Object: "vmlinux", Name: "f", Change: "changed"}, {Object: "ext4", Name: "g", SymPos: 2, Change: "changed"}},
		Modules:   []ModuleRef{{Name: "ext4", BuildID: strings.Repeat("b2", 20)}},
	}
}

func build(t testing.TB, m Manifest, module []byte) *Patch {
	t.Helper()
	diffs := map[string][]byte{}
	for _, f := range m.Fixes {
		diffs[f.ID] = []byte("--- a/x\n+++ b/x\n" + f.ID)
	}
	p, err := New(m, m.Name+".ko", module, diffs)
	qt.Assert(t, qt.IsNil(err))
	return p
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := sample()
		m.Version = rapid.IntRange(1, 1<<40).Draw(t, "version")
		m.Fixes[0].Title = rapid.String().Draw(t, "title")
		n := rapid.IntRange(0, 5).Draw(t, "functions")
		for i := range n {
			m.Functions = append(m.Functions, Function{Object: "m", Name: string(rune('a' + i)), SymPos: i, Change: "changed"})
		}
		module := rapid.SliceOfN(rapid.Byte(), 0, 2000).Draw(t, "module")
		p, err := New(m, "m.ko", module, map[string][]byte{"deb-1154101": []byte("diff")})
		if err != nil {
			t.Fatal(err)
		}
		b, err := p.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		q, err := Read(b)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(p.Manifest, q.Manifest); d != "" {
			t.Fatal(d)
		}
		if !bytes.Equal(q.Module(), module) {
			t.Fatal("another module came back")
		}
		again, _ := q.Bytes()
		if !bytes.Equal(b, again) {
			t.Fatal("other bytes the second time")
		}
	})
}

func TestALivePatchMayHaveCallbacksAlone(t *testing.T) {
	m := sample()
	m.Functions, m.Callbacks = nil, []string{"vmlinux", "ext4", "vmlinux"}
	b, err := build(t, m, []byte("ko")).Bytes()
	qt.Assert(t, qt.IsNil(err))
	p, err := Read(b)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(p.Manifest.Objects(), []string{"ext4", "vmlinux"}))
}

func TestTheOrderOfFunctionsGivenDoesNotMatter(t *testing.T) {
	m := sample()
	a, err := build(t, m, []byte("ko")).Bytes()
	qt.Assert(t, qt.IsNil(err))
	m.Functions[0], m.Functions[1] = m.Functions[1], m.Functions[0]
	b, err := build(t, m, []byte("ko")).Bytes()
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsTrue(bytes.Equal(a, b)))
}

func TestAFlippedBitIsFoundWhereverItIs(t *testing.T) {
	b, err := build(t, sample(), bytes.Repeat([]byte("module"), 100)).Bytes()
	qt.Assert(t, qt.IsNil(err))
	for i := range b {
		bit := i % 8 // a whole byte is 8 times the time and finds nothing more
		b[i] ^= 1 << bit
		if p, err := Read(b); err == nil {
			t.Fatalf("bit %d of byte %d was flipped and %s was read", bit, i, p.Manifest.Name)
		} else if c := code.Of(err); !strings.HasPrefix(string(c), "TS7") {
			t.Fatalf("byte %d: %v", i, err)
		}
		b[i] ^= 1 << bit
	}
	for n := 0; n < len(b); n += 3 {
		if _, err := Read(b[:n]); err == nil {
			t.Fatalf("the first %d of %d bytes were read", n, len(b))
		}
	}
	_, err = Read(append(b, 0))
	qt.Assert(t, qt.Equals(code.Of(err), "TS7001"))
}

func TestManifestsThatBreakARuleAreRefused(t *testing.T) {
	for name, edit := range map[string]func(*Manifest){
		"no functions":            func(m *Manifest) { m.Functions = nil },
		"callbacks of a path":     func(m *Manifest) { m.Callbacks = []string{"a/b"} },
		"no fixes":                func(m *Manifest) { m.Fixes = nil },
		"a name with a dash":      func(m *Manifest) { m.Name = "tsugi-ext4" },
		"a name that is long":     func(m *Manifest) { m.Name = strings.Repeat("a", 56) },
		"version zero":            func(m *Manifest) { m.Version = 0 },
		"a short build-id":        func(m *Manifest) { m.Target.BuildID = "ab" },
		"no release":              func(m *Manifest) { m.Target.Release = "" },
		"one function twice":      func(m *Manifest) { m.Functions = append(m.Functions, m.Functions[0]) },
		"an object as a path":     func(m *Manifest) { m.Functions[0].Object = "fs/ext4/ext4.ko" },
		"a function with comma":   func(m *Manifest) { m.Functions[0].Name = "a,1" },
		"something like a CVE":    func(m *Manifest) { m.Fixes[0].CVEs = []string{"CVE-1"} },
		"two fixes with one id":   func(m *Manifest) { m.Fixes = append(m.Fixes, m.Fixes[0]) },
		"a module unchanged":      func(m *Manifest) { m.Modules[0].Name = "xfs" },
		"a module twice":          func(m *Manifest) { m.Modules = append(m.Modules, m.Modules[0]) },
		"vmlinux as a module":     func(m *Manifest) { m.Modules = append(m.Modules, ModuleRef{Vmlinux, m.Target.BuildID}) },
		"a module of no build":    func(m *Manifest) { m.Modules[0].BuildID = "" },
		"a position below zero":   func(m *Manifest) { m.Functions[0].SymPos = -1 },
		"a fix that has no name":  func(m *Manifest) { m.Fixes[0].ID = "" },
		"a CVE possible, not had": func(m *Manifest) { m.Fixes[0].Possible = []string{"CVE-1999-0001"} },
		"a possible CVE twice":    func(m *Manifest) { m.Fixes[0].Possible = []string{m.Fixes[0].CVEs[0], m.Fixes[0].CVEs[0]} },
		"open and possible": func(m *Manifest) {
			m.Open = []OpenFix{{ID: "x", Kind: OpenReboot, Possible: []string{"CVE-1999-0001"}}}
		},
		"a module patched and replaced": func(m *Manifest) {
			m.Replacements = []Replacement{{Name: "ext4", Path: "kernel/fs/ext4/ext4.ko", Fixes: []string{m.Fixes[0].ID}}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := sample()
			edit(&m)
			_, err := New(m, "x.ko", nil, map[string][]byte{"deb-1154101": nil, "": nil})
			qt.Assert(t, qt.Equals(code.Of(err), "TS7003"), qt.Commentf("%v", err))
		})
	}
}

func TestDoubtful(t *testing.T) {
	fixes := []FixRef{
		{ID: "a", CVEs: []string{"CVE-2026-0001", "CVE-2026-0002", "CVE-2026-0003"}, Possible: []string{"CVE-2026-0002", "CVE-2026-0003"}},
		{ID: "b", CVEs: []string{"CVE-2026-0002"}},
		{ID: "c", CVEs: []string{"CVE-2026-0003"}, Possible: []string{"CVE-2026-0003"}},
	}
	qt.Check(t, qt.DeepEquals(Doubtful(fixes), []string{"CVE-2026-0003"}), qt.Commentf("another fix has the second for sure"))
}

func TestALaterFormatIsNamed(t *testing.T) {
	_, err := ParseManifest([]byte(`{"format":4,"what":"comes next"}` + "\n"))
	qt.Assert(t, qt.Equals(code.Of(err), "TS7004"))
}

func FuzzRead(f *testing.F) {
	b, err := build(f, sample(), []byte("ko")).Bytes()
	qt.Assert(f, qt.IsNil(err))
	f.Add(b)
	f.Add(b[:600])
	u, err := NewUserland(packageSample())
	qt.Assert(f, qt.IsNil(err))
	b, err = u.Bytes()
	qt.Assert(f, qt.IsNil(err))
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Read(b)
		if (err == nil) != (p != nil) {
			t.Fatal("neither a patch nor an error, or both")
		}
		if p == nil {
			return
		}
		again, err := p.Bytes()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatal("what was read is not written again")
		}
	})
}

func FuzzParseManifest(f *testing.F) {
	m := build(f, sample(), []byte("ko")).Manifest
	b, _ := m.encode()
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseManifest(b)
		if (err == nil) != (m != nil) {
			t.Fatal("neither a manifest nor an error, or both")
		}
	})
}
