// SPDX-License-Identifier: Apache-2.0

// Package fix reads, applies and derives source fixes: unified diffs with
// what they fix. It is pure: it touches no disk but through the fs.FS and
// read functions it is given.
//
// In goes the text of a diff in git or quilt style with one leading path
// component (patch -p1), out come the new contents of the files it names.
// Paths that leave the tree, binary patches and hunks that fit nowhere are
// refused, naming file, hunk and line.
//
// Formats: "git diff --patch" (git-diff(1)), the unified format of GNU
// diffutils, and the search rules of GNU patch(1): offset, then fuzz.
package fix
