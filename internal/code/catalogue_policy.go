// SPDX-License-Identifier: Apache-2.0

package code

// policies are the problems of policies on the server.
func policies() []Entry {
	return []Entry{}
}
