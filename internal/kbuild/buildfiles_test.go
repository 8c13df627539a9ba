// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kernel"
)

func TestMakefilesOfUnsetOptions(t *testing.T) {
	t.Parallel()
	config := kernel.Config{"CONFIG_NET": "y", "CONFIG_DIM2": "m"}
	for _, c := range []struct {
		lines  []string
		nothin bool
	}{
		{[]string{" obj-y += a/", "-obj-$(CONFIG_MOST_I2C)\t+= i2c/"}, true},
		{[]string{"-obj-$(CONFIG_A) += a.o", "+obj-$(CONFIG_A) += a.o b.o", "+a-$(CONFIG_B) := c.o"}, true},
		{[]string{"-obj-$(CONFIG_NET) += net/"}, false},
		{[]string{"+obj-$(CONFIG_DIM2) += dim2/"}, false},
		{[]string{"+obj-y += a.o"}, false},
		{[]string{"+ccflags-y += -DX"}, false},
		{[]string{"+obj-$(CONFIG_A) += $(shell touch /x)"}, false},
		{[]string{"+obj-$(CONFIG_A) += a.o \\"}, false},
		{[]string{" obj-y += a.o \\", "+obj-$(CONFIG_A) += a.o"}, false}, // words of the line before
	} {
		var h fix.Hunk
		for _, l := range c.lines {
			h.Lines = append(h.Lines, fix.Line{Op: l[0], Text: l[1:] + "\n"})
		}
		d := fix.FileDiff{Path: "drivers/most/Makefile", OldPath: "drivers/most/Makefile", Hunks: []fix.Hunk{h}}
		qt.Check(t, qt.Equals(onlyUnset(config, d), c.nothin), qt.Commentf("%q", c.lines))
	}
	qt.Check(t, qt.IsTrue(makesNothing(config, "# x\nobj-$(CONFIG_MOST_I2C) += most_i2c.o\n\nmost_i2c-objs := i2c.o \\\n\tj.o\nccflags-y += -I$(src)\n")))
	qt.Check(t, qt.IsTrue(makesNothing(config, "obj-$(CONFIG_OLD_FS) += old.o\n\nold-y := a.o \\\n\tb.o\nold-$(CONFIG_OLD_RW) += c.o\n")))
	qt.Check(t, qt.IsFalse(makesNothing(config, "obj-$(CONFIG_OLD_FS) += old.o\nobj-$(CONFIG_NET) += net.o\nnet-y := a.o\n")))
	qt.Check(t, qt.IsFalse(makesNothing(config, "obj-$(CONFIG_OLD_FS) += obj.o\nobj-y := a.o\n")))
	qt.Check(t, qt.IsFalse(makesNothing(config, "obj-$(CONFIG_OLD_FS) += old.o\nnet-y := a.o\n")))
	qt.Check(t, qt.IsFalse(makesNothing(config, "obj-$(CONFIG_NET) += net.o\n")))
	qt.Check(t, qt.IsFalse(makesNothing(config, "obj-y += net.o\n")))
	qt.Check(t, qt.IsFalse(makesNothing(config, "include other\n")))
	qt.Check(t, qt.IsFalse(makesNothing(config, "subdir-ccflags-y += -DX\n")))
}

func TestWhatAMakefileAddsIsTold(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		lines []string
		told  string
	}{
		{[]string{" DCE = a.o \\", "-b.o c.o", "+b.o lcd.o c.o"}, "it adds lcd.o"},
		{[]string{"-obj-$(CONFIG_X) += x/", "+obj-y += y.o"}, "it adds y.o; it takes x/ away"},
		{[]string{"-ccflags-y += -DX", "+ccflags-y += -DY"}, ""},
	} {
		var h fix.Hunk
		for _, l := range c.lines {
			h.Lines = append(h.Lines, fix.Line{Op: l[0], Text: l[1:] + "\n"})
		}
		qt.Check(t, qt.Equals(comesAndGoes(fix.FileDiff{Hunks: []fix.Hunk{h}}), c.told), qt.Commentf("%q", c.lines))
	}
}

