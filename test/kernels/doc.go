// SPDX-License-Identifier: Apache-2.0

// Package kernels holds no code, only the tests of the whole chain on the real
// kernels of demo/versions.env: from source changes to verdicts, live patches
// and proofs in virtual machines.
//
// No kernel source is kept here. Fixes are derived at run time from two source
// packages, edits are made at run time in the target's own source: a place is
// found by a few words of it, and a test whose words are gone says so.
//
// Tests that boot machines, interrupt builds or fill disks run one after the
// other; tests that only build run in parallel after them.
package kernels
