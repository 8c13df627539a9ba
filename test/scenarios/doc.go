// SPDX-License-Identifier: Apache-2.0

// Package scenarios holds no code, only tests: small programs in C, C++ and
// assembly, each with what is hard about patching a process that runs. Every
// one is built in several versions (LEVEL 0 is the original), started, asked
// for what its functions return, patched, asked again, and taken back.
//
// testdata/control.c is the main program of all: its first comment lists what a
// test can ask it to do.
package scenarios
