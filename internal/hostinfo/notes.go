// SPDX-License-Identifier: Apache-2.0

package hostinfo

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
)

// errNoBuildID: the notes are whole and hold none.
var errNoBuildID = errors.New("no GNU build-id among the notes")

// ParseBuildID finds the GNU build-id among ELF notes, as /sys/kernel/notes
// and /sys/module/NAME/notes hold them, and returns it in lower-case hex.
func ParseBuildID(notes []byte) (string, error) {
	const gnuBuildID = 3
	for b := notes; len(b) > 0; {
		if len(b) < 12 {
			return "", errors.New("a note is cut short")
		}
		nameLen := uint64(binary.LittleEndian.Uint32(b))
		descLen := uint64(binary.LittleEndian.Uint32(b[4:]))
		typ := binary.LittleEndian.Uint32(b[8:])
		b = b[12:]
		nameEnd := (nameLen + 3) &^ 3
		if nameEnd > uint64(len(b)) || descLen > uint64(len(b))-nameEnd {
			return "", errors.New("a note reaches behind the end")
		}
		desc := b[nameEnd : nameEnd+descLen]
		if typ == gnuBuildID && nameLen == 4 && string(b[:4]) == "GNU\x00" {
			if descLen == 0 || descLen > 64 {
				return "", errors.New("a build-id that is empty or longer than 64 bytes")
			}
			return hex.EncodeToString(desc), nil
		}
		b = b[min(nameEnd+(descLen+3)&^3, uint64(len(b))):]
	}
	return "", errNoBuildID
}

// kernelBuildID notes why there is none.
func (r *Reader) kernelBuildID() string {
	const path = "sys/kernel/notes"
	b, err := r.bytes(path, maxSmall)
	id := ""
	if err == nil {
		id, err = ParseBuildID(b)
	}
	if err != nil {
		r.note(path, err)
	}
	return id
}
