// SPDX-License-Identifier: Apache-2.0

// Package kbuild compiles just the objects of a kernel target that a fix
// reaches, with the target's own commands.
//
// In goes a prepared [kernel.Target] and a [fix.Fix]. [Reach] tells which
// objects the fix touches, by Kbuild's own evaluation of its Makefiles for
// changed .c files and by the include graph for changed headers. [Compile]
// makes each of them three times: Plain as kbuild makes it, to prove that the
// source is the running code, and Orig and Patched with one section per
// symbol, for the differ. [Module] builds an external module.
//
// It refuses fixes that change how the kernel is built (Makefile, Kbuild),
// assembly, and code that is not part of the running kernel.
//
// Formats: Documentation/kbuild/makefiles.rst, and the .cmd files that
// scripts/Kbuild.include writes (if_changed, savedcmd).
package kbuild
