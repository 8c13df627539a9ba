// SPDX-License-Identifier: Apache-2.0

package code

// fixes are the problems of the catalogue of fixes and its feeds.
func fixes() []Entry {
	return []Entry{}
}
