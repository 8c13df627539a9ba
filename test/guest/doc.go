// SPDX-License-Identifier: Apache-2.0

// Package guest holds no code, only tests: a distribution's own kernels are
// booted, and in them programs run and are patched as they are on a machine of
// that distribution: with io_uring, with what security modules and filters
// forbid, in namespaces, as they start. What can't be patched there is said to
// be so, and why; nothing is waited for without an end, and no program comes to
// harm.
//
// What runs in the guest is package inside; the programs are in testdata and in
// test/scenarios/testdata. One machine with one kernel is the default;
// TSUGI_TEST_LONG=1 (make long) boots the other kernel too, and one for each
// parameter that holds from boot to boot.
package guest
