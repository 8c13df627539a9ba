// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"bytes"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"pgregory.net/rapid"

	"github.com/tsugi-project/tsugi/internal/code"
)

func sampleIndex() *Index {
	offer := func(v int) Offer {
		return Offer{ID: PatchID("debian:6.1.0-55-amd64", v), Name: "tsugi_x", Version: v, Digest: strings.Repeat("ab", 32), Size: 9}
	}
	return &Index{
		Format: IndexFormat, Tier: "edge", Sequence: 4,
		Target:  IndexRef{Name: "debian:6.1.0-55-amd64", Release: "6.1.0-55-amd64", Arch: "x86_64", BuildID: strings.Repeat("ab", 20)},
		Patches: []Offer{offer(1), offer(3)}, Blocked: []BlockRef{{ID: "debian-6.1.0-55-amd64-v2", Version: 2, Reason: "x", Recall: true}},
		Revert: &Revert{To: 1, Below: 3, Reason: "y", By: "ann"},
	}
}

func TestAnIndexComesBackAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := sampleIndex()
		x.Sequence = rapid.Int64Range(1, 1<<62).Draw(t, "sequence")
		x.Blocked[0].Reason = rapid.StringN(1, 50, 200).Draw(t, "reason")
		b, err := x.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		y, err := ParseIndex(b)
		if err != nil {
			t.Fatal(err)
		}
		again, err := y.Bytes()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%v\n%s\n%s", err, b, again)
		}
	})
}

func TestIndexesThatBreakARuleAreRefused(t *testing.T) {
	for name, edit := range map[string]func(*Index){
		"a later format":        func(x *Index) { x.Format = 2 },
		"a tier as a path":      func(x *Index) { x.Tier = "../edge" },
		"a policy as a path":    func(x *Index) { x.Policy = "../web" },
		"the default by name":   func(x *Index) { x.Policy = DefaultPolicy },
		"number zero":           func(x *Index) { x.Sequence = 0 },
		"no kernel":             func(x *Index) { x.Target.BuildID = "" },
		"a build-id in capital": func(x *Index) { x.Target.BuildID = strings.Repeat("AB", 20) },
		"one version twice":     func(x *Index) { x.Patches[1].Version = 1 },
		"an id as a path":       func(x *Index) { x.Patches[0].ID = "../x" },
		"a long id":             func(x *Index) { x.Patches[0].ID = strings.Repeat("a", 161) },
		"no digest":             func(x *Index) { x.Patches[0].Digest = "" },
		"size zero":             func(x *Index) { x.Patches[0].Size = 0 },
		"a block for no reason": func(x *Index) { x.Blocked[0].Reason = "" },
		"a revert upwards":      func(x *Index) { x.Revert.To = 3 },
		"a revert for nothing":  func(x *Index) { x.Revert.Reason = "" },
	} {
		t.Run(name, func(t *testing.T) {
			x := sampleIndex()
			edit(x)
			_, err := x.Bytes()
			qt.Check(t, qt.Equals(code.Of(err), "TS7101"))
		})
	}
	b, err := sampleIndex().Bytes()
	qt.Assert(t, qt.IsNil(err))
	for _, bad := range []string{"", "null", "[]", string(b) + "{}", strings.Replace(string(b), `"tier"`, `"more":1,"tier"`, 1)} {
		_, err := ParseIndex([]byte(bad))
		qt.Check(t, qt.Equals(code.Of(err), "TS7101"), qt.Commentf("%q", bad))
	}
}

func FuzzParseIndex(f *testing.F) {
	b, err := sampleIndex().Bytes()
	qt.Assert(f, qt.IsNil(err))
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := ParseIndex(b)
		if (err == nil) != (x != nil) || err != nil && code.Of(err) != "TS7101" {
			t.Fatalf("%v, %v", x, err)
		}
		if x != nil {
			if _, err := x.Bytes(); err != nil {
				t.Fatal(err) // what is read can be written
			}
		}
	})
}

func FuzzReadBundle(f *testing.F) {
	f.Add([]byte("bundle.json"))
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := ReadBundle(b)
		if (err == nil) != (x != nil) || err != nil && code.Of(err) != "TS7132" {
			t.Fatalf("%v, %v", x, err)
		}
	})
}
