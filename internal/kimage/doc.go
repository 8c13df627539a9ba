// SPDX-License-Identifier: Apache-2.0

// Package kimage reads a Linux kernel image: bytes of a vmlinuz go in; its
// vmlinux, build-id, banner, sections, BTF, embedded configuration and the
// names that its kallsyms tables hold come out. It needs no debug package and
// no symbol table, because distributions ship neither in the kernel package.
//
// It refuses what it cannot prove: an image that is not a 64-bit little-endian
// kernel, a payload that is truncated, and kallsyms tables whose parts do not
// fit one another. All addresses are link-time addresses, before KASLR.
//
// Formats: Documentation/arch/x86/boot.rst (payload_offset, payload_length),
// scripts/Makefile.lib (the size that follows a compressed payload),
// scripts/kallsyms.c (tables), kernel/configs.c (IKCFG_ST), tools/objtool
// (.ibt_endbr_seal).
package kimage
