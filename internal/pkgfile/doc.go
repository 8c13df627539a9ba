// SPDX-License-Identifier: Apache-2.0

// Package pkgfile reads Debian binary packages: their control fields and the
// files in them, streamed, with nothing run and nothing installed. It also
// reads control text as apt prints it, compares package versions, and unpacks
// archives below one directory so that an interrupted run can go on.
//
// It refuses packages of other formats than 2.0, entries that would leave the
// directory they are unpacked in, and lengths that do not fit their file.
//
// Formats: deb(5), deb822(5), deb-version(7), ar(5), tar(5).
package pkgfile
