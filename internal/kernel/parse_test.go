// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
)

func TestParseConfig(t *testing.T) {
	c, err := ParseConfig([]byte("#\n# Linux/x86\n#\nCONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\nCONFIG_D=\"gcc-12 (x \\\"y\\\" \\\\)\"\nCONFIG_E=0x10\nCONFIG_F=\"\"\n"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(c, Config{"CONFIG_A": "y", "CONFIG_B": "m", "CONFIG_D": `gcc-12 (x "y" \)`, "CONFIG_E": "0x10", "CONFIG_F": ""}))
	qt.Check(t, qt.IsTrue(c.Has("CONFIG_B")))
	qt.Check(t, qt.IsFalse(c.Has("CONFIG_C")))
	qt.Check(t, qt.IsFalse(c.Has("CONFIG_E")))
	for _, bad := range []string{"A=y\n", "CONFIG_=y\n", "CONFIG_A\n", "CONFIG_A B=y\n", strings.Repeat("x", maxLine+1)} {
		_, err := ParseConfig([]byte(bad))
		qt.Check(t, qt.IsNotNil(err), qt.Commentf("%.20q", bad))
	}
}

func TestCompareListsWhatDiffers(t *testing.T) {
	a := Config{"CONFIG_A": "y", "CONFIG_B": "m", "CONFIG_C": "1"}
	b := Config{"CONFIG_A": "y", "CONFIG_B": "y", "CONFIG_D": "n"}
	qt.Check(t, qt.DeepEquals(a.Compare(b), []Difference{{"CONFIG_B", "m", "y"}, {"CONFIG_C", "1", ""}, {"CONFIG_D", "", "n"}}))
}

func TestEmptyOptionsTouchesNothingElse(t *testing.T) {
	got := emptyOptions([]byte("CONFIG_A=\"x\"\n# CONFIG_B is not set\nCONFIG_MODULE_SIG_KEY=\"certs/x.pem\"\n"), changedOptions)
	qt.Check(t, qt.Equals(string(got), "CONFIG_A=\"x\"\n# CONFIG_B is not set\nCONFIG_MODULE_SIG_KEY=\"\"\n"))
}

func TestParseSymvers(t *testing.T) {
	m, err := ParseSymvers([]byte("0x1234abcd\tfoo\tvmlinux\tEXPORT_SYMBOL\t\n0x00000000\tbar\tdrivers/md/dm-mod\tEXPORT_SYMBOL_GPL\tNS\n0x1\told\tnet/a,b\tEXPORT_SYMBOL\n"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(m, map[string]Export{
		"foo": {Module: "vmlinux", CRC: 0x1234abcd},
		"bar": {Module: "dm_mod", GPL: true, Namespace: "NS"},
		"old": {Module: "a_b", CRC: 1},
	}))
	for _, bad := range []string{"x\ty\tz\tEXPORT_SYMBOL\t\n", "0x1\ty\tz\n", "0x1\t\tz\tEXPORT_SYMBOL\t\n", "0x123456789\ty\tz\tEXPORT_SYMBOL\t\n", "0x1\ty\tz\tWEIRD\t\n"} {
		_, err := ParseSymvers([]byte(bad))
		qt.Check(t, qt.IsNotNil(err), qt.Commentf("%q", bad))
	}
}

func TestModuleName(t *testing.T) {
	for path, want := range map[string]string{
		"kernel/net/netfilter/nf_tables.ko": "nf_tables", "drivers/md/dm-mod.ko.xz": "dm_mod",
		"x/a-b,c.ko.zst": "a_b_c", "fs/ext4/ext4": "ext4", "plain": "plain",
	} {
		qt.Check(t, qt.Equals(ModuleName(path), want))
	}
}

const stanzas = `Package: linux-image-6.1.0-55-amd64
Source: linux-signed-amd64 (6.1.192+1)
Version: 6.1.192-1
Architecture: amd64
Description: Linux 6.1 for 64-bit PCs (signed)
 Filename: not a field
Built-Using: linux (= 6.1.192-1)
Filename: pool/x/linux-image-6.1.0-55-amd64_6.1.192-1_amd64.deb
Size: 70570480
SHA256: d03c3c62571c6a2e0af73f9c99f826d62e1155e744061dfa2d880b6f207fc25f

Package: linux-image-6.12.115+deb12-amd64-unsigned
Source: linux-6.12
Version: 6.12.115-2~deb12u1
Architecture: amd64
Filename: pool/x/y.deb
Size: 107096572
SHA256: D03c3c62571c6a2e0af73f9c99f826d62e1155e744061dfa2d880b6f207fc25f

Package: installed-only
Version: 1
Architecture: amd64
`

func TestParseStanzasFindsTheRealSource(t *testing.T) {
	pkgs, err := parseStanzas([]byte(stanzas))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(pkgs, 2))
	qt.Check(t, qt.Equals(pkgs[0].SourceName+" "+pkgs[0].SourceVersion, "linux 6.1.192-1"))
	qt.Check(t, qt.Equals(pkgs[0].File, "linux-image-6.1.0-55-amd64_6.1.192-1_amd64.deb"))
	qt.Check(t, qt.Equals(pkgs[1].SourceName+" "+pkgs[1].SourceVersion, "linux-6.12 6.12.115-2~deb12u1"))
	_, err = parseStanzas([]byte(strings.Replace(stanzas, "Size: 7", "Size: -7", 1)))
	qt.Check(t, qt.IsNotNil(err))
	qt.Check(t, qt.Equals(debFileName(Deb{Name: "a", Version: "1:2_3", Arch: "all"}), "a_1%3a2%5f3_all.deb"))
}

func TestSourcePlaceKeepsWhatABuildReads(t *testing.T) {
	for name, keep := range map[string]bool{
		"Makefile": true, "fs/ext4/mballoc.c": true, "arch/x86/kvm/x86.c": true, "arch/Kconfig": true,
		"arch/arm64/kernel/head.S": false, "arch/arm/crypto/Kconfig": true, "arch/um/scripts/Makefile.rules": true,
		"Documentation/admin-guide/README.rst": false, "Documentation/Kconfig": true,
		"tools/objtool/arch/x86/include/arch/cfi_regs.h": true, "tools/arch/x86/lib/inat.c": true,
		"tools/perf/builtin-top.c": false, "tools/testing/selftests/Makefile": false, "tools/build/Makefile": true,
		"samples/Kconfig": true, "samples/bpf/x.c": false,
	} {
		want := ""
		if keep {
			want = name
		}
		qt.Check(t, qt.Equals(sourcePlace("linux-source-6.1/"+name), want), qt.Commentf("%s", name))
	}
}

func TestErrorLinesShowsWhatWentWrong(t *testing.T) {
	out := "  CC x.o\nx.c: In function 'f':\nx.c:3:1: error: no\n    3 | f();\nmake[2]: *** [x] Error 1\nmake: *** [y] Error 2\n"
	qt.Check(t, qt.Equals(ErrorLines([]byte(out)), "x.c:3:1: error: no\n    3 | f();"))
	qt.Check(t, qt.Equals(ErrorLines([]byte("make: *** No rule to make target 'a.o'.  Stop.\n")), "make: *** No rule to make target 'a.o'.  Stop."))
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte("CONFIG_A=y\nCONFIG_B=\"a\\\"b\"\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := ParseConfig(b); (c == nil) == (err == nil) {
			t.Fatal("configuration xor error")
		}
	})
}

func FuzzParseSymvers(f *testing.F) {
	f.Add([]byte("0x1234abcd\tfoo\tvmlinux\tEXPORT_SYMBOL\t\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := ParseSymvers(b); (m == nil) == (err == nil) {
			t.Fatal("map xor error")
		}
	})
}

func FuzzParseStanzas(f *testing.F) {
	f.Add([]byte(stanzas))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := parseStanzas(b); p != nil && err != nil {
			t.Fatal("packages and error")
		}
	})
}
