// SPDX-License-Identifier: Apache-2.0

package pkgfile

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/tsugi-project/tsugi/internal/code"
)

func TestPackagesOfEachCompressionAreRead(t *testing.T) {
	for _, format := range []string{"none", "gzip", "xz", "zstd"} {
		t.Run(format, func(t *testing.T) {
			d := openDeb(t, debOf(t, format, entry{name: "./boot/"}, entry{name: "./boot/vmlinuz", body: "kernel"}))
			for range 2 { // both can be asked for again
				c, err := d.Control()
				qt.Assert(t, qt.IsNil(err))
				qt.Assert(t, qt.Equals(c.Get("version"), "6.1.192-1"))
				tr, err := d.Data(nil)
				qt.Assert(t, qt.IsNil(err))
				var names []string
				for {
					h, err := tr.Next()
					if errors.Is(err, io.EOF) {
						break
					}
					qt.Assert(t, qt.IsNil(err))
					b, err := io.ReadAll(tr)
					qt.Assert(t, qt.IsNil(err))
					names = append(names, h.Name+"="+string(b))
				}
				qt.Assert(t, qt.IsNil(tr.Close()))
				qt.Assert(t, qt.DeepEquals(names, []string{"./boot/=", "./boot/vmlinuz=kernel"}))
			}
		})
	}
}

func TestBzip2IsKnownByItsFirstBytes(t *testing.T) {
	// The stream of bzip2 for no bytes at all.
	empty := []byte("BZh9\x17\x72\x45\x38\x50\x90\x00\x00\x00\x00")
	tr, err := OpenTar(bytes.NewReader(empty), nil)
	qt.Assert(t, qt.IsNil(err))
	_, err = tr.Next()
	qt.Assert(t, qt.ErrorIs(err, io.EOF))
}

func TestTheCallersDecompressorIsUsedAndClosed(t *testing.T) {
	var formats []string
	closed := 0
	dec := func(format string, r io.Reader) (io.ReadCloser, error) {
		formats = append(formats, format)
		z, err := Decompress(format, r)
		return closer{z, &closed}, err
	}
	tr, err := openDeb(t, debOf(t, "xz", entry{name: "./a", body: "1"})).Data(dec)
	qt.Assert(t, qt.IsNil(err))
	_, err = tr.Next()
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(tr.Close()))
	qt.Assert(t, qt.DeepEquals(formats, []string{"xz"}))
	qt.Assert(t, qt.Equals(closed, 1))

	broken := errors.New("xz is not installed")
	_, err = OpenTar(bytes.NewReader(nil), func(string, io.Reader) (io.ReadCloser, error) { return nil, broken })
	qt.Assert(t, qt.ErrorIs(err, broken))
}

type closer struct {
	io.ReadCloser
	n *int
}

func (c closer) Close() error { *c.n++; return c.ReadCloser.Close() }

func TestFilesThatAreNoWholePackageAreRefused(t *testing.T) {
	good := debOf(t, "none", entry{name: "./a", body: "1"})
	binary := arMember{"debian-binary", []byte("2.0\n")}
	control := arMember{"control.tar", tarOf(t, entry{name: "control", body: controlText})}
	data := arMember{"data.tar", tarOf(t)}
	many := make([]arMember, 100)
	edit := func(off int, s string) []byte {
		b := bytes.Clone(good)
		copy(b[off:], s)
		return b
	}
	for name, tc := range map[string]struct {
		in   []byte
		want code.Code
	}{
		"nothing":                     {nil, "TS2201"},
		"an ELF file":                 {[]byte("\x7fELF and so on"), "TS2201"},
		"an empty archive":            {arOf(), "TS2201"},
		"a static library":            {arOf(arMember{"x.o", nil}), "TS2201"},
		"a package of format 3":       {arOf(arMember{"debian-binary", []byte("3.0\n")}, control, data), "TS2201"},
		"a package without data":      {arOf(binary, control), "TS2202"},
		"a package without control":   {arOf(binary, data), "TS2202"},
		"a file cut in half":          {good[:len(good)/2], "TS2202"},
		"a file cut in a header":      {good[:8+20], "TS2202"},
		"a header with no end mark":   {edit(8+58, "??"), "TS2202"},
		"a size that is no number":    {edit(8+48, "many      "), "TS2202"},
		"a size that is negative":     {edit(8+48, "-4        "), "TS2202"},
		"a size beyond 63 bits":       {edit(8+48, "9999999999"), "TS2202"},
		"more members than any .deb":  {arOf(many...), "TS2202"},
		"a directory of many members": {arOf(append([]arMember{binary}, many...)...), "TS2202"},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := OpenDeb(bytes.NewReader(tc.in), int64(len(tc.in)))
			qt.Assert(t, qt.Equals(code.Of(err), tc.want), qt.Commentf("%v", err))
			qt.Assert(t, qt.IsNil(d))
		})
	}
}

func TestControlThatIsMissingOrEmptyIsSaidSo(t *testing.T) {
	for name, inner := range map[string][]byte{
		"no control file": tarOf(t, entry{name: "md5sums"}),
		"an empty one":    tarOf(t, entry{name: "control", body: "\n\n"}),
		"no tar archive":  bytes.Repeat([]byte("x"), 1024),
		"a damaged xz":    append(pack(t, "xz", tarOf(t))[:40], "damaged damaged"...),
	} {
		t.Run(name, func(t *testing.T) {
			d := openDeb(t, arOf(arMember{"debian-binary", []byte("2.0\n")}, arMember{"control.tar.xz", inner}, arMember{"data.tar", nil}))
			_, err := d.Control()
			qt.Assert(t, qt.Equals(code.Of(err), code.Code("TS2202")), qt.Commentf("%v", err))
		})
	}
}

// tar ends before its compressed stream does; the checksum stands at the end.
func TestADamagedStreamIsSeenThoughAllFilesWereRead(t *testing.T) {
	for _, format := range []string{"gzip", "xz", "zstd"} {
		t.Run(format, func(t *testing.T) {
			b := pack(t, format, tarOf(t, entry{name: "a", body: "1"}))
			at := map[string]int{"gzip": len(b) - 6, "xz": len(b) - 40, "zstd": len(b) - 2}[format]
			b[at] ^= 0x10
			tr, err := OpenTar(bytes.NewReader(b), nil)
			for err == nil {
				_, err = tr.Next()
			}
			qt.Assert(t, qt.Equals(code.Of(err), code.Code("TS2202")), qt.Commentf("%v", err))
		})
	}
}
