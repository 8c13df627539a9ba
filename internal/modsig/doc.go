// SPDX-License-Identifier: Apache-2.0

// Package modsig makes and checks the signatures that Linux expects behind a
// kernel module: module bytes, a key and its certificate go in; the module
// with a detached CMS message and a trailer behind it comes out, the same
// bytes that scripts/sign-file writes. It refuses algorithms that the kernel
// does not take, and messages with certificates or attributes, which kernels
// and distributions do not put there.
//
// Formats: kernel/module/signing.c and include/linux/module_signature.h (the
// trailer), RFC 5652 (CMS), crypto/asymmetric_keys/pkcs7_parser.c (what the
// kernel accepts of it).
package modsig
