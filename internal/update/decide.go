// SPDX-License-Identifier: Apache-2.0

package update

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/series"
)

// Thresholds of confidence, from reading samples of attributions against the
// fixes (docs/catalogue.md tells how often each was right).
const (
	byFar   = 1.35 // a likely fix scores so many times the next one
	atLeast = 8    // and so much itself
	fits    = 5    // less than this is no match
	nearly  = 0.92 // of two groups so close, the one that nothing explains is taken
)

// attributeAll finds the groups of all entries. Those that are evident come
// first; an entry that fits several groups alike then goes to one that no
// entry explains yet, for each group was made by some commit.
func (a *attributor) attributeAll(entries []Item) (found map[int][]series.Entry, left []series.Entry) {
	found = make(map[int][]series.Entry)
	explained := make(map[int]bool)
	type open struct {
		n  int // of the entry
		ms []match
	}
	var unsure []open
	chosen := make([]int, len(entries))
	given := make([]series.Entry, len(entries))
	all := make([][]match, len(entries))
	for n, it := range entries {
		chosen[n] = -1
		given[n] = series.Entry{Subject: it.Subject, CVEs: it.CVEs}
		ms := a.attribute(it)
		all[n] = ms
		switch e, ok := evident(ms); {
		case len(ms) == 0 || otherArch(it) || ms[0].score < fits || ms[0].prefix == 0 && len(ms[0].names) == 0:
		case ok:
			given[n].Confidence, given[n].Why = e.Confidence, e.Why
			chosen[n] = ms[0].group
			explained[ms[0].group] = true
		default:
			unsure = append(unsure, open{n, ms})
		}
	}
	slices.SortStableFunc(unsure, func(x, y open) int { return cmp.Compare(margin(y.ms), margin(x.ms)) })
	for _, o := range unsure {
		pick := 0
		for i, m := range o.ms {
			if m.score < nearly*o.ms[0].score || len(m.names) < len(o.ms[0].names) {
				break
			}
			if !explained[m.group] && m.prefix >= 0.9*o.ms[0].prefix {
				pick = i
				break
			}
		}
		m := o.ms[pick]
		explained[m.group] = true
		chosen[o.n] = m.group
		given[o.n].Confidence = series.Possible
		given[o.n].Why = fmt.Sprintf("it fits (%.0f), and others do (%.0f)", m.score, o.ms[min(1-min(pick, 1), len(o.ms)-1)].score)
	}
	gave := make(map[int][]int) // entries by group
	for g, n := range a.companions(all, chosen, explained) {
		e := given[n]
		e.Confidence = series.Possible
		e.Why = "no other entry fits better; the entry's main fix is another one"
		found[g] = append(found[g], e)
		gave[g] = append(gave[g], n)
	}
	for n, e := range given {
		switch {
		case chosen[n] >= 0:
			found[chosen[n]] = append(found[chosen[n]], e)
			gave[chosen[n]] = append(gave[chosen[n]], n)
		case otherArch(entries[n]):
			e.Confidence, e.Why = series.Possible, "it is of another architecture"
			left = append(left, e)
		default:
			e.Confidence, e.Why = series.Possible, "no fix of the update fits"
			left = append(left, e)
		}
	}
	a.shareWithTwins(found, gave, all, given)
	return found, left
}

// shareWithTwins gives the entries of a group to one that makes the same edit
// in another file, where no entry tells of that and the subject may.
func (a *attributor) shareWithTwins(found map[int][]series.Entry, gave map[int][]int, all [][]match, given []series.Entry) {
	for _, g := range slices.Sorted(maps.Keys(gave)) {
		for _, t := range slices.Sorted(maps.Keys(a.twins[g])) {
			if len(gave[t]) > 0 {
				continue
			}
			for _, n := range gave[g] {
				if slices.ContainsFunc(all[n], func(m match) bool { return m.group == t && m.bare >= sayAtAll }) {
					e := given[n]
					e.Confidence, e.Why = series.Possible, "it is the same edit as in "+a.twins[g][t]
					found[t] = append(found[t], e)
				}
			}
		}
	}
}

// companions finds entries, by number, for groups that none explains: a commit
// may change files that no name connects. An entry that fits such a group
// nearly as well as its own is taken, the best of them.
func (a *attributor) companions(all [][]match, chosen []int, explained map[int]bool) map[int]int {
	best := make(map[int]float64)
	out := make(map[int]int)
	for n, ms := range all {
		if chosen[n] < 0 {
			continue
		}
		for _, m := range ms {
			if m.score < 0.85*ms[0].score {
				break
			}
			if !explained[m.group] && m.base && m.prefix >= 0.9*ms[0].prefix && m.score > best[m.group] {
				best[m.group], out[m.group] = m.score, n
			}
		}
	}
	return out
}

// evident tells how sure the best match is, if it is.
func evident(ms []match) (series.Entry, bool) {
	if len(ms) == 0 {
		return series.Entry{}, false
	}
	best := ms[0]
	switch {
	case best.alone && margin(ms) > 1.2:
		return series.Entry{Confidence: series.Certain, Why: "only this fix changes " + strings.Join(best.names, ", ")}, true
	case margin(ms) > byFar && best.score > atLeast && best.prefix > 0.5:
		return series.Entry{Confidence: series.Likely, Why: fmt.Sprintf("it fits best by far (%.0f, the next %.0f)", best.score, best.score/margin(ms))}, true
	}
	return series.Entry{}, false
}

func margin(ms []match) float64 {
	if len(ms) < 2 || ms[1].score <= 0 {
		return 99
	}
	return ms[0].score / ms[1].score
}

// otherArch tells whether an entry's prefix names another architecture.
func otherArch(it Item) bool {
	return slices.ContainsFunc(parseSubject(it.Subject).prefix, foreign)
}
