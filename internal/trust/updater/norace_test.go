// SPDX-License-Identifier: Apache-2.0

//go:build !race

package updater_test

// mutations of each file.
const mutations = 400
