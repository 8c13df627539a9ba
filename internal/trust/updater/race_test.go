// SPDX-License-Identifier: Apache-2.0

//go:build race

package updater_test

// mutations of each file: the race detector makes each ten times as slow, and
// finds what it finds with few.
const mutations = 50
