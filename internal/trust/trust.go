// SPDX-License-Identifier: Apache-2.0

// Package trust is what makes a machine believe a live patch, and nobody else
// read it: keys and their files, the signed index of a tier, envelopes that
// encrypt a payload once and wrap its key per machine, and provenance. Package
// repo writes the TUF repository, package updater reads it on a machine.
package trust
