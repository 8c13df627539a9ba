// SPDX-License-Identifier: Apache-2.0

package code

// userland are the problems of making live patches of libraries and programs.
func userland() []Entry {
	return []Entry{
		// TS3501-3509: the payload, and placing it in the ELF file
		{"TS3501", KindError, "the payload for processes is malformed", "get the live patch again, or build it again with this version of Tsugi"},
		{"TS3502", KindError, "the payload can't be put where it was to go", "report this with the process's /proc/PID/maps"},
		{"TS3503", KindRefusal, "the code refers to something in a way that a payload can't carry", "write the change without it, or restart the processes with the fixed package"},
		{"TS3504", KindRefusal, "a symbol that the change needs is not in the target", "define it in the fix, or write the fix without it"},
		{"TS3505", KindRefusal, "the change needs thread-local storage that the target has no entry for", "write the fix without this variable, or restart the processes with the fixed package"},
		{"TS3506", KindRefusal, "the function has no room for a jump", "change its callers instead, or restart the processes with the fixed package"},
		{"TS3507", KindError, "what is to be packed contradicts the ELF file", "report this: the place of a function or of data is not what its bytes say"},
		// TS3510-3529: objects, differences and verdicts
		// TS3530-3549: targets, sources, building them again
	}
}
