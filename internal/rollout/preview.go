// SPDX-License-Identifier: Apache-2.0

package rollout

import "time"

// Places is how many of n machines a wave and those before it have together.
func (p *Plan) Places(wave, n int) int { return places(p, wave, n) }

// Bars counts the machines in scope by what keeps them from being offered the
// live patch now; BarNone is nothing.
func Bars(s *State, f *Facts, now time.Time) map[Bar]int {
	all := map[Bar]int{}
	for i := range f.Machines {
		all[bar(s, f, &f.Machines[i], now)]++
	}
	return all
}
