// SPDX-License-Identifier: Apache-2.0

package updater

import (
	"bytes"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
)

func sampleKept() *kept {
	top := topLevel{[]byte("t"), []byte("s"), []byte("g")}
	k := &kept{newest: top, Floors: map[string]floor{"edge/aa.json": {3, []string{"k"}}}, Refreshed: time.Unix(1, 0).UTC()}
	for i, id := range []string{"aa", "bb", "cc", "dd", "ee"} {
		k = k.with(cachedState{topLevel: top, role: []byte("r"), index: bytes.Repeat([]byte("i"), i), place: place{Tier: "edge", BuildID: id}, Refreshed: time.Unix(2, 0).UTC()})
	}
	return k
}

func TestWhatIsKeptComesBack(t *testing.T) {
	k := sampleKept()
	qt.Check(t, qt.HasLen(k.cached, maxKernels)) // the oldest went
	_, ok := k.find(place{Tier: "edge", BuildID: "aa"})
	qt.Check(t, qt.IsFalse(ok))
	b, err := k.bytes()
	qt.Assert(t, qt.IsNil(err))
	back, err := parseKept(b)
	qt.Assert(t, qt.IsNil(err))
	again, err := back.bytes()
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(bytes.Equal(again, b)))
	qt.Check(t, qt.Equals(back.Floors["edge/aa.json"].Sequence, 3))
	for n := range b {
		if _, err := parseKept(b[:n]); err == nil {
			t.Fatalf("the first %d bytes were read", n)
		}
	}
}

func FuzzParseKept(f *testing.F) {
	b, err := sampleKept().bytes()
	qt.Assert(f, qt.IsNil(err))
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := parseKept(b)
		if (err == nil) != (k != nil) {
			t.Fatalf("%v, %v", k, err)
		}
	})
}
