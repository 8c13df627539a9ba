// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/splice"
)

// frames puts the Parts' .eh_frame sections behind each other, and one end.
// The offsets in them count within themselves.
func (p *packer) frames() {
	var start uint64
	any := false
	for i := range p.in.Parts {
		part := &p.in.Parts[i]
		for _, s := range part.Extract.File.Sections {
			if s.Name != ".eh_frame" || s.Size() == 0 {
				continue
			}
			data, personality, err := records(s)
			if err != nil {
				p.refuse("TS3507", part.Source+": .eh_frame", "%v", err)
				continue
			}
			p.out.Register = p.out.Register || personality
			if !any {
				start = appendAligned(&p.out.ROData, nil, 8, 0)
				any = true
			}
			p.where[s] = place{splice.InROData, uint64(len(p.out.ROData))}
			p.out.ROData = append(p.out.ROData, data...)
		}
	}
	if any {
		p.out.ROData = append(p.out.ROData, 0, 0, 0, 0)
		p.out.Unwind = splice.Range{Start: start, Size: uint64(len(p.out.ROData)) - start}
	}
	if !any && p.out.Register {
		p.refuse("TS3507", p.in.Name, "exceptions may pass through the code, but it has no .eh_frame")
	}
}

// records returns a section's CIEs and FDEs without the end, and whether one
// of them names a personality routine.
func records(s *elfobj.Section) (data []byte, personality bool, err error) {
	for data = s.Data; ; {
		off := len(s.Data) - len(data)
		switch {
		case len(data) == 0 || len(data) >= 4 && len(bytes.Trim(data, "\x00")) == 0:
			return s.Data[:off], personality, nil
		case len(data) < 8:
			return nil, false, errors.New("it ends within a record")
		}
		n := uint64(binary.LittleEndian.Uint32(data))
		if n < 4 || n%4 != 0 || n > uint64(len(data)-4) {
			return nil, false, fmt.Errorf("the record at %#x has a length of %#x", off, n)
		}
		record := data[4 : 4+n]
		if id := binary.LittleEndian.Uint32(record); id != 0 && uint64(id) > uint64(off)+4 {
			return nil, false, fmt.Errorf("the record at %#x belongs to none", off)
		} else if id == 0 && len(record) > 6 { // a CIE: id, version, augmentation
			augmentation, _, _ := bytes.Cut(record[5:], []byte{0})
			personality = personality || bytes.ContainsRune(augmentation, 'P')
		}
		data = data[4+n:]
	}
}
