// SPDX-License-Identifier: Apache-2.0

package kimage

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/ulikunitz/xz/lzma"
)

var update = flag.Bool("update", false, "write testdata again with the reference tools")

// payload is an ELF file of calls, which the x86 filter of xz changes.
func payload() []byte {
	b := []byte("\x7fELF")
	for i := range uint32(600) {
		b = append(b, 0x55, 0xe8)
		b = binary.LittleEndian.AppendUint32(b, 0x1000-6*i) // all of one function
		b = append(b, 0xc3)
	}
	return b
}

// compressed gives payload in each of the kernel's compressions. For xz with
// the x86 filter and for bzip2 there is no compressor in Go; their streams are
// in testdata, made by the commands here.
func compressed(t testing.TB) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	with := func(name string, open func(io.Writer) (io.WriteCloser, error)) {
		var b bytes.Buffer
		w, err := open(&b)
		qt.Assert(t, qt.IsNil(err))
		_, err = w.Write(payload())
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNil(w.Close()))
		out[name] = b.Bytes()
	}
	with("gzip", func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil })
	with("zstd", func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) })
	with("lzma", func(w io.Writer) (io.WriteCloser, error) { return lzma.NewWriter(w) })
	with("lz4", func(w io.Writer) (io.WriteCloser, error) {
		z := lz4.NewWriter(w)
		return z, z.Apply(lz4.LegacyOption(true))
	})
	for name, cmd := range map[string][]string{
		"xz":    {"xz", "--check=crc32", "--x86", "--lzma2=dict=32MiB"},
		"bzip2": {"bzip2", "-9"},
	} {
		path := filepath.Join("testdata", "payload."+name)
		if *update {
			c := exec.Command(cmd[0], cmd[1:]...)
			c.Stdin = bytes.NewReader(payload())
			b, err := c.Output()
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.IsNil(os.WriteFile(path, b, 0o644)))
		}
		b, err := os.ReadFile(path)
		qt.Assert(t, qt.IsNil(err))
		out[name] = b
	}
	return out
}

// sized appends the unpacked size, as the kernel's build does for all
// compressions but gzip.
func sized(format string, b []byte, size int) []byte {
	if format == "gzip" {
		return b
	}
	return binary.LittleEndian.AppendUint32(bytes.Clone(b), uint32(size))
}

func TestEachCompressionOfABzImageIsUnpacked(t *testing.T) {
	all := compressed(t)
	qt.Assert(t, qt.HasLen(all, 6))
	for format, b := range all {
		t.Run(format, func(t *testing.T) {
			got, gotFormat, err := Unpack(bzImageOf(sized(format, b, len(payload()))))
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.Equals(gotFormat, format))
			qt.Assert(t, qt.DeepEquals(got, payload()))

			got, gotFormat, err = Unpack(b)
			qt.Assert(t, qt.IsNil(err), qt.Commentf("a compressed vmlinux with no bzImage around it"))
			qt.Assert(t, qt.Equals(gotFormat, format))
			qt.Assert(t, qt.DeepEquals(got, payload()))
		})
	}
	t.Run("a vmlinux passes through", func(t *testing.T) {
		got, format, err := Unpack(payload())
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.Equals(format, "elf"))
		qt.Assert(t, qt.DeepEquals(got, payload()))
	})
}

func TestDamagedImagesAreRefused(t *testing.T) {
	all := compressed(t)
	for format, b := range all {
		whole := sized(format, b, len(payload()))
		t.Run(format+" cut short", func(t *testing.T) {
			_, _, err := Unpack(bzImageOf(sized(format, b[:len(b)*2/3], len(payload()))))
			qt.Assert(t, qt.Equals(code.Of(err), code.Code("TS2103")), qt.Commentf("%v", err))
		})
		t.Run(format+" in a file cut short", func(t *testing.T) {
			img := bzImageOf(whole)
			_, _, err := Unpack(img[:len(img)-512-4])
			qt.Assert(t, qt.Equals(code.Of(err), code.Code("TS2103")), qt.Commentf("%v", err))
		})
		if format != "gzip" {
			t.Run(format+" of another size than the image says", func(t *testing.T) {
				for _, size := range []int{len(payload()) - 1, len(payload()) + 1, 0, 1<<32 - 1} {
					_, _, err := Unpack(bzImageOf(sized(format, b, size)))
					qt.Assert(t, qt.Equals(code.Of(err), code.Code("TS2103")), qt.Commentf("%d: %v", size, err))
				}
			})
		}
	}
	old := bzImageOf(all["gzip"])
	old[0x206] = 7
	none := bzImageOf(nil)
	far := bzImageOf(all["gzip"])
	binary.LittleEndian.PutUint32(far[0x248:], 0xffffffff)
	for name, tc := range map[string]struct {
		in   []byte
		want code.Code
	}{
		"nothing":                             {nil, "TS2101"},
		"text":                                {[]byte("Exact versions of kernels are in /boot\n"), "TS2101"},
		"a boot protocol before 2.08":         {old, "TS2103"},
		"an empty payload":                    {none, "TS2103"},
		"a payload behind the end":            {far, "TS2103"},
		"an LZO payload":                      {bzImageOf([]byte("\x89LZO\x00\r\n\x1a\n")), "TS2102"},
		"a payload of an unknown compression": {bzImageOf([]byte("what is this")), "TS2102"},
		"a payload that is no ELF file":       {bzImageOf(gz([]byte("no ELF"))), "TS2101"},
		"a payload shorter than its size":     {bzImageOf([]byte("BZh")), "TS2103"},
	} {
		t.Run(name, func(t *testing.T) {
			elf, format, err := Unpack(tc.in)
			qt.Assert(t, qt.Equals(code.Of(err), tc.want), qt.Commentf("%v", err))
			qt.Assert(t, qt.IsTrue(elf == nil && format == ""))
		})
	}
}

func gz(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b)
	w.Close()
	return out.Bytes()
}

func TestAStreamThatUnpacksToMoreThanTheLimitIsStopped(t *testing.T) {
	_, err := inflate("gzip", gz(make([]byte, 1<<20)), -1, 1<<10)
	qt.Assert(t, qt.ErrorIs(err, errTooLarge))
	_, err = inflate("gzip", gz(nil), 2<<10, 1<<10)
	qt.Assert(t, qt.ErrorIs(err, errTooLarge))
}

func TestModulesAreUnpackedInEachFormThatDistributionsShip(t *testing.T) {
	all := compressed(t)
	for _, format := range []string{"gzip", "xz", "zstd"} {
		got, err := UnpackModule(all[format])
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.DeepEquals(got, payload()))
	}
	signed := append(payload(), "~Module signature appended~\n"...)
	got, err := UnpackModule(signed)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.DeepEquals(got, signed))
	for name, in := range map[string][]byte{
		"empty": nil, "text": []byte("text"), "bzip2": all["bzip2"], "cut short": all["xz"][:100], "no ELF inside": gz([]byte("x")),
	} {
		_, err := UnpackModule(in)
		qt.Assert(t, qt.IsNotNil(err), qt.Commentf(name))
	}
}
