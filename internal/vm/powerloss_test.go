// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
)

// request is an entry of a log as QEMU writes it.
func request(sector, sectors, flags uint64, fill byte) []byte {
	b := make([]byte, logSector)
	binary.LittleEndian.PutUint64(b, sector)
	binary.LittleEndian.PutUint64(b[8:], sectors)
	binary.LittleEndian.PutUint64(b[16:], flags)
	if flags&logDiscard != 0 {
		return b
	}
	return append(b, bytes.Repeat([]byte{fill}, int(sectors)*logSector)...)
}

func logOf(count uint64, requests ...[]byte) []byte {
	b := make([]byte, logSector)
	binary.LittleEndian.PutUint64(b, logMagic)
	binary.LittleEndian.PutUint64(b[8:], logVersion)
	binary.LittleEndian.PutUint64(b[16:], count)
	binary.LittleEndian.PutUint32(b[24:], logSector)
	return append(b, bytes.Join(requests, nil)...)
}

func TestWhatADriveHoldsAfterPowerLoss(t *testing.T) {
	flushed := [][]byte{request(0, 1, 0, 'a'), request(1, 2, 0, 'b'), request(0, 0, logFlush, 0)}
	cached := [][]byte{request(0, 1, 0, 'A'), request(3, 1, logDiscard, 0), request(2, 2, 0, 'C'), request(5, 1, 0, 'D')}
	all := append(append([][]byte{}, flushed...), cached...)
	for _, c := range []struct {
		name string
		log  []byte
		dice uint64
		want []string
	}{
		{"no flush at all", logOf(0, all...), 0, []string{"......"}},
		{"killed before the first request", nil, 0, []string{"......"}},
		{"up to the flush", logOf(3, all...), 0, []string{"abb..."}},
		{"with dice, any of the rest but the last, which may be torn", logOf(3, all...), 1, []string{"abb...", "Abb...", "abCC..", "AbCC.."}},
		{"a request that was being written", logOf(3, append(flushed, request(4, 2, 0, 'x')[:700])...), 3, []string{"abb..."}},
	} {
		t.Run(c.name, func(t *testing.T) {
			seen := map[string]bool{}
			for dice := c.dice; dice < c.dice*40+1; dice++ {
				f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
				qt.Assert(t, qt.IsNil(err))
				defer f.Close()
				qt.Assert(t, qt.IsNil(f.Truncate(6*logSector)))
				qt.Assert(t, qt.IsNil(replay(bytes.NewReader(c.log), f, dice)))
				var got strings.Builder
				b, err := os.ReadFile(f.Name())
				qt.Assert(t, qt.IsNil(err))
				for i := 0; i < len(b); i += logSector {
					if b[i] == 0 {
						b[i] = '.'
					}
					got.WriteByte(b[i])
				}
				qt.Assert(t, qt.SliceContains(c.want, got.String()))
				seen[got.String()] = true
			}
			qt.Check(t, qt.HasLen(seen, len(c.want)))
		})
	}
}

func TestALogThatLacksWhatItCounts(t *testing.T) {
	for _, b := range [][]byte{
		logOf(2, request(0, 1, 0, 'a')),
		logOf(1, request(60, 8, 0, 'a')),
		bytes.Repeat([]byte{1}, 4096),
	} {
		_, _, err := readLog(bytes.NewReader(b), 64)
		qt.Check(t, qt.ErrorMatches(err, "log of writes: .*"))
	}
}

func FuzzReadLog(f *testing.F) {
	f.Add(logOf(2, request(0, 1, 0, 'a'), request(0, 0, logFlush, 0), request(3, 1, logDiscard, 0), request(2, 2, 0, 'C')))
	f.Fuzz(func(t *testing.T, b []byte) {
		const sectors = 64
		safe, unsafe, err := readLog(bytes.NewReader(b), sectors)
		if err != nil && (safe != nil || unsafe != nil) {
			t.Fatal("an error and a result")
		}
		for _, e := range append(safe, unsafe...) {
			if e.sector+e.sectors > sectors || e.data < 2*logSector {
				t.Fatalf("%+v", e)
			}
		}
	})
}
