// SPDX-License-Identifier: Apache-2.0

package pkgfile

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

var stamp = time.Unix(1763000000, 0)

// entry is one entry of a test archive; a name that ends with / is a directory.
type entry struct {
	name, body string
	link       string // target of a symbolic link
	hard       string // target of a hard link
	mode       int64
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: max(e.mode, 0o644), Size: int64(len(e.body)), ModTime: stamp, Typeflag: tar.TypeReg}
		switch {
		case strings.HasSuffix(e.name, "/"):
			h.Typeflag = tar.TypeDir
		case e.link != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, e.link
		case e.hard != "":
			h.Typeflag, h.Linkname = tar.TypeLink, e.hard
		}
		qt.Assert(t, qt.IsNil(w.WriteHeader(h)))
		_, err := w.Write([]byte(e.body))
		qt.Assert(t, qt.IsNil(err))
	}
	qt.Assert(t, qt.IsNil(w.Close()))
	return b.Bytes()
}

// pack compresses b; there is no bzip2 compressor in Go.
func pack(t testing.TB, format string, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch format {
	case "none":
		return b
	case "gzip":
		w = gzip.NewWriter(&out)
	case "xz":
		w, err = xz.NewWriter(&out)
	case "zstd":
		w, err = zstd.NewWriter(&out)
	default:
		err = errors.New(format)
	}
	qt.Assert(t, qt.IsNil(err))
	_, err = w.Write(b)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(w.Close()))
	return out.Bytes()
}

// arMember is the pair of an ar member's name and content.
type arMember struct {
	name string
	body []byte
}

func arOf(members ...arMember) []byte {
	b := []byte("!<arch>\n")
	for _, m := range members {
		b = fmt.Appendf(b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", m.name, stamp.Unix(), 0, 0, "100644", len(m.body))
		b = append(b, m.body...)
		if len(b)%2 == 1 {
			b = append(b, '\n')
		}
	}
	return b
}

const controlText = `Package: linux-image-6.1.0-55-amd64
Version: 6.1.192-1
Architecture: amd64
Depends: kmod, linux-base (>= 4.3~)
Description: Linux 6.1 for 64-bit PCs (signed)
 The Linux kernel 6.1 and modules.
 .
 This kernel is signed.
`

func debOf(t testing.TB, format string, files ...entry) []byte {
	t.Helper()
	suffix := map[string]string{"none": "", "gzip": ".gz", "xz": ".xz", "zstd": ".zst"}[format]
	return arOf(
		arMember{"debian-binary", []byte("2.0\n")},
		arMember{"control.tar" + suffix, pack(t, format, tarOf(t, entry{name: "./"}, entry{name: "./md5sums", body: "x"}, entry{name: "./control", body: controlText}))},
		arMember{"data.tar" + suffix, pack(t, format, tarOf(t, files...))},
	)
}

func openDeb(t testing.TB, b []byte) *Deb {
	t.Helper()
	d, err := OpenDeb(bytes.NewReader(b), int64(len(b)))
	qt.Assert(t, qt.IsNil(err))
	return d
}
