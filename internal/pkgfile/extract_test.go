// SPDX-License-Identifier: Apache-2.0

package pkgfile

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/tsugi-project/tsugi/internal/code"
)

// place is an empty destination with a file beside it that must stay as it is.
func place(t testing.TB) (root *os.Root, dir string) {
	t.Helper()
	parent := t.TempDir()
	dir = filepath.Join(parent, "dst")
	qt.Assert(t, qt.IsNil(os.Mkdir(dir, 0o755)))
	qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(parent, "outside"), []byte("precious"), 0o644)))
	root, err := os.OpenRoot(dir)
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() {
		root.Close()
		b, err := os.ReadFile(filepath.Join(parent, "outside"))
		if err != nil || string(b) != "precious" {
			t.Errorf("the file beside the destination holds %q, %v", b, err)
		}
		left, err := os.ReadDir(parent)
		if err != nil || len(left) != 2 {
			t.Errorf("beside the destination there are %v, %v", left, err)
		}
	})
	return root, dir
}

func extract(t testing.TB, root *os.Root, archive []byte, opts ExtractOptions) (Extracted, error) {
	t.Helper()
	return Extract(t.Context(), tar.NewReader(bytes.NewReader(archive)), root, opts)
}

// tree lists what is below dir: files with content, links with target.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, p)
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(p)
			out[name] = "-> " + target
			return err
		case d.Type().IsRegular():
			b, err := os.ReadFile(p)
			out[name] = string(b)
			return err
		case name != ".":
			out[name] = "/"
		}
		return nil
	})
	qt.Assert(t, qt.IsNil(err))
	return out
}

func sample(t testing.TB) []byte {
	return tarOf(t,
		entry{name: "./"},
		entry{name: "./usr/src/linux/"},
		entry{name: "./usr/src/linux/Makefile", body: "all:\n"},
		entry{name: "./usr/src/linux/scripts/run.sh", body: "#!/bin/sh\n", mode: 0o4755},
		entry{name: "./usr/src/linux/empty"},
		entry{name: "./usr/src/linux/arch/link", link: "../scripts"},
		entry{name: "./usr/src/linux/same", hard: "./usr/src/linux/Makefile"},
		entry{name: "./lib/modules/6.1/build", link: "/usr/src/linux"},
		entry{name: "./usr/share/doc/copyright", body: "text"},
	)
}

func TestAllKindsOfEntriesAreUnpacked(t *testing.T) {
	root, dir := place(t)
	var told int64
	got, err := extract(t, root, sample(t), ExtractOptions{Progress: func(n int64) { told += n }})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(got, Extracted{Files: 4, Bytes: 19}))
	qt.Assert(t, qt.Equals(told, 19))
	qt.Assert(t, qt.DeepEquals(tree(t, dir), map[string]string{
		"lib": "/", "lib/modules": "/", "lib/modules/6.1": "/", "lib/modules/6.1/build": "-> ../../../usr/src/linux",
		"usr": "/", "usr/share": "/", "usr/share/doc": "/", "usr/share/doc/copyright": "text", "usr/src": "/", "usr/src/linux": "/",
		"usr/src/linux/Makefile": "all:\n", "usr/src/linux/same": "all:\n", "usr/src/linux/empty": "",
		"usr/src/linux/scripts": "/", "usr/src/linux/scripts/run.sh": "#!/bin/sh\n",
		"usr/src/linux/arch": "/", "usr/src/linux/arch/link": "-> ../scripts",
	}))
	info, err := os.Stat(filepath.Join(dir, "usr/src/linux/scripts/run.sh"))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(info.Mode(), 0o755), qt.Commentf("executable, and not set-uid"))
	qt.Assert(t, qt.IsTrue(info.ModTime().Equal(stamp)))
	a, err := os.Stat(filepath.Join(dir, "usr/src/linux/same"))
	qt.Assert(t, qt.IsNil(err))
	b, err := os.Stat(filepath.Join(dir, "usr/src/linux/Makefile"))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsTrue(os.SameFile(a, b)))
}

func TestKeepChoosesAndRenames(t *testing.T) {
	root, dir := place(t)
	got, err := extract(t, root, sample(t), ExtractOptions{Keep: func(name string) (string, bool) {
		rest, ok := strings.CutPrefix(name, "usr/src/linux/")
		if name == "lib/modules/6.1/build" {
			return "build", true
		}
		return rest, ok
	}})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(got.Files, 3))
	qt.Assert(t, qt.DeepEquals(tree(t, dir), map[string]string{
		"Makefile": "all:\n", "same": "all:\n", "empty": "", "scripts": "/", "scripts/run.sh": "#!/bin/sh\n",
		"arch": "/", "arch/link": "-> ../scripts", "build": "-> usr/src/linux",
	}))
}

