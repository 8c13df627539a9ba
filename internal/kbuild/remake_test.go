// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/kernel"
)

func TestModpostArgs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, out string
		want      []string
		ok        bool
	}{
		{"6.1", "WARNING: vmlinux.o is missing.\ntsugi-modpost -m -o tsugi-modpost -w\n", []string{"-m"}, true},
		{"6.12", "tsugi-modpost -M -m -o tsugi-modpost -T modules.order\n", []string{"-M", "-m"}, true},
		{"every mismatch an error", "tsugi-modpost -m -a -E -N -W -o x -i Module.symvers -e -t -u list\n", []string{"-m", "-a", "-E", "-N", "-W"}, true},
		{"none", "tsugi-modpost\n", nil, true},
		{"cut off", "tsugi-modpost -m -o", []string{"-m"}, true},
		{"another make", "make: nothing to be done\n", nil, false},
		{"nothing", "", nil, false},
	} {
		got, err := modpostArgs([]byte(c.out))
		qt.Check(t, qt.Equals(err == nil, c.ok), qt.Commentf("%s", c.name))
		qt.Check(t, qt.DeepEquals(got, c.want), qt.Commentf("%s", c.name))
	}
}

func FuzzModpostArgs(f *testing.F) {
	f.Add([]byte("tsugi-modpost -m -o x -T y\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		args, err := modpostArgs(b)
		if err != nil && args != nil {
			t.Fatal("an error and a value")
		}
		for _, a := range args {
			if len(a) != 2 || a[0] != '-' {
				t.Fatalf("%q is no single letter", a)
			}
		}
	})
}

func TestWithout(t *testing.T) {
	t.Parallel()
	const symvers = "0x1\ta\tvmlinux\tEXPORT_SYMBOL\t\n0x2\tb\tfs/x/x\tEXPORT_SYMBOL\t\n0x3\tc\tfs/x/xy\tEXPORT_SYMBOL_GPL\tNS\n"
	qt.Check(t, qt.Equals(string(without([]byte(symvers), "fs/x/x")), "0x1\ta\tvmlinux\tEXPORT_SYMBOL\t\n0x3\tc\tfs/x/xy\tEXPORT_SYMBOL_GPL\tNS\n"))
	qt.Check(t, qt.Equals(string(without([]byte(symvers), "none")), symvers))
}

// TestMoved: only whole paths are another source's.
func TestMoved(t *testing.T) {
	t.Parallel()
	s := &shadow{c: &compilation{t: &kernel.Target{Source: "/src/linux"}}, top: "/work/tree"}
	for in, want := range map[string]string{
		"-I/src/linux/include -fmacro-prefix-map=/src/linux/=": "-I/work/tree/include -fmacro-prefix-map=/work/tree/=",
		"/src/linux":             "/work/tree",
		"/src/linux-6.1/x":       "/src/linux-6.1/x",
		"a /src/linux b":         "a /work/tree b",
		"nothing of it":          "nothing of it",
		"'/src/linux'/src/linux": "'/work/tree'/work/tree",
	} {
		qt.Check(t, qt.Equals(s.moved(in), want))
	}
	s.top = "/src/linux"
	qt.Check(t, qt.Equals(s.moved("/src/linux/x"), "/src/linux/x"))
}

func TestMade(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"x.o": true, ".x.o.cmd": true, "x.ko": true, "x.mod": true, "x.mod.c": true, "built-in.a": true, "modules.order": true,
		"x.asn1.c": false, ".x.asn1.c.cmd": false, "generated.h": false, "poly1305.S": false,
	} {
		qt.Check(t, qt.Equals(made(name), want), qt.Commentf("%s", name))
	}
}
