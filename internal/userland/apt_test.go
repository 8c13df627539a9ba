// SPDX-License-Identifier: Apache-2.0

package userland

import (
	"testing"

	"github.com/go-quicktest/qt"
)

func TestNamesOfPackageTargets(t *testing.T) {
	for _, good := range []string{"debian:libssl3=3.0.20-1~deb12u2", "debian:mariadb-server=1:10.11.18-0+deb12u1", "debian:libstdc++6=12.2.0-14"} {
		qt.Check(t, qt.IsTrue(IsName(good)), qt.Commentf("%s", good))
	}
	for _, bad := range []string{"", "debian:6.1.0-55-amd64", "debian:libssl3", "debian:libssl3=", "debian:=1", "libssl3=3", "tree:/x=1", "debian:../x=1", "debian:a b=1", "debian:libssl3=1 -o x", "debian:-x=1", "debian:libssl3=x"} {
		qt.Check(t, qt.IsFalse(IsName(bad)), qt.Commentf("%s", bad))
	}
}

func TestSourcePackagesAreAddedToPackageSources(t *testing.T) {
	const stanzas = "Types: deb\nURIs: http://a.example/debian\nSuites: s s-updates\nComponents: main\nSigned-By: /usr/share/keyrings/k.gpg\n\n# second\nTypes: deb deb-src\nURIs: http://b.example\nSuites: t\nComponents: main\n"
	got, err := withSources(".sources", []byte(stanzas), 1)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(got, "Types: deb deb-src\nURIs: http://a.example/debian\nSuites: s s-updates\nComponents: main\nSigned-By: /usr/share/keyrings/k.gpg\n\n"))
	got, err = withSources(".sources", []byte(stanzas), 2)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(got, "Types: deb deb-src\nURIs: http://b.example\nSuites: t\nComponents: main\n\n"))
	_, err = withSources(".sources", []byte(stanzas), 3)
	qt.Check(t, qt.IsNotNil(err))

	const lines = "# comment\ndeb [signed-by=/k.gpg] http://a.example/debian s main\ndeb-src http://a.example/debian s main\n"
	got, err = withSources(".list", []byte(lines), 2)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(got, "deb [signed-by=/k.gpg] http://a.example/debian s main\ndeb-src [signed-by=/k.gpg] http://a.example/debian s main\n"))
	for _, n := range []int{0, 1, 3, 9} {
		_, err := withSources(".list", []byte(lines), n)
		qt.Check(t, qt.IsNotNil(err), qt.Commentf("line %d", n))
	}
}

func TestPackagesThatAptWouldDownload(t *testing.T) {
	const out = `Reading package lists...
'http://a.example/pool/g/gcc-12/gcc-12-base_12.2.0-14%2bdeb12u1_amd64.deb' gcc-12-base_12.2.0-14+deb12u1_amd64.deb 37596 MD5Sum:8e7e
'http://a.example/pool/z/zlib/zlib1g_1.2.13.dfsg-1_amd64.deb' zlib1g_1%3a1.2.13.dfsg-1_amd64.deb 86656 SHA256:aa
'http://a.example/pool/o/openssl/openssl_3.0.20.orig.tar.gz' openssl_3.0.20.orig.tar.gz 15292815 SHA256:c8
After this operation, 1 MB of additional disk space will be used.
`
	qt.Check(t, qt.DeepEquals(printedPackages(out), []string{"gcc-12-base=12.2.0-14+deb12u1", "zlib1g=1:1.2.13.dfsg-1"}))
}

func TestEverythingOfARootLiesBelowUsr(t *testing.T) {
	for name, want := range map[string]string{
		"usr/bin/gcc": "usr/bin/gcc", "bin/sh": "usr/bin/sh", "lib64/ld-linux-x86-64.so.2": "usr/lib64/ld-linux-x86-64.so.2",
		"lib": "", "lib/x86_64-linux-gnu/libc.so.6": "usr/lib/x86_64-linux-gnu/libc.so.6", "usr/share/doc/x/copyright": "",
		"usr/share/man/man1/x.1.gz": "", "etc/ld.so.conf": "etc/ld.so.conf", "dev/null": "", "tsugi/log/x": "",
	} {
		qt.Check(t, qt.Equals(rootPlace(name), want), qt.Commentf("%s", name))
	}
}

func TestTheBuildPathIsThatOfTheDistribution(t *testing.T) {
	for _, test := range [][3]string{
		{"openssl", "3.0.20-1~deb12u2", "/build/reproducible-path/openssl-3.0.20"},
		{"mariadb", "1:10.11.18-0+deb12u1", "/build/reproducible-path/mariadb-10.11.18"},
		{"glibc", "2.36-9+deb12u7", "/build/reproducible-path/glibc-2.36"},
		{"a-b", "1-2-3", "/build/reproducible-path/a-b-1-2"},
		{"native", "1.2", "/build/reproducible-path/native-1.2"},
	} {
		qt.Check(t, qt.Equals(sourceDirOf(test[0], test[1]), test[2]))
	}
}

func TestRecipesAreWhole(t *testing.T) {
	seen := make(map[string]bool)
	for _, r := range recipes {
		qt.Check(t, qt.IsFalse(seen[r.source]), qt.Commentf("%s", r.source))
		seen[r.source] = true
		qt.Check(t, qt.IsTrue(r.configure != "" && r.script != ""), qt.Commentf("%s", r.source))
		qt.Check(t, qt.IsTrue(!r.stub || r.debug != "" || len(r.lists) > 0), qt.Commentf("%s: nothing would tell its symbols", r.source))
	}
	qt.Check(t, qt.Equals(recipeOf("openssl").source, "openssl"))
	other := recipeOf("zlib")
	qt.Check(t, qt.Equals(other.source, "zlib"))
	qt.Check(t, qt.Not(qt.Equals(other.script, "")))
	qt.Check(t, qt.DeepEquals(recipe{profiles: []string{"x"}}.allProfiles(), []string{"nocheck", "nodoc", "noudeb", "x"}))
}
