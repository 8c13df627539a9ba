// SPDX-License-Identifier: Apache-2.0

package code

// TS71xx trust: keys, TUF, provenance, envelopes; TS77xx publication.
func trust() []Entry {
	return []Entry{}
}