func TestASecondRunLeavesWholeFilesAndReplacesTheOthers(t *testing.T) {
	root, dir := place(t)
	first, err := extract(t, root, sample(t), ExtractOptions{})
	qt.Assert(t, qt.IsNil(err))
	want := tree(t, dir)
	file := func(name string) string { return filepath.Join(dir, "usr/src/linux", name) }
	before, err := os.Stat(file("scripts/run.sh"))
	qt.Assert(t, qt.IsNil(err))

	// One file was changed (its time differs), one is gone, one was being
	// written when the machine stopped, a link points elsewhere.
	qt.Assert(t, qt.IsNil(os.WriteFile(file("empty"), nil, 0o644)))
	qt.Assert(t, qt.IsNil(os.WriteFile(file("Makefile"), []byte("ALL:\n"), 0o644)))
	qt.Assert(t, qt.IsNil(os.Remove(filepath.Join(dir, "usr/share/doc/copyright"))))
	qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(dir, "usr/share/doc/copyright"+tempSuffix), []byte("te"), 0o400)))
	qt.Assert(t, qt.IsNil(os.Remove(file("arch/link"))))
	qt.Assert(t, qt.IsNil(os.Symlink("nowhere", file("arch/link"))))

	second, err := extract(t, root, sample(t), ExtractOptions{})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(second, Extracted{Files: first.Files, Bytes: first.Bytes, Skipped: 1}))
	qt.Assert(t, qt.DeepEquals(tree(t, dir), want))
	after, err := os.Stat(file("scripts/run.sh"))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsTrue(os.SameFile(before, after)), qt.Commentf("the whole file was left alone"))

	third, err := extract(t, root, sample(t), ExtractOptions{})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(third.Skipped, third.Files))
}

func TestAnInterruptedRunLeavesOnlyWholeFiles(t *testing.T) {
	root, dir := place(t)
	big := strings.Repeat("x", 1<<20)
	archive := tarOf(t, entry{name: "first", body: "1"}, entry{name: "second", body: big}, entry{name: "third", body: "3"})
	ctx, cancel := context.WithCancel(t.Context())
	r := &cancelling{r: bytes.NewReader(archive), after: 600 << 10, cancel: cancel}
	_, err := Extract(ctx, tar.NewReader(r), root, ExtractOptions{})
	qt.Assert(t, qt.ErrorIs(err, context.Canceled))
	qt.Assert(t, qt.DeepEquals(tree(t, dir), map[string]string{"first": "1"}))

	_, err = extract(t, root, archive[:700<<10], ExtractOptions{})
	qt.Assert(t, qt.ErrorIs(err, io.ErrUnexpectedEOF))
	qt.Assert(t, qt.DeepEquals(tree(t, dir), map[string]string{"first": "1"}))

	got, err := extract(t, root, archive, ExtractOptions{})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(got.Skipped, 1))
	qt.Assert(t, qt.DeepEquals(tree(t, dir), map[string]string{"first": "1", "second": big, "third": "3"}))
}

type cancelling struct {
	r      io.Reader
	after  int
	cancel func()
}

func (c *cancelling) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	if c.after -= n; c.after < 0 {
		c.cancel()
	}
	return n, err
}

func TestArchivesThatLeaveTheDestinationAreRefused(t *testing.T) {
	for name, entries := range map[string][]entry{
		"a name that climbs":                    {{name: "../outside", body: "x"}},
		"a name that climbs inside":             {{name: "a/../../outside", body: "x"}},
		"a directory that climbs":               {{name: "../new/"}},
		"a link that climbs":                    {{name: "l", link: "../outside"}},
		"a link that climbs further than deep":  {{name: "a/b/l", link: "../../../outside"}},
		"a link that climbs behind a name":      {{name: "d/"}, {name: "l", link: "d/../../outside"}},
		"an absolute link that climbs":          {{name: "l", link: "/../outside"}},
		"a file below a link out":               {{name: "l", link: "."}, {name: "l/x", body: "x"}},
		"a file below a link to a file":         {{name: "f", body: "x"}, {name: "f/x", body: "x"}},
		"links that climb together":             {{name: "a/b/"}, {name: "a/b/up", link: "../.."}, {name: "a/b/up/x", link: "../outside"}},
		"a hard link that climbs":               {{name: "h", hard: "../outside"}},
		"a hard link to a link":                 {{name: "l", link: "x"}, {name: "h", hard: "l"}},
		"a hard link to a directory":            {{name: "d/"}, {name: "h", hard: "d"}},
		"a directory where a link is already":   {{name: "l", link: "d"}, {name: "l/"}},
		"a link that holds no target but dots ": {{name: "l", link: ".."}},
	} {
		t.Run(name, func(t *testing.T) {
			root, _ := place(t)
			_, err := extract(t, root, tarOf(t, entries...), ExtractOptions{})
			qt.Assert(t, qt.Equals(code.Of(err), code.Code("TS2204")), qt.Commentf("%v", err))
		})
	}
	t.Run("a device", func(t *testing.T) {
		root, _ := place(t)
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		qt.Assert(t, qt.IsNil(w.WriteHeader(&tar.Header{Name: "dev", Typeflag: tar.TypeChar})))
		w.Close()
		_, err := extract(t, root, b.Bytes(), ExtractOptions{})
		qt.Assert(t, qt.Equals(code.Of(err), code.Code("TS2204")))
	})
}

