// SPDX-License-Identifier: Apache-2.0

package pkgfile

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Deb is an open Debian binary package.
type Deb struct {
	control, data *io.SectionReader
}

// OpenDeb reads the outline of a .deb of size bytes. It reads files through r
// later too, so r stays open.
func OpenDeb(r io.ReaderAt, size int64) (*Deb, error) {
	members, err := readAr(r, size)
	if errors.Is(err, errNotAr) {
		return nil, code.New("TS2201", "", "it is not an ar archive")
	}
	if err != nil {
		return nil, code.New("TS2202", "", "").With(err)
	}
	if len(members) == 0 || members[0].name != "debian-binary" {
		return nil, code.New("TS2201", "", "it is an ar archive whose first member is not debian-binary")
	}
	version := make([]byte, min(members[0].size, 16))
	if err := readAt(r, version, members[0].off); err != nil {
		return nil, code.New("TS2202", "debian-binary", "").With(err)
	}
	if !strings.HasPrefix(string(version), "2.") {
		return nil, code.New("TS2201", "", fmt.Sprintf("its format version is %q", strings.TrimSpace(string(version))))
	}
	d := &Deb{}
	for _, m := range members[1:] {
		sr := io.NewSectionReader(r, m.off, m.size)
		switch name, _, _ := strings.Cut(m.name, "."); {
		case name == "control" && d.control == nil && strings.HasPrefix(m.name, "control.tar"):
			d.control = sr
		case name == "data" && d.data == nil && strings.HasPrefix(m.name, "data.tar"):
			d.data = sr
		}
	}
	if d.control == nil || d.data == nil {
		return nil, code.New("TS2202", "", "it lacks its control.tar or its data.tar")
	}
	return d, nil
}

// Control returns the package's control fields.
func (d *Deb) Control() (Paragraph, error) {
	if _, err := d.control.Seek(0, io.SeekStart); err != nil {
		return Paragraph{}, err
	}
	t, err := OpenTar(d.control, nil)
	if err != nil {
		return Paragraph{}, err
	}
	defer t.Close()
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return Paragraph{}, code.New("TS2202", "control.tar", "it has no file named control")
		}
		if err != nil {
			return Paragraph{}, err
		}
		if path.Clean(h.Name) != "control" {
			continue
		}
		p, err := NewControlReader(io.LimitReader(t, maxParagraph)).Next()
		if errors.Is(err, io.EOF) {
			return Paragraph{}, code.New("TS2202", "control.tar", "its control file is empty")
		}
		return p, err
	}
}

// Data returns the package's files as a stream; names begin with "./". dec nil
// means Decompress. The caller closes it before asking for another.
func (d *Deb) Data(dec Decompressor) (*Tar, error) {
	if _, err := d.data.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return OpenTar(d.data, dec)
}
