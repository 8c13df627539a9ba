// SPDX-License-Identifier: Apache-2.0

package kimage

import (
	"bytes"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/google/go-cmp/cmp"
	"github.com/tsugi-project/tsugi/internal/code"
)

func TestKallsymsOfEachKernelsLayoutAreDecoded(t *testing.T) {
	for _, l := range layouts() {
		t.Run(l.name, func(t *testing.T) {
			got, err := open(t, image(l)).Kallsyms()
			qt.Assert(t, qt.IsNil(err))
			if diff := cmp.Diff(symbols(l), got); diff != "" {
				t.Fatal(diff)
			}
		})
	}
}

// The parts vouch for one another: tables with one byte changed are refused,
// or the change is inside one name, type or address and alters only that.
func TestChangedTablesAreRefusedOrDifferInOneSymbol(t *testing.T) {
	l := layouts()[3]
	good := image(l)
	want := symbols(l)
	start := bytes.Index(good, tablesOf(l, want))
	qt.Assert(t, qt.IsTrue(start > 0))
	refused := 0
	for i := start; i < start+len(tablesOf(l, want)); i += 37 {
		b := bytes.Clone(good)
		b[i] ^= 0x55
		got, err := open(t, b).Kallsyms()
		if err != nil {
			qt.Assert(t, qt.Equals(code.Of(err), code.Code("TS2104")))
			refused++
			continue
		}
		qt.Assert(t, qt.HasLen(got, len(want)))
		changed := map[string]bool{}
		for n := range got {
			if got[n].Addr != want[n].Addr {
				changed["addresses"] = true
			}
			if got[n].Name != want[n].Name || got[n].Type != want[n].Type {
				changed[want[n].Name] = true
			}
		}
		// A changed character of a token changes all that use it.
		inTokens := len(changed) > 2
		qt.Assert(t, qt.IsTrue(!inTokens || i > start+len(tablesOf(l, want))/3), qt.Commentf("byte %d changed %d names", i-start, len(changed)))
	}
	qt.Assert(t, qt.IsTrue(refused > 20), qt.Commentf("%d changes were refused", refused))
}

func TestTablesThatDoNotFitAreRefused(t *testing.T) {
	l := layouts()[3]
	syms := symbols(l)
	lower := bytes.Clone(tablesOf(l, syms))
	outside := symbols(l)
	for i := range outside {
		if outside[i].Addr >= textAddr {
			outside[i].Addr += 0x40000000 // behind the image
		}
	}
	unordered := symbols(l)
	unordered[300], unordered[301] = unordered[301], unordered[300]
	for name, b := range map[string][]byte{
		"too few symbols to be a kernel's": tablesOf(l, syms[:300]),
		"cut before the addresses":         lower[:len(lower)-6*len(syms)],
		"addresses outside the image":      tablesOf(l, outside),
		"addresses that do not ascend":     tablesOf(l, unordered),
		"only zeros":                       make([]byte, 1<<16),
	} {
		t.Run(name, func(t *testing.T) {
			budget := 1 << 24
			got, err := decodeTables(b, &budget)
			qt.Assert(t, qt.IsNotNil(err))
			qt.Assert(t, qt.IsNil(got))
		})
	}
}

func TestSearchEndsWhenItsBudgetDoes(t *testing.T) {
	l := layouts()[3]
	b := tablesOf(l, symbols(l))
	for budget := 1; budget < 20000; budget += 97 {
		left := budget
		if got, err := decodeTables(b, &left); err == nil {
			qt.Assert(t, qt.HasLen(got, len(symbols(l))))
			qt.Assert(t, qt.IsTrue(budget > 1000))
			return
		}
	}
	t.Fatal("tables of 900 symbols need more than 20,000 steps")
}

func decodeTables(b []byte, budget *int) ([]Symbol, error) {
	t := tables{b: b, kernel: func(a uint64) bool { return a >= textAddr && a <= bssAddr+0x1000 }, budget: budget}
	err := error(code.New("TS2104", "", ""))
	for t.findTokens() {
		var syms []Symbol
		if syms, err = t.decode(); err == nil {
			return syms, nil
		}
	}
	return nil, err
}