// A link to a place outside that was there before the archive came.
func TestAFileIsNotWrittenThroughALink(t *testing.T) {
	root, dir := place(t)
	qt.Assert(t, qt.IsNil(os.Symlink("../outside", filepath.Join(dir, "f"))))
	qt.Assert(t, qt.IsNil(os.Symlink("../outside", filepath.Join(dir, "f"+tempSuffix))))
	_, err := extract(t, root, tarOf(t, entry{name: "f", body: "evil"}), ExtractOptions{})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.DeepEquals(tree(t, dir), map[string]string{"f": "evil"}))
}

func TestAbsoluteNamesAndLongNamesStayInside(t *testing.T) {
	root, dir := place(t)
	long := strings.Repeat("n", 255)
	_, err := extract(t, root, tarOf(t, entry{name: "/etc/x", body: "1"}, entry{name: long, body: "2"}), ExtractOptions{})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.DeepEquals(tree(t, dir), map[string]string{"etc": "/", "etc/x": "1", long: "2"}))
}

func TestExtractHoldsItsLimits(t *testing.T) {
	root, dir := place(t)
	_, err := extract(t, root, sample(t), ExtractOptions{MaxFiles: 3})
	qt.Check(t, qt.Equals(code.Of(err), code.Code("TS2202")))
	_, err = extract(t, root, tarOf(t, entry{name: "big", body: "1234567"}), ExtractOptions{MaxBytes: 6})
	qt.Check(t, qt.Equals(code.Of(err), code.Code("TS2202")))
	_, found := tree(t, dir)["big"]
	qt.Check(t, qt.IsFalse(found))
}

func TestHardLinkToWhatIsLeftOutIsAnError(t *testing.T) {
	root, _ := place(t)
	keep := func(name string) (string, bool) { return name, name != "a" }
	_, err := extract(t, root, tarOf(t, entry{name: "a", body: "1"}, entry{name: "b", hard: "a"}), ExtractOptions{Keep: keep})
	qt.Check(t, qt.Equals(code.Of(err), code.Code("TS2202")))
	_, err = extract(t, root, tarOf(t, entry{name: "b", hard: "never"}), ExtractOptions{})
	qt.Check(t, qt.Equals(code.Of(err), code.Code("TS2202")))
	_, err = extract(t, root, tarOf(t, entry{name: "b"}), ExtractOptions{Keep: func(string) (string, bool) { return "../x", true }})
	qt.Check(t, qt.IsNotNil(err))
}

func TestAStreamThatFailsIsToldWithTheFile(t *testing.T) {
	broken := errors.New("the decompressor ended")
	root, dir := place(t)
	tr := &failing{tar.NewReader(bytes.NewReader(sample(t))), broken}
	_, err := Extract(t.Context(), tr, root, ExtractOptions{})
	qt.Assert(t, qt.ErrorIs(err, broken))
	qt.Assert(t, qt.StringContains(err.Error(), "unpacking usr/src/linux/Makefile: "))
	for name := range tree(t, dir) {
		qt.Assert(t, qt.IsFalse(strings.HasSuffix(name, tempSuffix)))
	}
}

type failing struct {
	*tar.Reader
	err error
}

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

func BenchmarkExtract(b *testing.B) {
	var entries []entry
	for i := range 2000 {
		entries = append(entries, entry{name: fmt.Sprintf("drivers/d%d/file%d.c", i/50, i), body: strings.Repeat("int x;\n", 2000)})
	}
	archive := tarOf(b, entries...)
	b.SetBytes(int64(len(archive)))
	for b.Loop() {
		root, _ := place(b)
		if _, err := extract(b, root, archive, ExtractOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}
