// SPDX-License-Identifier: Apache-2.0

// Package catalogue keeps what is known of fixes, in a directory that is fit
// for git: an operator's own fixes and those imported from a git tree, as
// series; corrections of how an update was taken apart; and CVE records out
// of feeds.
//
//	series/NAME/             a directory of fixes (package series)
//	updates/FROM_TO.yaml     corrections of one update
//	cves/YEAR.jsonl          what feeds tell of the CVEs of a year, a line each
//
// What an update is split into is computed from its two sources and the
// corrections, and kept in the store's home, not here.
package catalogue
