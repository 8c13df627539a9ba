// SPDX-License-Identifier: Apache-2.0

package code

// TS71xx trust: keys, TUF, provenance, envelopes; TS77xx publication.
func trust() []Entry {
	return []Entry{
		{"TS7101", KindError, "the index of a tier breaks a rule of its format", "publish again; if the server wrote this, report it"},
	}
}
