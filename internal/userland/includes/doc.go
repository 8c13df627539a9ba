// SPDX-License-Identifier: Apache-2.0

// Package includes tells which files the compilations of a target can read.
//
// It reads the #include lines of the sources and of the headers of the build
// root once per target and follows them along the directories that each command
// names. Conditions are not looked at, and a name stands for every file that it
// finds in any of the directories, so what comes out is too much and never too
// little; the compiler says of the few that are left what they read. Only the
// sources that a command hands to the compiler begin a walk, so the tests, tools
// and other systems' headers of a source package cost nothing.
//
// A compilation that can't be followed is Unknown: it may read everything. That
// is so where a directive names a macro, and for arguments that this package
// does not know.
package includes
