// SPDX-License-Identifier: Apache-2.0

// Package packages holds no code, only tests of live patches for packages as
// Debian ships them: real CVE fixes become live patches, these go into
// processes that run with the stock library or program, and programs that show
// each vulnerability are asked before, after, and when it is out again.
//
// make userland runs them, as root. The first run prepares the targets, which
// downloads 600 MiB of packages and sources, takes 7 GiB of the store and half
// an hour on two processors; each later run takes some minutes. Without it they
// skip, but for the small ones. What they start they end, and they touch no
// process that they did not start.
package packages
