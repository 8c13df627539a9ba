// SPDX-License-Identifier: Apache-2.0

package pkgfile

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func FuzzOpenDeb(f *testing.F) {
	for _, format := range []string{"none", "gzip", "xz", "zstd"} {
		f.Add(debOf(f, format, entry{name: "./a/"}, entry{name: "./a/b", body: "12"}))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := OpenDeb(bytes.NewReader(b), int64(len(b)))
		if (err == nil) != (d != nil) {
			t.Fatalf("package %v, error %v", d, err)
		}
		if d == nil {
			return
		}
		if c, err := d.Control(); (err == nil) != (c.Len() > 0) {
			t.Fatalf("%d fields, error %v", c.Len(), err)
		}
		tr, err := d.Data(nil)
		if err != nil {
			return
		}
		defer tr.Close()
		for n := 0; n < 1000; n++ {
			if _, err := tr.Next(); err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, io.LimitReader(tr, 1<<20)); err != nil {
				return
			}
		}
	})
}

func FuzzControl(f *testing.F) {
	f.Add(controlText)
	f.Add("# c\nA: 1\n b\n\nC:\n")
	f.Fuzz(func(t *testing.T, text string) {
		ps, err := ReadControl(strings.NewReader(text))
		if err != nil {
			if ps != nil {
				t.Fatal("an error and a value")
			}
			return
		}
		// Written again the text means the same.
		var b strings.Builder
		for _, p := range ps {
			for name, value := range p.Fields() {
				b.WriteString(name + ": " + strings.ReplaceAll(value, "\n", "\n ") + "\n")
			}
			b.WriteString("\n")
		}
		if strings.Contains(b.String(), "\n \n") {
			return // an empty continuation line, which only a lone \r makes
		}
		again, err := ReadControl(strings.NewReader(b.String()))
		if err != nil || len(again) != len(ps) {
			t.Fatalf("%q: %d paragraphs became %d: %v", b.String(), len(ps), len(again), err)
		}
		for i := range ps {
			for name, value := range ps[i].Fields() {
				if got := again[i].Get(name); got != value {
					t.Fatalf("%s: %q became %q", name, value, got)
				}
			}
		}
	})
}

func FuzzVersions(f *testing.F) {
	f.Add("6.1.192-1", "6.12.115-2~deb12u1")
	f.Add("1:2.0~rc1", "99999999999999999999")
	f.Fuzz(func(t *testing.T, a, b string) {
		x, err := CompareVersions(a, b)
		y, back := CompareVersions(b, a)
		if (err == nil) != (back == nil) || x != -y {
			t.Fatalf("%d, %v and the other way %d, %v", x, err, y, back)
		}
	})
}

func FuzzExtract(f *testing.F) {
	f.Add(sample(f))
	f.Add(tarOf(f, entry{name: "a/b/"}, entry{name: "a/b/up", link: "../.."}, entry{name: "a/b/up/x", link: "../outside"}))
	f.Add(tarOf(f, entry{name: "l", link: "/etc"}, entry{name: "l/x", body: "1"}, entry{name: "h", hard: "l/x"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		root, dir := place(t) // fails when anything beside dir changes
		if _, err := Extract(t.Context(), tar.NewReader(bytes.NewReader(b)), root, ExtractOptions{MaxFiles: 50, MaxBytes: 1 << 20}); err != nil {
			var pathErr *fs.PathError
			if errors.As(err, &pathErr) && strings.HasSuffix(pathErr.Path, tempSuffix) && !strings.Contains(err.Error(), "name too long") {
				t.Logf("%v", err)
			}
		}
		err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.Type()&fs.ModeSymlink != 0 {
				// Where the link leads, if it leads anywhere, is inside.
				if to, err := filepath.EvalSymlinks(p); err == nil && to != dir && !strings.HasPrefix(to, dir+string(os.PathSeparator)) {
					t.Fatalf("%s leads to %s", p, to)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}
