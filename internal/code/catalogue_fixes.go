// SPDX-License-Identifier: Apache-2.0

package code

// fixes are the problems of the catalogue of fixes and its feeds.
func fixes() []Entry {
	return []Entry{
		{"TS1210", KindError, "the changelog cannot be read", "give a Debian changelog (deb-changelog(5)), as the linux-source package holds it"},
		{"TS1211", KindError, "the versions are not those of one update", "give two versions that the newer one's changelog lists, the older one first"},
	}
}