func TestKconfigThatChangesNothingHere(t *testing.T) {
	t.Parallel()
	config := kernel.Config{"CONFIG_JITTER": "m", "CONFIG_SHA3": "m", "CONFIG_RNG": "y", "CONFIG_VERITY": "y", "CONFIG_NUM": "4"}
	base := `menu "Crypto"
source "crypto/old/Kconfig"
config JITTER
	tristate "Jitter"
	select RNG
	help
	  It says so.

	  select NOTHING
config VERITY
	bool "Verity"
	depends on RNG
config LEAK
	bool "Leaks"
config SILENT
	bool
	default y
	depends on LEAK
config NUM
	int "n"
	default 4
endmenu
`
	read := func(name string) ([]byte, error) {
		switch name {
		case "crypto/old/Kconfig":
			return []byte("config OLD\n\tbool \"old\"\n"), nil
		case "crypto/set/Kconfig":
			return []byte("config RNG\n\tbool \"rng\"\n"), nil
		}
		return nil, fs.ErrNotExist
	}
	for _, c := range []struct {
		old, new string
		stands   bool
	}{
		{"It says so.", "It says more.", true},
		{"select NOTHING", "select EVERYTHING", true}, // help
		{"select RNG\n", "select RNG\n\tselect SHA3\n", true},
		{"select RNG\n", "select RNG\n\tselect SHA9\n", false},
		{"select RNG\n", "", false},
		{"bool \"Verity\"\n", "bool \"Verity\"\n\tselect SHA3\n", false}, // y needs more than m
		{"bool \"Verity\"\n", "bool \"Verity\"\n\t# why\n\tdepends on !PAGE_SIZE_256KB && RNG\n", true},
		{"bool \"Verity\"\n", "bool \"Verity\"\n\tdepends on PAGE_SIZE_256KB\n", false},
		{"bool \"Verity\"\n", "bool \"Verity\"\n\tdepends on RNG || LEAK\n", false}, // not understood
		{"depends on RNG\n", "", true},
		{"bool \"Leaks\"\n", "bool \"Leaks\"\n\tselect ANY\n\tselect OTHER if !LEAK\n", true},
		{"bool \"Leaks\"\n", "bool \"Leaks\"\n\tdefault y\n", false},
		{"\tdepends on LEAK\n", "", false}, // on from now on
		{"default y\n\tdepends on LEAK\n", "default y\n\tdepends on LEAK\n\tselect ANY\n", true},
		{"config LEAK\n\tbool \"Leaks\"\n", "", true},
		{"config VERITY\n\tbool \"Verity\"\n\tdepends on RNG\n", "", false},
		{"default 4", "default 5", false},
		{"endmenu\n", "config NEW\n\tbool \"new\"\nendmenu\n", true},
		{"endmenu\n", "config NEW\n\tdef_bool y\nendmenu\n", false},
		{"source \"crypto/old/Kconfig\"\n", "", true},
		{"source \"crypto/old/Kconfig\"\n", "source \"crypto/new/Kconfig\"\n", true}, // a new file is judged itself
		{"config LEAK\n", "if RNG\nconfig LEAK\n", false},
	} {
		now := replaceOnce(t, base, c.old, c.new)
		qt.Check(t, qt.Equals(kconfigStands(config, base, now, read), c.stands), qt.Commentf("%q -> %q", c.old, c.new))
	}
	with := replaceOnce(t, base, "crypto/old/", "crypto/set/")
	qt.Check(t, qt.IsFalse(kconfigStands(config, with, base, read)))
	with = replaceOnce(t, base, "crypto/old/", "crypto/gone/")
	qt.Check(t, qt.IsFalse(kconfigStands(config, with, base, read)))
}

func replaceOnce(t *testing.T, s, old, new string) string {
	t.Helper()
	before, after, ok := strings.Cut(s, old)
	qt.Assert(t, qt.IsTrue(ok), qt.Commentf("%q", old))
	return before + new + after
}

func FuzzKconfig(f *testing.F) {
	f.Add("config A\n\tbool\n\thelp\n\t  text\nif B\nendif\n", "menuconfig A\n\tdef_bool y\n")
	f.Fuzz(func(t *testing.T, a, b string) {
		config := kernel.Config{"CONFIG_A": "y"}
		none := func(string) ([]byte, error) { return nil, fs.ErrNotExist }
		kconfigStands(config, a, b, none)
		if parseKconfig(a) != nil && !kconfigStands(config, a, a, none) {
			t.Fatal("a file that stays changes something")
		}
		makesNothing(config, a)
	})
}
