// SPDX-License-Identifier: Apache-2.0

package code

// fixes are the problems of the catalogue of fixes and its feeds.
func fixes() []Entry {
	return []Entry{
		{"TS1201", KindError, "the description of a fix cannot be read", "write it as docs/catalogue.md shows: YAML with the fields named there"},
		{"TS1202", KindError, "the description of a fix holds a value that cannot be", "correct the value; docs/catalogue.md tells what each field may hold"},
		{"TS1203", KindError, "two fixes have the same id", "give one of them another id, or another file name"},
		{"TS1204", KindError, "a directory of fixes contradicts itself", "make series.yaml name every fix once, and each fix come after those that it requires"},
		{"TS1210", KindError, "the changelog cannot be read", "give a Debian changelog (deb-changelog(5)), as the linux-source package holds it"},
		{"TS1211", KindError, "the versions are not those of one update", "give two versions that the newer one's changelog lists, the older one first"},
	}
}
