// SPDX-License-Identifier: Apache-2.0

// Package update takes a distribution's update apart: the difference of two
// source versions into fixes that each stand alone, and the changelog between
// them into entries that are attributed to those fixes. It is pure.
//
// # Splitting
//
// The difference of each file is cut into edits, the runs of lines that
// change. Edits are joined to parts that must go together, and parts of all
// files to groups, by the names that they introduce, remove or redefine and
// that other edits use. What can't be told apart stays together: a group that
// is too large costs choice, one that is too small does not compile or, worse,
// is half a fix.
//
// # Attribution
//
// A changelog entry is the subject of a commit: "subsystem: driver: what it
// does with function()". Words of the subject are looked for in the paths,
// functions and changed lines of the groups; rare words tell most. How sure
// the outcome is, is part of it; an entry that fits nowhere stays without one.
package update

// Version is raised when the outcome of Split or Series changes for the same
// input, so that what is kept of an earlier one is computed again.
const Version = 17

// PackageVersion is the same for updates of packages.
const PackageVersion = 19
