// SPDX-License-Identifier: Apache-2.0

package update

import (
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/series"
)

// TestWhatNoEntryTellsOf: of three atoms of a file, entries tell of some. The
// want is the atoms' groups, named by their first ones.
func TestWhatNoEntryTellsOf(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		said  [3]sure
		words [3][]string
		want  [3]int
	}{
		{name: "nothing told", want: [3]int{0, 0, 0}},
		{name: "nothing evident", said: [3]sure{perhaps, perhaps, perhaps}, want: [3]int{0, 0, 0}},
		{name: "one evident", said: [3]sure{evidently, nothing, nothing}, want: [3]int{0, 0, 0}},
		{name: "each evident", said: [3]sure{evidently, evidently, evidently}, want: [3]int{0, 1, 2}},
		{name: "one side evident", said: [3]sure{evidently, perhaps, perhaps}, want: [3]int{0, 1, 1}},
		{name: "untold and unlike", said: [3]sure{evidently, evidently, nothing}, want: [3]int{0, 0, 0}},
		{
			name: "untold, with a rare name in common", said: [3]sure{evidently, evidently, nothing},
			words: [3][]string{nil, {"gc_thread"}, {"gc_thread"}}, want: [3]int{0, 1, 1},
		},
		{
			name: "untold, with a name in common that many have", said: [3]sure{evidently, evidently, nothing},
			words: [3][]string{nil, {"inode"}, {"inode"}}, want: [3]int{0, 0, 0},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := &file{path: "a.c"}
			s := &splitter{files: make([]*file, 1000), rare: map[string]int{"inode": 400}}
			said := make(map[*part]sure)
			for i, ws := range test.words {
				p := &part{file: f, edits: []int{i}, atom: &cluster{whole: make(map[string]int)}, added: make(map[string]bool)}
				p.parent = p
				for _, w := range ws {
					p.atom.whole[w], p.added[w] = 1, true
				}
				s.parts = append(s.parts, p)
				said[p] = test.said[i]
			}
			s.weighSet(s.parts, said)
			for i, p := range s.parts {
				qt.Check(t, qt.Equals(p.root(), s.parts[test.want[i]]), qt.Commentf("atom %d", i))
			}
		})
	}
}

// TestWhatStandsAroundCounts: a subject is not of one function alone when what
// it says stands around what another one changes. Two commits changed
// btqcomsmd_remove(), and one of them btqcomsmd_probe() as well.
func TestWhatStandsAroundCounts(t *testing.T) {
	t.Parallel()
	f := &file{path: "drivers/bluetooth/btqcomsmd.c"}
	subject := parseSubject("Bluetooth: btqcomsmd: destroy RPMsg endpoints before freeing hci_dev")
	for _, test := range []struct {
		near  []string
		alone bool
	}{
		{nil, true},
		{[]string{"hci", "free", "dev"}, true},
		{[]string{"rpmsg", "destroy", "ept"}, false},
	} {
		near := make(map[string]bool)
		for _, w := range test.near {
			near[w] = true
		}
		v := voice{
			attributor: &attributor{idf: map[string]float64{"rpmsg": 6, "destroy": 5, "hci": 3, "dev": 2}},
			around:     []map[*file]map[string]bool{{f: {}}, {f: near}},
			of:         map[*file][]int{f: {0, 1}},
		}
		ms := []match{{group: 0, score: 20, bare: 9}, {group: 1, score: 13, bare: 2}}
		qt.Check(t, qt.Equals(v.alone(subject, ms[0], ms), test.alone), qt.Commentf("%v", test.near))
	}
}

// TestTwinsShare: a group that no entry tells of gets those of its twin, when
// the subject says something of it; one that has its own does not.
func TestTwinsShare(t *testing.T) {
	t.Parallel()
	a := &attributor{twins: map[int]map[int]string{0: {1: "net/ipv4/ipmr.c", 2: "net/ipv4/ipmr.c", 3: "net/ipv4/ipmr.c"}}}
	given := []series.Entry{{Subject: "s", CVEs: []string{"CVE-2026-1234"}, Confidence: series.Likely}, {Subject: "other", Confidence: series.Certain}}
	found := map[int][]series.Entry{0: {given[0]}, 2: {given[1]}}
	all := [][]match{{{group: 0, bare: 9}, {group: 1, bare: 4}, {group: 2, bare: 4}, {group: 3, bare: 1}}, {{group: 2, bare: 9}}}
	a.shareWithTwins(found, map[int][]int{0: {0}, 2: {1}}, all, given)
	qt.Check(t, qt.DeepEquals(found, map[int][]series.Entry{
		0: {given[0]},
		1: {{Subject: "s", CVEs: given[0].CVEs, Confidence: series.Possible, Why: "it is the same edit as in net/ipv4/ipmr.c"}},
		2: {given[1]},
	}))
}
