// SPDX-License-Identifier: Apache-2.0

package code

// notifications are the problems of declaring a fleet and of telling people.
func notifications() []Entry {
	return []Entry{
		{"TS8301", KindError, "the fleet file can't be read", "correct the line that is named; docs/fleet-file.md describes the file"},
		{"TS8302", KindError, "the fleet file holds what can't be", "correct what is named; docs/fleet-file.md describes the file"},
		{"TS8303", KindError, "the fleet file names what nobody has", "add it to the file, or correct the name"},
		{"TS8304", KindError, "the server can't become what the fleet file says", "change the file, or do what stands in the way first"},
	}
}
