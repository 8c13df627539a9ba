// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Mapping is one range of a process's memory that the kernel treats alike.
type Mapping struct {
	Start, End        uint64 // End is the first address behind it
	Read, Write, Exec bool
	Shared            bool
	Offset            uint64 // in the file
	Dev               uint64 // major<<32 | minor, of the file's system; 0 for none
	Inode             uint64 // 0 where no file lies behind it
	// Path is what the kernel says of the file, as seen from the process's own
	// root: for people, never to open. Or "[stack]", "[vdso]" and such.
	Path    string
	Deleted bool // the file has no name any more: removed, or another took its place
}

// File tells whether a file lies behind the mapping.
func (m Mapping) File() bool { return m.Inode != 0 || m.Dev != 0 }

// Contains tells whether an address lies in the mapping.
func (m Mapping) Contains(addr uint64) bool { return m.Start <= addr && addr < m.End }

const (
	// MaxMappings is how many mappings of one process are looked at: four times
	// the kernel's usual limit (vm.max_map_count).
	MaxMappings = 1 << 18
	// usualMappings is how many a small program has.
	usualMappings = 40
	// maxMapsLine is a path of PATH_MAX with each byte escaped, and the numbers.
	maxMapsLine = 4*4096 + 256
)

var errMaps = errors.New("unexpected form of /proc/PID/maps")

// parseMaps reads the text of /proc/PID/maps.
func parseMaps(r io.Reader) ([]Mapping, error) {
	all := make([]Mapping, 0, usualMappings)
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4<<10), maxMapsLine)
	last := "" // neighbours are mostly of one file: one string for them
	for lines.Scan() {
		if len(all) == MaxMappings {
			return nil, fmt.Errorf("more than %d mappings", MaxMappings)
		}
		m, path, ok := parseMapsLine(lines.Bytes())
		if !ok || m.End <= m.Start || len(all) > 0 && m.Start < all[len(all)-1].End {
			return nil, errMaps
		}
		if string(path) != last {
			last = string(path)
		}
		m.Path, m.Deleted = pathOf(last)
		all = append(all, m)
	}
	return all, lines.Err()
}

// parseMapsLine reads "start-end rwxp offset major:minor inode   path", all
// numbers but the inode in hexadecimal.
func parseMapsLine(b []byte) (m Mapping, path []byte, ok bool) {
	var major, minor uint64
	good := true
	hex := func(end byte) (n uint64) {
		i := 0
		for ; i < len(b) && b[i] != end; i++ {
			d := b[i]
			switch {
			case '0' <= d && d <= '9':
				d -= '0'
			case 'a' <= d && d <= 'f':
				d -= 'a' - 10
			default:
				good = false
				return 0
			}
			if n>>60 != 0 {
				good = false
			}
			n = n<<4 | uint64(d)
		}
		if i == 0 || i == len(b) {
			good = false
			return 0
		}
		b = b[i+1:]
		return n
	}
	m.Start = hex('-')
	m.End = hex(' ')
	if !good || len(b) < 5 || b[4] != ' ' {
		return m, nil, false
	}
	m.Read, m.Write, m.Exec, m.Shared = b[0] == 'r', b[1] == 'w', b[2] == 'x', b[3] == 's'
	b = b[5:]
	m.Offset = hex(' ')
	major = hex(':')
	minor = hex(' ')
	if !good || major >= 1<<32 || minor >= 1<<32 {
		return m, nil, false
	}
	m.Dev = major<<32 | minor
	i := 0
	for ; i < len(b) && '0' <= b[i] && b[i] <= '9'; i++ {
		if m.Inode > (1<<64-10)/10 {
			return m, nil, false
		}
		m.Inode = m.Inode*10 + uint64(b[i]-'0')
	}
	if i == 0 || i < len(b) && b[i] != ' ' {
		return m, nil, false
	}
	return m, bytes.TrimLeft(b[i:], " "), true
}

// pathOf takes the kernel's mark from the path of a file without a name. A
// file that is really called so is taken for one without a name.
func pathOf(path string) (string, bool) {
	return strings.CutSuffix(path, " (deleted)")
}

// Mappings tells what the process maps, in rising order. It is what was there
// while it was read: a running process may change it at any time.
func (p *Process) Mappings(ctx context.Context) ([]Mapping, error) {
	s, err := p.sight(ctx)
	if err != nil {
		return nil, err
	}
	all, err := within(ctx, p.id, p.uid, func() ([]Mapping, error) { return readMaps(s.maps) })
	return all, p.looked(err, len(all) == 0)
}

// looked judges a look at the memory: nothing seen means that the memory is
// gone, since a program's end or execve leaves none.
func (p *Process) looked(err error, nothing bool) error {
	switch {
	case err == nil && !nothing:
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return code.New("TS9601", p.id.String(), "its memory is gone")
	}
	if err = failed(p.id, err); code.Of(err) != "" || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return code.New("TS9604", p.id.String(), "").With(err)
}

// rereads is how often a list is read again that does not rise.
const rereads = 20

// readMaps reads the whole list through its own offset, so that several may
// read one descriptor at a time. The kernel gives it piece by piece: where a
// mapping has grown together with one that was told before, the next piece
// begins with both. Then it is read anew.
func readMaps(f io.ReaderAt) ([]Mapping, error) {
	for try := 0; ; try++ {
		all, err := parseMaps(io.NewSectionReader(f, 0, 1<<62))
		if !errors.Is(err, errMaps) || try == rereads {
			return all, err
		}
	}
}
