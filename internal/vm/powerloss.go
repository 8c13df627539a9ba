// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
)

// The log of QEMU's blklogwrites driver, which has the format of the kernel's
// own dm-log-writes (Documentation/admin-guide/device-mapper/log-writes.rst):
// a header in the first sector, then for each request a sector that describes
// it and the sectors that it wrote. The header counts the requests up to the
// last flush.
const (
	logSector  = 512
	logMagic   = 0x6a736677736872
	logVersion = 1

	logFlush   = 1 << 0
	logDiscard = 1 << 2
)

// logEntry is one request of a log.
type logEntry struct {
	sector, sectors, flags uint64
	data                   int64 // where in the log it begins
}

// replay writes to disk what a drive with a write cache holds when its power
// goes: all requests up to the last flush, and of those behind it none, or
// with dice other than 0 each with a chance of a half.
func replay(log io.ReaderAt, disk *os.File, dice uint64) error {
	fi, err := disk.Stat()
	if err != nil {
		return err
	}
	kept, lost, err := readLog(log, uint64(fi.Size())/logSector)
	if err != nil {
		return err
	}
	if dice != 0 {
		r := rand.New(rand.NewPCG(dice, 0))
		for _, e := range lost {
			if r.IntN(2) == 0 {
				kept = append(kept, e)
			}
		}
	}
	for _, e := range kept {
		from := io.NewSectionReader(log, e.data, int64(e.sectors)*logSector)
		if _, err := io.Copy(io.NewOffsetWriter(disk, int64(e.sector)*logSector), from); err != nil {
			return err
		}
	}
	return nil
}

// readLog returns the writes that the last flush made safe, and those after
// it. The very last of these may be torn, because QEMU was killed while it
// wrote it, and is left out.
func readLog(log io.ReaderAt, diskSectors uint64) (safe, unsafe []logEntry, err error) {
	var head [28]byte
	if _, err := log.ReadAt(head[:], 0); errors.Is(err, io.EOF) {
		return nil, nil, nil // killed before it was written
	} else if err != nil {
		return nil, nil, err
	}
	le := binary.LittleEndian
	if le.Uint64(head[:]) == 0 {
		return nil, nil, nil
	}
	if le.Uint64(head[:]) != logMagic || le.Uint64(head[8:]) != logVersion || le.Uint32(head[24:]) != logSector {
		return nil, nil, errors.New("log of writes: not one that this program knows")
	}
	count := le.Uint64(head[16:])
	at := int64(logSector)
	for n := uint64(0); ; n++ {
		var b [32]byte
		_, err := log.ReadAt(b[:], at)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, nil, err
		}
		e := logEntry{sector: le.Uint64(b[:]), sectors: le.Uint64(b[8:]), flags: le.Uint64(b[16:]), data: at + logSector}
		outside := e.sector > diskSectors || e.sectors > diskSectors-e.sector
		end := err != nil || e.sectors == 0 && e.flags == 0
		if n < count && (end || outside) {
			return nil, nil, fmt.Errorf("log of writes: request %d of %d is missing or outside the disk", n, count)
		}
		if end || outside {
			return safe, unsafe[:max(0, len(unsafe)-1)], nil
		}
		at = e.data
		if e.flags&logDiscard != 0 {
			continue // no data follows; what it frees keeps its contents here
		}
		at += int64(e.sectors) * logSector
		switch {
		case e.sectors == 0:
		case n < count:
			safe = append(safe, e)
		default:
			unsafe = append(unsafe, e)
		}
	}
}
