// SPDX-License-Identifier: Apache-2.0

package pkgfile

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/tsugi-project/tsugi/internal/code"
)

func TestControlTextIsReadAsDeb822(t *testing.T) {
	text := "# a comment\n\n" + controlText + "\n \t\nPackage:b\r\nversion:\t2 \nEmpty:\nList:\n one\n# inside\n\ttwo  \nLast: x"
	got, err := ReadControl(strings.NewReader(text))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(got, 2))
	a, b := got[0], got[1]
	qt.Check(t, qt.Equals(a.Len(), 5))
	qt.Check(t, qt.Equals(a.Get("PACKAGE"), "linux-image-6.1.0-55-amd64"))
	qt.Check(t, qt.Equals(a.Get("Description"), "Linux 6.1 for 64-bit PCs (signed)\nThe Linux kernel 6.1 and modules.\n.\nThis kernel is signed."))
	qt.Check(t, qt.Equals(a.Get("Nothing"), ""))
	var fields []string
	for name, value := range b.Fields() {
		fields = append(fields, name+"="+value)
	}
	qt.Check(t, qt.DeepEquals(fields, []string{"Package=b", "version=2", "Empty=", "List=\none\ntwo", "Last=x"}))
	for name := range a.Fields() {
		qt.Check(t, qt.Equals(name, "Package"))
		break
	}
}

func TestControlTextThatIsMalformedIsRefusedWithItsLine(t *testing.T) {
	for name, tc := range map[string]struct{ in, where string }{
		"a continuation with nothing before": {"\n continued", "line 2"},
		"a line with no colon":               {"Package: a\nno field", "line 2"},
		"a field with no name":               {": value", "line 1"},
		"a space in a name":                  {"Two Words: x", "line 1"},
		"a name that begins with a dash":     {"-a: x", "line 1"},
		"a field twice":                      {"A: 1\nB: 2\na: 3", "line 3"},
		"a line without end":                 {"A: 1\nB: " + strings.Repeat("x", maxLine), "line 2"},
		"a signed message, such as a .dsc":   {"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n", "line 1"},
		"a paragraph without end":            {"A:" + strings.Repeat(strings.Repeat(" x", 1<<18)+"\n", 40), "line 32"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ReadControl(strings.NewReader(tc.in))
			qt.Assert(t, qt.IsNil(got))
			qt.Assert(t, qt.Equals(code.Of(err), code.Code("TS2203")))
			qt.Assert(t, qt.StringContains(err.Error(), ": "+tc.where+":"))
		})
	}
}

func TestVersionsAreOrderedAsDpkgOrdersThem(t *testing.T) {
	versions := []string{
		"6.1.190-1", "6.1.192-1", "6.1.192-2", "6.1.192-1+b1", "6.1.192-1~bpo11+1", "6.12.115-2~deb12u1", "6.12.115-2",
		"6.12.117-1~deb12u1", "1:0.1", "0.1", "2.0~rc1", "2.0~~", "2.0", "2.0a", "2.0+dfsg", "2.0.0", "2.0-0", "1.09", "1.9", "10",
		"12.2.0-14+deb12u1", "12.2.0-14", "2019.1.0ubuntu1", "2019.1.0", "20260101000000-1", "20260101000001-1",
	}
	_, noDpkg := exec.LookPath("dpkg")
	for _, a := range versions {
		for _, b := range versions {
			got, err := CompareVersions(a, b)
			qt.Assert(t, qt.IsNil(err))
			back, err := CompareVersions(b, a)
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.Equals(back, -got), qt.Commentf("%s and %s", a, b))
			if noDpkg == nil {
				op := map[int]string{-1: "lt", 0: "eq", 1: "gt"}[got]
				err := exec.CommandContext(t.Context(), "dpkg", "--compare-versions", a, op, b).Run()
				qt.Assert(t, qt.IsNil(err), qt.Commentf("dpkg does not say %s %s %s", a, op, b))
			}
		}
	}
	for _, bad := range []string{"", "x", "1:", "a:1", "-1", "1 2"} {
		_, err := CompareVersions(bad, "1")
		qt.Check(t, qt.IsNotNil(err), qt.Commentf("%q", bad))
		_, err = CompareVersions("1", bad)
		qt.Check(t, qt.IsNotNil(err), qt.Commentf("%q", bad))
	}
}
