// SPDX-License-Identifier: Apache-2.0

package updater

import (
	"bytes"
	"fmt"
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

func TestWhatOlderProgramsKeptIsRead(t *testing.T) {
	k := sampleKept()
	long, err := k.long()
	qt.Assert(t, qt.IsNil(err))
	short, err := k.bytes()
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(len(short) < len(long)))
	back, err := parseKept(long)
	qt.Assert(t, qt.IsNil(err))
	again, err := back.bytes()
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(bytes.Equal(again, short)))
}

func TestPackagesDoNotPushKernelsOut(t *testing.T) {
	k := sampleKept()
	state := func(id string) cachedState {
		return cachedState{topLevel: k.newest, role: []byte("r"), index: []byte(id), place: place{Tier: "edge", BuildID: id}}
	}
	order := func() (ids []string) {
		for _, c := range k.cached {
			ids = append(ids, c.BuildID)
		}
		return ids
	}
	for n := range 2 * maxPackages {
		k = k.with(state(fmt.Sprintf("%064x", n)))
	}
	qt.Check(t, qt.HasLen(k.cached, maxCached))
	qt.Check(t, qt.DeepEquals(order()[:5], []string{"ee", "dd", "cc", "bb", fmt.Sprintf("%064x", 2*maxPackages-1)}))
	was := order()
	k = k.with(state(fmt.Sprintf("%064x", maxPackages+3)))
	qt.Check(t, qt.DeepEquals(order(), was)) // it stays where it was
	k = k.with(state("cc"))
	qt.Check(t, qt.DeepEquals(order()[:4], []string{"cc", "ee", "dd", "bb"}))
}

func FuzzParseKept(f *testing.F) {
	b, err := sampleKept().bytes()
	qt.Assert(f, qt.IsNil(err))
	f.Add(b)
	b, err = sampleKept().long()
	qt.Assert(f, qt.IsNil(err))
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := parseKept(b)
		if (err == nil) != (k != nil) {
			t.Fatalf("%v, %v", k, err)
		}
	})
}
