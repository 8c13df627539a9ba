// SPDX-License-Identifier: Apache-2.0

package code

// userland are the problems of making live patches of libraries and programs.
func userland() []Entry {
	return []Entry{
		// TS3501-3509: the payload, and placing it in the ELF file
		// TS3510-3529: objects, differences and verdicts
		// TS3530-3549: targets, sources, building them again
	}
}
