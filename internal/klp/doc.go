// SPDX-License-Identifier: Apache-2.0

// Package klp makes a kernel live patch module out of what the differ found.
//
// In go a target (its kernel image, modules, exports and build directory) and,
// for each changed object, kbuild's own compile of the original source and the
// [objdiff.Extract] of the change. Out comes a .ko file that the unmodified
// kernel loads, and a report of what it replaces and where.
//
// On the way it proves that the source is the running code: the bytes of every
// function to be replaced are compared with those of the kernel image or the
// shipped module (verify.go). Names alone prove nothing, because a kernel has
// thousands of static functions that share theirs; addresses are found by
// anchors (locate.go), and the position that the kernel's livepatch core wants
// for an ambiguous name follows from the address (owner.go).
//
// It refuses, with a code of TS51xx to TS53xx, whatever it cannot place with
// certainty, and every finished module is read again by a checker that shares
// no state with the writer (check.go).
//
// Formats: Documentation/livepatch/{livepatch,module-elf-format}.rst,
// kernel/livepatch/core.c (symbol positions), kernel/module/kallsyms.c (what
// counts as a core symbol), arch/x86/kernel/module.c (relocations).
package klp
