// SPDX-License-Identifier: Apache-2.0

package code

// processes are the problems of patching processes that run.
func processes() []Entry {
	return []Entry{
		// TS9601-9609: finding and reading
		// TS9610-9619: stopping and injecting
		// TS9620-9629: stacks
		// TS9630-9649: applying, reverting, healing
		// TS9650-9659: new processes
		// TS9660-9669: the command line
	}
}
