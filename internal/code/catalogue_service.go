// SPDX-License-Identifier: Apache-2.0

package code

// TS75xx jobs and workers; TS78xx setting up and running a server.
func service() []Entry {
	return []Entry{}
}
