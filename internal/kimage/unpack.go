// SPDX-License-Identifier: Apache-2.0

package kimage

import (
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/therootcompany/xz"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/ulikunitz/xz/lzma"
)

const (
	// maxImage bounds an unpacked kernel. Debian's has 66 MB, one with
	// everything built in some 300 MB.
	maxImage = 1 << 30
	// maxModule bounds an unpacked module; the largest of Debian's has 9 MB,
	// with debug information some 100 MB.
	maxModule = 512 << 20
	// maxWindow bounds the dictionary that a compressed stream may ask for;
	// xz -9 needs 64 MiB, zstd -22 --ultra 128 MiB.
	maxWindow = 128 << 20
)

var (
	errTooLarge      = errors.New("unpacked size exceeds the limit")
	errUnknownFormat = errors.New("unknown compression")
)

// Unpack returns the vmlinux ELF file inside a kernel image and the name of
// its compression: gzip, xz, zstd, lz4, bzip2 or lzma for a bzImage or a
// compressed vmlinux, "elf" when the image is a vmlinux already (then the
// result aliases the argument).
func Unpack(vmlinuz []byte) (elf []byte, format string, err error) {
	if isELF(vmlinuz) {
		return vmlinuz, "elf", nil
	}
	payload, err := bzImagePayload(vmlinuz)
	if err != nil {
		return nil, "", code.New("TS2103", "vmlinuz", "").With(err)
	}
	bz := payload != nil
	if !bz {
		payload = vmlinuz
	}
	format = compression(payload)
	switch format {
	case "":
		if !bz {
			return nil, "", code.New("TS2101", "vmlinuz", "neither an ELF file nor an x86 bzImage")
		}
		return nil, "", code.New("TS2102", "vmlinuz", fmt.Sprintf("the payload begins with bytes % x", payload[:min(4, len(payload))]))
	case "lzo":
		return nil, "", code.New("TS2102", "vmlinuz", "the payload is compressed with LZO")
	}
	want := int64(-1)
	if bz && format != "gzip" {
		// Every compression but gzip, which ends with its size itself, is
		// followed by the unpacked size (cmd size_append).
		if len(payload) < 8 {
			return nil, "", code.New("TS2103", "vmlinuz", fmt.Sprintf("the payload has %d bytes", len(payload)))
		}
		want = int64(binary.LittleEndian.Uint32(payload[len(payload)-4:]))
		payload = payload[:len(payload)-4]
	}
	elf, err = inflate(format, payload, want, maxImage)
	if err != nil {
		return nil, "", code.New("TS2103", "vmlinuz", "").With(fmt.Errorf("%s payload: %w", format, err))
	}
	if !isELF(elf) {
		return nil, "", code.New("TS2101", "vmlinuz", fmt.Sprintf("its %s payload is not an ELF file", format))
	}
	return elf, format, nil
}

// UnpackModule returns the ELF bytes of a kernel module file: .ko, .ko.gz,
// .ko.xz or .ko.zst. An uncompressed module is returned as it is; a signature
// behind the ELF data stays.
func UnpackModule(ko []byte) ([]byte, error) {
	if isELF(ko) {
		return ko, nil
	}
	format := compression(ko)
	switch format {
	case "gzip", "xz", "zstd":
	default:
		return nil, fmt.Errorf("kernel module: neither an ELF file nor gzip, xz or zstd")
	}
	elf, err := inflate(format, ko, -1, maxModule)
	if err != nil {
		return nil, fmt.Errorf("kernel module: %s: %w", format, err)
	}
	if !isELF(elf) {
		return nil, fmt.Errorf("kernel module: the %s stream does not hold an ELF file", format)
	}
	return elf, nil
}

func isELF(b []byte) bool { return bytes.HasPrefix(b, []byte("\x7fELF")) }

// bzImagePayload cuts the compressed vmlinux out of an x86 bzImage; nil
// without an error when b is no bzImage. Field offsets are those of boot.rst.
func bzImagePayload(b []byte) ([]byte, error) {
	if len(b) < 0x250 || binary.LittleEndian.Uint16(b[0x1fe:]) != 0xaa55 || string(b[0x202:0x206]) != "HdrS" {
		return nil, nil
	}
	if v := binary.LittleEndian.Uint16(b[0x206:]); v < 0x208 {
		return nil, fmt.Errorf("boot protocol %d.%02d is older than 2.08, which has no payload fields", v>>8, v&0xff)
	}
	setupSects := uint64(b[0x1f1])
	if setupSects == 0 {
		setupSects = 4
	}
	start := (setupSects+1)*512 + uint64(binary.LittleEndian.Uint32(b[0x248:]))
	length := uint64(binary.LittleEndian.Uint32(b[0x24c:]))
	if length == 0 || start+length > uint64(len(b)) {
		return nil, fmt.Errorf("the payload should be bytes %d to %d, but the file ends at %d", start, start+length, len(b))
	}
	return b[start : start+length], nil
}

// compression names the format of b by its first bytes; "" when unknown.
func compression(b []byte) string {
	for _, m := range []struct{ magic, name string }{
		{"\x1f\x8b\x08", "gzip"},
		{"\xfd7zXZ\x00", "xz"},
		{"\x28\xb5\x2f\xfd", "zstd"},
		{"\x02\x21\x4c\x18", "lz4"}, // the legacy frame, which lz4 -l writes
		{"BZh", "bzip2"},
		{"\x5d\x00\x00", "lzma"},
		{"\x89LZO", "lzo"},
	} {
		if bytes.HasPrefix(b, []byte(m.magic)) {
			return m.name
		}
	}
	return ""
}

// inflate unpacks one stream whole. want is the unpacked size when it is
// known beforehand and -1 otherwise; a different size is an error.
func inflate(format string, b []byte, want, limit int64) ([]byte, error) {
	if want > limit {
		return nil, fmt.Errorf("%d bytes: %w of %d", want, errTooLarge, limit)
	}
	in := bytes.NewReader(b)
	var r io.Reader
	var err error
	switch format {
	case "gzip":
		var z *gzip.Reader
		if z, err = gzip.NewReader(in); err == nil {
			z.Multistream(false)
			r = z
		}
	case "xz":
		r, err = xz.NewReader(in, maxWindow)
	case "zstd":
		var z *zstd.Decoder
		z, err = zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err == nil {
			defer z.Close()
			r = z
		}
	case "lz4":
		r = lz4.NewReader(in)
	case "bzip2":
		r = bzip2.NewReader(in)
	case "lzma":
		r, err = lzma.ReaderConfig{DictCap: maxWindow}.NewReader(in)
	default:
		err = errUnknownFormat
	}
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	// The size comes from the image, so trust it only as far as compression
	// reaches in practice; a buffer that turns out too small grows.
	out.Grow(int(min(max(want, int64(len(b)))+bytes.MinRead, 16*int64(len(b))+bytes.MinRead)))
	n, err := out.ReadFrom(io.LimitReader(r, limit+1))
	switch {
	case err != nil:
		return nil, err
	case n > limit:
		return nil, fmt.Errorf("more than %d bytes: %w", limit, errTooLarge)
	case want >= 0 && n != want:
		return nil, fmt.Errorf("unpacked to %d bytes where the image says %d", n, want)
	}
	return out.Bytes(), nil
}
