// SPDX-License-Identifier: Apache-2.0

package code

// survey are the problems of surveys: TS14xx.
func survey() []Entry {
	return []Entry{
		{"TS1401", KindError, "the update does not begin where the target's source stands", "survey from the target's own source version, as target show has it"},
		{"TS1402", KindError, "the engine stopped over this fix", "report it with the fix: whatever the fix is, that is a defect of Tsugi"},
		{"TS1403", KindError, "no verdict could be found for this fix", "look at the reason; if the fix is well made, that is a defect of Tsugi"},
		{"TS1404", KindError, "the verdicts of earlier surveys cannot be read", "make the directory readable, or remove it: verdicts are found again"},
		{"TS1405", KindError, "this is not the report of a survey", "give the file that tsugictl survey --json-file wrote"},
	}
}
