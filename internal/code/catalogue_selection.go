// SPDX-License-Identifier: Apache-2.0

package code

// selection are the problems of choosing fixes and building what was chosen.
func selection() []Entry {
	return []Entry{}
}
