// SPDX-License-Identifier: Apache-2.0

package pkgfile

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"
)

// Decompressor opens a stream of a format that Format names. A caller that may
// run programs can give one that uses all processors (xz -T0 reads the blocks
// of a large stream in parallel: 3.4 s instead of 12 s for a kernel source on
// two); Decompress is the one without.
type Decompressor func(format string, r io.Reader) (io.ReadCloser, error)

// maxWindow bounds the dictionary that a stream may ask for: what xz -9 and
// zstd --ultra -22 need.
const maxWindow = 128 << 20

// ErrFormat is the error for a compression that is not known.
var ErrFormat = errors.New("unknown compression")

// Format names the compression of a stream by its first six bytes or more:
// "xz", "zstd", "gzip", "bzip2", or "none".
func Format(head []byte) string {
	switch {
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		return "xz"
	case bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")):
		return "zstd"
	case bytes.HasPrefix(head, []byte("\x1f\x8b\x08")):
		return "gzip"
	case bytes.HasPrefix(head, []byte("BZh")):
		return "bzip2"
	}
	return "none"
}

// Decompress is the Decompressor in pure Go.
func Decompress(format string, r io.Reader) (io.ReadCloser, error) {
	switch format {
	case "none":
		return io.NopCloser(r), nil
	case "xz":
		z, err := xz.NewReader(r, maxWindow)
		return io.NopCloser(z), err
	case "zstd":
		z, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	case "gzip":
		return gzip.NewReader(r)
	case "bzip2":
		return io.NopCloser(bzip2.NewReader(r)), nil
	}
	return nil, fmt.Errorf("%q: %w", format, ErrFormat)
}

// open sniffs the format of r and opens it.
func open(r io.Reader, dec Decompressor) (io.ReadCloser, error) {
	if dec == nil {
		dec = Decompress
	}
	br := bufio.NewReaderSize(r, 256<<10)
	head, err := br.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	format := Format(head)
	z, err := dec(format, br)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", format, err)
	}
	return z, nil
}
