// SPDX-License-Identifier: Apache-2.0

package code

// selection are the problems of choosing fixes and building what was chosen.
func selection() []Entry {
	return []Entry{
		{
			"TS1301", KindError, "the policy is not usable",
			"Correct the place that is named; every exclusion needs a cve or a fix, a reason and an owner.",
		},
		{
			"TS1302", KindError, "no fix answers to the exclusion",
			"Look for the CVE or the fix's id with tsugictl fix ls; an exclusion that may come to mean something belongs into a policy.",
		},
		{
			"TS1303", KindError, "the fixes can't be live together, and none of them could be told to be the cause",
			"Leave out fixes with --exclude until it builds, and report the series: this is a gap in Tsugi.",
		},
		{
			"TS1304", KindRisk, "the live patch can't replace the one before it in one transition",
			"Revert the earlier live patch on the machine first, so that its callbacks undo what they did; then apply this one. What objects hold until they are gone, only a boot undoes.",
		},
		{
			"TS1305", KindError, "two fixes have the same id",
			"Give one of them another id, in its header or by the name of its file.",
		},
	}
}
