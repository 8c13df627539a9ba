// SPDX-License-Identifier: Apache-2.0

package code

// TS92xx what keeps a machine from taking a live patch; TS93xx loading and reverting.
func host() []Entry {
	return []Entry{}
}
