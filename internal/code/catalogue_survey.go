// SPDX-License-Identifier: Apache-2.0

package code

// survey are the problems of surveys.
func survey() []Entry {
	return []Entry{}
}
