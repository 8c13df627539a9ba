// SPDX-License-Identifier: Apache-2.0

package code

// TS74xx the store and its blobs.
func storage() []Entry {
	return []Entry{}
}
