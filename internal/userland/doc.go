// SPDX-License-Identifier: Apache-2.0

// Package userland keeps targets that are packages: libraries and programs
// that can be patched in the processes that run them.
//
// In goes the name of a target, "debian:libssl3=3.0.20-1~deb12u2": one exact
// binary package of the configured apt sources. Out comes a Target: the ELF
// files as the package ships them, with their build-ids; the source package
// configured and, where that is not too much, compiled again in a root of its
// own, where the distribution's build path and build dependencies are; and
// the command that made each object.
//
// A rebuilt file with the build-id of the shipped one is proof that the source
// and the commands are those of the shipped bytes: then its symbols are true of
// the shipped file, though that is stripped. Without this proof, symbols come
// from what the distribution ships beside the file (Symbols tells), and each
// function that is to be replaced has to be compared byte by byte.
//
// Nothing is installed on this machine. Packages of the build root are
// unpacked, and none of their scripts is run. What a build runs, it runs
// without network, as nobody where this process is root, in namespaces of its
// own.
//
// Formats: Debian Policy 5.4 (.dsc), 7.1 (relations), deb-src-control(5),
// deb822 sources of sources.list(5), the gABI's notes and symbol tables.
package userland
