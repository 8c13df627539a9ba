// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/go-quicktest/qt"
)

func TestInputsOfATargetAreItsPackagesByDigest(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	target := &Target{Package: "linux-image-6.1.0-54-amd64", PackageVersion: "6.1.190-1", SourceVersion: "6.1.190-1", home: home}
	want := []string{
		"linux-image-6.1.0-54-amd64_6.1.190-1_amd64.deb",
		"linux-headers-6.1.0-54-amd64_6.1.190-1_amd64.deb",
		"linux-source-6.1_6.1.190-1_all.deb",
	}
	qt.Check(t, qt.DeepEquals(target.packageFiles(), want))

	// Only what is there, or what was written down when the target was added.
	none, err := target.madeOf(t.Context())
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(none, 0))
	deb := filepath.Join(home, "debs", want[2])
	qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Dir(deb), 0o755)))
	qt.Assert(t, qt.IsNil(os.WriteFile(deb, []byte("abc"), 0o644)))
	const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	one, err := target.madeOf(t.Context())
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(one, []Input{{want[2], abc}}))

	// A digest that is remembered counts for the file that it was taken of only.
	mark := filepath.Join(home, "debs", "."+want[2]+".sha256")
	qt.Assert(t, qt.IsNil(os.WriteFile(mark, []byte(abc[1:]+"0 9 9\n"), 0o644)))
	one, err = target.madeOf(t.Context())
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(one[0].Digest, abc))

	target.Packages = []Input{{"a.deb", abc}}
	qt.Assert(t, qt.IsNil(os.Remove(deb)))
	one, err = target.madeOf(t.Context())
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(one, target.Packages))
}
