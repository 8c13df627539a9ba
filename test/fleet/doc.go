// SPDX-License-Identifier: Apache-2.0

// Package fleet holds the tests of the whole service: the programs as they are
// shipped, tsugi-server as a process of this host, tsugi in virtual machines
// with the unmodified kernels of demo/versions.env, and what has to hold when
// power, processes, servers, credentials and live patches fail.
//
// make test runs the story, the live patch that panics, fixed modules and one
// loss of power. make long loses power ten times at every step, holds up a
// transition, and kills agents and servers.
package fleet
