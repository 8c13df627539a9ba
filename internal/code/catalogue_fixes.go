// SPDX-License-Identifier: Apache-2.0

package code

// fixes are the problems of the catalogue of fixes and its feeds.
func fixes() []Entry {
	return []Entry{
		{"TS1201", KindError, "the description of a fix cannot be read", "write it as docs/catalogue.md shows: YAML with the fields named there"},
		{"TS1202", KindError, "the description of a fix holds a value that cannot be", "correct the value; docs/catalogue.md tells what each field may hold"},
		{"TS1203", KindError, "two fixes have the same id", "give one of them another id, or another file name"},
		{"TS1204", KindError, "a directory of fixes contradicts itself", "make series.yaml name every fix once, and each fix come after those that it requires"},
		{"TS1205", KindError, "there is no such fix", "list what there is with tsugictl fix ls"},
		{"TS1206", KindError, "there is no such series", "list what there is with tsugictl fix ls, or name a directory of fixes"},
		{"TS1208", KindError, "the git tree cannot be read", "name a clone of the kernel's tree, and commits or a range that it has"},
		{"TS1209", KindError, "the feed cannot be read", "name a file, a directory, a zip archive or an http(s) address of CVE records, OSV records or the KEV catalogue"},
		{"TS1210", KindError, "the changelog cannot be read", "give a Debian changelog (deb-changelog(5)), as the linux-source package holds it"},
		{"TS1211", KindError, "the versions are not those of one update", "give two versions that the newer one's changelog lists, the older one first"},
		{"TS1212", KindError, "a correction names what is not there", "list the ids with tsugictl fix ls, and correct or remove the correction"},
		{"TS1213", KindError, "a record of a vulnerability cannot be read", "get the record again; CVE JSON 5, OSV and CISA's KEV catalogue are read"},
		{"TS1214", KindError, "a distribution's patches cannot be read", "take the fixes out of the source package by hand, and give build their directory"},
	}
}
