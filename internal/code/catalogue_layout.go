// SPDX-License-Identifier: Apache-2.0

package code

// layouts are about types that a fix changes.
func layouts() []Entry {
	return []Entry{
		{
			"TS4031", KindRefusal, "the numbers of an enumeration change their meaning",
			"Objects that exist hold the old numbers: give the new enumerator a number that none had, at the end.",
		},
		{
			"TS8030", KindRisk, "a lock that the fix removes from a struct is kept, and set up as before",
			"New code does not take it: until the transition is over, old code that holds it and new code can run at the same time; see that they can.",
		},
		{
			"TS8031", KindRisk, "a pointer that the fix removes from a struct is kept",
			"New code neither sets nor frees what it leads to: objects that old code has set up leave that memory behind, once each.",
		},
		{
			"TS8032", KindRisk, "a struct gets a lock where padding was",
			"Its objects are all zeroed when they are made, which is an unlocked lock; old code, which runs until the transition is over, does not take it.",
		},
		{
			"TS8033", KindRisk, "a struct grows into memory that belongs to its objects",
			"What lies behind objects that exist is zero, and nobody else's: the allocator rounds sizes up, and a netlink dump has 48 bytes for what it keeps. See that new code stands zeros in the new members.",
		},
	}
}
