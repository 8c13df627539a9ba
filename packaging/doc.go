// SPDX-License-Identifier: Apache-2.0

// Package packaging holds the deb and rpm packages of all programs: build.sh
// makes them with nfpm (make packages), and the tests here read what came out
// with dpkg, rpm and systemd's own tools.
package packaging
