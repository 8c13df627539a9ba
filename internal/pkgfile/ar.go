// SPDX-License-Identifier: Apache-2.0

package pkgfile

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// member is one file of an ar archive.
type member struct {
	name      string
	off, size int64
}

const (
	arMagic  = "!<arch>\n"
	arHeader = 60 // name 16, mtime 12, uid 6, gid 6, mode 8, size 10, "`\n"
	// maxMembers is far above the three or four that a .deb has.
	maxMembers = 64
)

var errNotAr = errors.New("not an ar archive")

// readAr lists the members of an ar archive of the plain form that .deb uses:
// names of up to 16 characters in the header itself.
func readAr(r io.ReaderAt, size int64) ([]member, error) {
	magic := make([]byte, len(arMagic))
	if err := readAt(r, magic, 0); err != nil || string(magic) != arMagic {
		return nil, errNotAr
	}
	var out []member
	head := make([]byte, arHeader)
	for off := int64(len(arMagic)); off < size; {
		if len(out) == maxMembers {
			return nil, fmt.Errorf("ar: more than %d members", maxMembers)
		}
		if err := readAt(r, head, off); err != nil {
			return nil, fmt.Errorf("ar: member header at %d: %w", off, err)
		}
		if string(head[58:60]) != "`\n" {
			return nil, fmt.Errorf("ar: member header at %d does not end as one", off)
		}
		n, err := strconv.ParseUint(strings.TrimRight(string(head[48:58]), " "), 10, 63)
		if err != nil {
			return nil, fmt.Errorf("ar: member at %d: size: %w", off, err)
		}
		m := member{
			name: strings.TrimSuffix(strings.TrimRight(string(head[:16]), " "), "/"),
			off:  off + arHeader,
			size: int64(n),
		}
		if m.size > size-m.off {
			return nil, fmt.Errorf("ar: member %q should have %d bytes, but the file ends after %d: %w", m.name, m.size, size-m.off, io.ErrUnexpectedEOF)
		}
		out = append(out, m)
		off = m.off + m.size + m.size&1 // members begin at even offsets
	}
	return out, nil
}

// readAt fills b or fails.
func readAt(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}
