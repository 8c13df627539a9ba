// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bytes"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
)

func TestAnEntryIsTheFileOfItsKeyOrNothing(t *testing.T) {
	t.Parallel()
	key, data := strings.Repeat("0a", 32), bytes.Repeat([]byte("code"), 5000)
	entry, err := packEntry(key, data)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(len(entry) < len(data)))
	got, err := unpackEntry(key, entry)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(bytes.Equal(got, data)))

	_, err = unpackEntry(strings.Repeat("0b", 32), entry)
	qt.Check(t, qt.IsNotNil(err))
	for n := range entry {
		_, err := unpackEntry(key, entry[:n])
		qt.Assert(t, qt.IsNotNil(err), qt.Commentf("cut to %d bytes", n))
		flipped := bytes.Clone(entry)
		flipped[n] ^= 1
		if got, err := unpackEntry(key, flipped); err == nil { // a bit of the frame's header that says nothing
			qt.Assert(t, qt.IsTrue(bytes.Equal(got, data)), qt.Commentf("bit at %d", n))
		}
	}
}

func FuzzUnpackEntry(f *testing.F) {
	key := strings.Repeat("0a", 32)
	entry, err := packEntry(key, []byte("an object"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(entry)
	f.Add([]byte(entryMagic + " " + key + " \n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if data, err := unpackEntry(key, b); (data == nil) != (err != nil) && len(data) != 0 {
			t.Fatalf("%q and %v", data, err)
		}
	})
}
